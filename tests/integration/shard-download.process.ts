import { downloadModel } from '../../src/shard/download.ts'
import { createWebFolderSource } from '../../src/shard/http-source.ts'
import { parseRecipe } from '../../src/shard/recipe.ts'

// A download in a process of its own, to be killed: url, folder, recipe, bytes of a chunk.
const [url = '', folder = '', recipe = '', chunkBytes = ''] = process.argv.slice(2)
await downloadModel(
  {
    source: createWebFolderSource({ base: url }),
    folder,
    recipe: parseRecipe(recipe),
    span: { start: 0, end: 12 },
    ends: true,
  },
  { freeBytes: async () => 1e12, chunkBytes: Number(chunkBytes) },
)

import { defineConfig } from 'vitest/config'

/** What takes too long for `npm test`: many runs of the same properties, chaos for minutes, large swarms. */
export default defineConfig({
  test: {
    include: ['tests/long/**/*.test.ts'],
    pool: 'forks',
    globalSetup: 'tests/helpers/own-temp.ts',
    fileParallelism: false,
    passWithNoTests: true,
    testTimeout: 3_600_000,
    hookTimeout: 120_000,
  },
})

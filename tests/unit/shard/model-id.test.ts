import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { compareBytes, computeLayerDigest, computeModelId } from '../../../src/shard/model-id.ts'
import { layerSources } from '../../../src/shard/survey.ts'
import { demoFiles, demoFolder, loadModel } from '../../helpers/golden.ts'
import vector from '../../vectors/model-id.json' with { type: 'json' }

const whole = (name: string) => ({ name, bytes: readFileSync(`${demoFolder}/${name}`) })
const headers = demoFiles.map((name) => {
  const { bytes } = whole(name)
  return { name, bytes: bytes.subarray(0, 8 + Number(bytes.readBigUInt64LE())) }
})
const index = whole('model.safetensors.index.json')

test('the model id of the demo model is the recorded one, in whatever order its files are given', () => {
  expect(computeModelId(whole('config.json'), index, headers)).toBe(vector.modelId)
  expect(computeModelId(whole('config.json'), index, headers.toReversed())).toBe(vector.modelId)
  expect(computeModelId(whole('config.json'), null, headers)).not.toBe(vector.modelId)
})

test('layer digests are the recorded ones, in whatever order and pieces the tensors are given', () => {
  const demo = loadModel(demoFolder, demoFiles)
  const digests = demo.spec.layers.map((layer) =>
    computeLayerDigest(
      layerSources(layer)
        .toReversed()
        .map(({ name }) => {
          const { bytes } = demo.tensor(name)
          return { name, pieces: [bytes.subarray(0, 77), bytes.subarray(77)] }
        }),
    ),
  )
  expect(digests).toEqual(vector.layerDigests)
})

test('names are ordered by their bytes', () => {
  const names = ['b', '\u{10000}', '\uffff', 'a', 'ab', '']
  expect(names.sort(compareBytes)).toEqual(['', 'a', 'ab', 'b', '\uffff', '\u{10000}'])
})

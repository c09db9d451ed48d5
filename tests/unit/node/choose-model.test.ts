import { expect, test } from 'vitest'
import { chooseModel } from '../../../src/node/askables.ts'
import type { AskableModel } from '../../../src/pipeline/ask.ts'

const model = (name: string, recipe: string) => ({ name, recipe }) as AskableModel
const [sparse, whole, other] = [model('demo', 'i8/1'), model('demo', 'q4/1'), model('other', 'q4/1')]
const held = (chosen: AskableModel) => chosen !== sparse

test('of one model in several recipes, the one that somebody can compute', () => {
  expect(chooseModel([sparse, whole, other], 'demo', held)).toBe(whole)
  expect(chooseModel([sparse, whole, other], undefined, held)).toBe(whole)
})

test('never another model than the one that is meant; its gap is then said', () => {
  expect(chooseModel([sparse, other], undefined, held)).toBe(sparse)
  expect(chooseModel([sparse, other], 'demo', held)).toBe(sparse)
})

test('a name that is not here, and a node that cannot ask', () => {
  expect(() => chooseModel([sparse], 'else')).toThrow('does not know the model "else"')
  expect(() => chooseModel([], undefined)).toThrow('does not hold the ends')
})

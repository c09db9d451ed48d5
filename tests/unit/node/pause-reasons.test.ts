import { describe, expect, test } from 'vitest'
import { parseConfig } from '../../../src/base/config.ts'
import { type Circumstances, createOthersLoad, isWithin, pauseReason } from '../../../src/node/pause-reasons.ts'

const noon = new Date(2026, 0, 5, 12, 0)
const calm: Circumstances = { asked: false, now: noon, battery: null, othersLoad: 0, pausedByLoad: false }
const care = (settings: object) => parseConfig({ care: settings }).care

describe('a node serves nobody', () => {
  test('never by itself, with the settings as they come', () => {
    expect(pauseReason(care({}), { ...calm, othersLoad: 1 })).toBeNull()
  })

  test('when its owner says so, before anything else', () => {
    expect(pauseReason(care({ hours: '01:00-02:00' }), { ...calm, asked: true })?.kind).toBe('asked')
  })

  test('outside its hours', () => {
    expect(pauseReason(care({ hours: '22:00-07:00' }), calm)).toMatchObject({ kind: 'hours' })
    expect(pauseReason(care({ hours: '11:30-12:01' }), calm)).toBeNull()
  })

  test('on its battery, unless that is allowed', () => {
    const battery = { percent: 80, discharging: true }
    expect(pauseReason(care({}), { ...calm, battery })?.kind).toBe('battery')
    expect(pauseReason(care({}), { ...calm, battery: { ...battery, discharging: false } })).toBeNull()
    expect(pauseReason(care({ pauseOnBattery: false }), { ...calm, battery })).toBeNull()
  })

  test('while others need the processor, and does not come and go', () => {
    const idle = care({ onlyWhenIdle: true })
    expect(pauseReason(idle, { ...calm, othersLoad: 0.6 })?.kind).toBe('load')
    expect(pauseReason(idle, { ...calm, othersLoad: 0.4 })).toBeNull()
    expect(pauseReason(idle, { ...calm, othersLoad: 0.4, pausedByLoad: true })?.kind).toBe('load')
    expect(pauseReason(idle, { ...calm, othersLoad: 0.3, pausedByLoad: true })).toBeNull()
  })
})

test('hours may go over midnight; their end is not included', () => {
  const at = (hour: number, minute: number) => new Date(2026, 0, 5, hour, minute)
  expect(isWithin('22:00-07:00', at(23, 0))).toBe(true)
  expect(isWithin('22:00-07:00', at(6, 59))).toBe(true)
  expect(isWithin('22:00-07:00', at(7, 0))).toBe(false)
  expect(isWithin('09:00-17:00', at(8, 59))).toBe(false)
  expect(isWithin('09:00-17:00', at(9, 0))).toBe(true)
  expect(isWithin('00:00-00:00', at(3, 0))).toBe(true)
})

test('the load of others is a share, and one’s own work is no part of it', () => {
  const load = createOthersLoad()
  const untilMs = performance.now() + 60
  while (performance.now() < untilMs);
  const share = load()
  expect(share).toBeGreaterThanOrEqual(0)
  expect(share).toBeLessThanOrEqual(1)
})

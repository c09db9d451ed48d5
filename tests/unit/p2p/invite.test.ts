import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createSecret } from '../../../src/base/secret.ts'
import { decodeAddress } from '../../../src/p2p/address.ts'
import { encodeInvite, type Invite, parseInvite } from '../../../src/p2p/invite.ts'
import { isPetname } from '../../../src/p2p/petname.ts'
import vectors from '../../vectors/llm-address.json' with { type: 'json' }

const peerId = '12D3KooWGzBzzJbnqKKqbsVhVkbFRqr9QxgJnT6yFqxmVHoWTFXz'
const addr = `/ip4/192.168.1.7/tcp/5561/p2p/${peerId}`
const addressKey = decodeAddress(JSON.stringify(vectors).match(/[a-z2-7]{56}\.llm/)?.[0] ?? '')
const full: Invite = {
  network: 'home-of.anna',
  preSharedKey: createSecret(new Uint8Array(32).fill(7)),
  bootstrap: [addr, `/dns4/meet.example/tcp/5561/p2p/${peerId}`],
  model: 'Qwen/Qwen3-0.6B',
  from: { petname: 'Anna B', addressKey },
  minVersion: '0.2.10',
}

/** The line with the body changed by `change` and a right checksum. */
function forge(line: string, change: (body: Buffer) => Buffer): string {
  const body = change(Buffer.from(line.slice('llm-invite:'.length), 'base64url').subarray(0, -4))
  const check = createHash('sha256').update('llm invite v1').update(body).digest().subarray(0, 4)
  return `llm-invite:${Buffer.concat([body, check]).toString('base64url')}`
}

describe('invites', () => {
  it('carry everything, on one line', () => {
    const line = encodeInvite(full)
    expect(line).toMatch(/^llm-invite:[\w-]+$/)
    const read = parseInvite(`  ${line}\n`)
    expect(read).toMatchObject({ network: full.network, bootstrap: full.bootstrap, model: full.model })
    expect(read.from).toEqual(full.from)
    expect(read.minVersion).toBe('0.2.10')
    expect(read.preSharedKey?.reveal()).toEqual(full.preSharedKey?.reveal())
  })

  it('need nothing but a network', () => {
    const read = parseInvite(encodeInvite({ network: 'llm-node', bootstrap: [] }))
    expect(read).toEqual({
      network: 'llm-node',
      preSharedKey: undefined,
      bootstrap: [],
      model: undefined,
      from: undefined,
      minVersion: undefined,
    })
  })

  it('never show their key by accident', () => {
    expect(JSON.stringify(parseInvite(encodeInvite(full)))).not.toContain('7,7,7')
  })

  it('are refused after any change of a character, and say why', () => {
    const line = encodeInvite(full)
    for (let i = 0; i < line.length; i++) {
      const other = line[i] === 'A' ? 'B' : 'A'
      expect(() => parseInvite(line.slice(0, i) + other + line.slice(i + 1))).toThrow(/The invite/)
    }
    expect(() => parseInvite(line.slice(0, -3))).toThrow(/invite/)
    expect(() => parseInvite(`${line} ${line}`)).toThrow(/characters that no invite/)
    expect(() => parseInvite(`llm-invite:${'A'.repeat(100_000)}`)).toThrow(/too long/)
    expect(() => parseInvite('')).toThrow(/does not begin/)
  })

  it('are refused with a right checksum over wrong contents', () => {
    const line = encodeInvite({ ...full, preSharedKey: undefined })
    const at = (index: number, value: number) => (body: Buffer) => {
      body[index] = value
      return body
    }
    expect(() => parseInvite(forge(line, at(0, 2)))).toThrow(/version 2/)
    expect(() => parseInvite(forge(line, at(1, 8)))).toThrow(/does not know/)
    expect(() => parseInvite(forge(line, at(3, 0x41)))).toThrow(/no valid network/)
    expect(() => parseInvite(forge(line, at(3 + full.network.length, 9)))).toThrow(/9 addresses/)
    expect(() => parseInvite(forge(line, (body) => body.subarray(0, -1)))).toThrow(/malformed/)
    expect(() => parseInvite(forge(line, (body) => Buffer.concat([body, Buffer.of(0)])))).toThrow(/malformed/)
  })

  it('name their bootstrap nodes with a PeerId, and at most eight', () => {
    expect(() => encodeInvite({ ...full, bootstrap: ['/ip4/192.168.1.7/tcp/5561'] })).toThrow(/without a PeerId/)
    expect(() => encodeInvite({ ...full, bootstrap: Array(9).fill(addr) })).toThrow(/at most 8/)
  })

  it('show no invisible characters', () => {
    expect(() => encodeInvite({ ...full, model: 'a\u001b[2Jb' })).toThrow(/invisible/)
    expect(() => encodeInvite({ ...full, model: 'a\u202eb' })).toThrow(/invisible/)
  })

  it('never make the reader do anything but throw its own error', () => {
    const line = encodeInvite(full)
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), fc.nat({ max: 80 }), (noise, offset) => {
        const forged = forge(line, (body) => Buffer.concat([body.subarray(0, offset), noise]))
        try {
          parseInvite(forged)
        } catch (error) {
          expect(error).toMatchObject({ code: 'BAD_INPUT' })
        }
      }),
    )
  })
})

describe('petnames', () => {
  it.each(['Anna', 'anna-2', 'Jean d’Arc'.replace('’', "'"), '李雷', 'A'])('may be %s', (text) => {
    expect(isPetname(text)).toBe(true)
  })
  it.each(['', ' a', 'a ', 'a\u202eb', 'a\nb', `${'a'.repeat(56)}.llm`, 'x.llm', 'a'.repeat(41), 'a/b'])(
    'may not be %j',
    (text) => {
      expect(isPetname(text)).toBe(false)
    },
  )
})

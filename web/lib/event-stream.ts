export interface ServerEvent {
  readonly type: string
  readonly id: string | undefined
  readonly data: string
}

/** The events of a stream as they come, comments left out. */
export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent> {
  const reader = body.getReader()
  const decoder = new TextDecoder()
  let rest = ''
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      const blocks = (rest + decoder.decode(value, { stream: true })).split('\n\n')
      rest = blocks.pop() ?? ''
      for (const block of blocks) {
        const event = parseBlock(block)
        if (event !== undefined) yield event
      }
    }
  } finally {
    void reader.cancel().catch(() => {})
  }
}

function parseBlock(block: string): ServerEvent | undefined {
  let type = 'message'
  let id: string | undefined
  let data: string | undefined
  for (const line of block.split('\n')) {
    const [, field, value = ''] = /^(\w+): ?(.*)$/.exec(line) ?? []
    if (field === 'event') type = value
    if (field === 'id') id = value
    if (field === 'data') data = data === undefined ? value : `${data}\n${value}`
  }
  return data === undefined ? undefined : { type, id, data }
}

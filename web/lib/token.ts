/** The admin token of the address that llm-node prints. It lives in this tab only and is not left in the address. */
const KEY = 'llm-node-token'

export function takeToken(): string | null {
  const given = /[#&?]token=([\w-]{32,128})/.exec(location.hash)?.[1]
  if (given !== undefined) {
    sessionStorage.setItem(KEY, given)
    const page = /[#&]page=([a-z]+)/.exec(location.hash)?.[1] ?? ''
    history.replaceState(null, '', `${location.pathname}#/${page}`)
  }
  return sessionStorage.getItem(KEY)
}

export function forgetToken(): void {
  sessionStorage.removeItem(KEY)
}

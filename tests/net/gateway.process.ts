/**
 * A router's UPnP side (UPnP IGD 2, which libp2p looks for: SSDP, a description, SOAP), in the router's network namespace: INSIDE_ADDRESS
 * OUTSIDE_ADDRESS. What it is asked to forward it forwards with iptables, and says so on stdout.
 */
import { execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { createServer } from 'node:http'

const [inside = '', outside = ''] = process.argv.slice(2)
const SSDP = { group: '239.255.255.250', port: 1900 }
const DEVICE = 'urn:schemas-upnp-org:device:InternetGatewayDevice:2'
const SERVICE = 'urn:schemas-upnp-org:service:WANIPConnection:2'

const description = `<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device>
<deviceType>${DEVICE}</deviceType><friendlyName>test</friendlyName><UDN>uuid:1</UDN><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANDevice:2</deviceType><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:2</deviceType><serviceList><service>
<serviceType>${SERVICE}</serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
<controlURL>/control</controlURL><eventSubURL>/event</eventSubURL><SCPDURL>/scpd</SCPDURL>
</service></serviceList></device></deviceList></device></deviceList></device></root>`

const field = (body: string, name: string): string =>
  new RegExp(`<${name}[^>]*>([^<]*)</${name}>`).exec(body)?.[1] ?? ''

function forward(body: string): void {
  const protocol = field(body, 'NewProtocol').toLowerCase()
  const [port, client, inner] = ['NewExternalPort', 'NewInternalClient', 'NewInternalPort'].map((name) =>
    field(body, name),
  )
  const what = ['-i', 'wan', '-p', protocol, '--dport']
  execFileSync('iptables', [
    '-t',
    'nat',
    '-A',
    'PREROUTING',
    ...what,
    port ?? '',
    '-j',
    'DNAT',
    '--to',
    `${client}:${inner}`,
  ])
  execFileSync('iptables', ['-I', 'FORWARD', ...what, inner ?? '', '-j', 'ACCEPT'])
  process.stdout.write(`${protocol} ${port} to ${client}:${inner}\n`)
}

const answers = (body: string): Record<string, string> => ({
  GetExternalIPAddress: `<NewExternalIPAddress>${outside}</NewExternalIPAddress>`,
  AddAnyPortMapping: `<NewReservedPort>${field(body, 'NewExternalPort')}</NewReservedPort>`,
})

const http = createServer((request, response) => {
  let body = ''
  request.setEncoding('utf8').on('data', (chunk: string) => {
    body += chunk
  })
  request.on('end', () => {
    response.setHeader('content-type', 'text/xml')
    const action = /#(\w+)/.exec(String(request.headers.soapaction))?.[1]
    if (action === undefined) return response.end(description)
    if (action === 'AddAnyPortMapping') forward(body)
    const answer = answers(body)[action] ?? ''
    response.end(
      `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>` +
        `<u:${action}Response xmlns:u="${SERVICE}">${answer}</u:${action}Response></s:Body></s:Envelope>`,
    )
  })
})

http.listen(5_000, inside, () => {
  const socket = createSocket({ type: 'udp4', reuseAddr: true })
  socket.on('message', (message, { address, port }) => {
    const wanted = /^ST:\s*(\S+)/im.exec(message.toString())?.[1] ?? ''
    if (!message.toString().startsWith('M-SEARCH') || !(wanted === DEVICE || wanted === 'ssdp:all')) return
    const lines = [
      'HTTP/1.1 200 OK',
      'CACHE-CONTROL: max-age=120',
      `LOCATION: http://${inside}:5000/description.xml`,
      `ST: ${DEVICE}`,
      `USN: uuid:1::${DEVICE}`,
      'SERVER: test UPnP/1.1',
      'EXT:',
    ]
    socket.send(`${lines.join('\r\n')}\r\n\r\n`, port, address)
  })
  socket.bind(SSDP.port, () => {
    socket.addMembership(SSDP.group, inside)
    process.stdout.write('ready\n')
  })
})

/** A connection to a proxy, as its client makes one; and what is wrong where there is none. */
import type { Socket } from 'node:net';
import { secure } from '../dial/tls.ts';
import { Fault } from '../errors.ts';
import { answersHttp } from './ask-connect.ts';
import { fail, failBy, type Finding } from './finding.ts';
import { type ProxyAddress, showProxy } from './proxy-url.ts';
import type { Tools } from './tools.ts';

/** TCP, and TLS with an https proxy, verified as a client would. */
export async function openProxy({ scheme, host, port }: ProxyAddress, tools: Tools): Promise<Socket> {
  const socket = await tools.connect(host, port, await tools.resolve(host));
  if (scheme === 'http') return socket;
  return secure({ socket, host, port, config: { ca: null, cert: null, key: null, serverName: null }, keys: 'the proxy', timeout: tools.timeout, signal: new AbortController().signal });
}

/** The caller closes the socket. */
export async function openOrFail(proxy: ProxyAddress, target: { readonly host: string; readonly port: number }, tools: Tools): Promise<Socket | Finding> {
  const shown = showProxy(proxy);
  try {
    return await openProxy(proxy, tools);
  } catch (error) {
    const fault = Fault.from(error);
    const plain = proxy.scheme === 'https' && fault.code === 'tls-failed' && (await answersHttp(await openProxy({ ...proxy, scheme: 'http' }, tools), { ...target, credentials: proxy.credentials, timeout: tools.timeout }));
    if (plain) return fail(shown, 'https-proxy-on-plain-port', `the URL asks for TLS with the proxy, and port ${proxy.port} speaks plain HTTP`, `Write http://${shown.slice('https://'.length)}: also for https:// destinations.`);
    return { ...failBy(shown, fault), advice: adviseClient(fault) };
  }
}

/** The remedies of the dialler speak of partners. */
function adviseClient({ code, remedy }: Fault): string | null {
  switch (code) {
    case 'connection-refused':
      return 'Check host and port of the proxy, and that it runs.';
    case 'connect-timeout':
    case 'unreachable':
      return 'Check the network policies of both namespaces, and that the Service has endpoints.';
    case 'tls-certificate':
      return "Have the client trust the authority of the proxy's own certificate; here: NODE_EXTRA_CA_CERTS.";
    default:
      return remedy;
  }
}

/** A client's way: the names it needs, the proxy it is pointed at, and what that answers. */
import type { Socket } from 'node:net';
import { Fault } from '../errors.ts';
import { answersHttp, askConnect } from './ask-connect.ts';
import { openProxy } from './choose-proxy.ts';
import type { ClientExamination } from './client-examination.ts';
import { describeAddresses } from './describe-addresses.ts';
import { fail, failBy, type Finding, ok, skipped } from './finding.ts';
import { judgeRefused } from './judge-refused.ts';
import { type ProxyAddress, showProxy } from './proxy-url.ts';

export async function checkClientNames({ target, proxy, tools, trail }: ClientExamination): Promise<Finding[]> {
  const find = async (host: string): Promise<readonly string[] | Fault> => {
    try {
      return await tools.resolve(host);
    } catch (error) {
      return Fault.from(error);
    }
  };
  const [addresses, proxyAddresses] = await Promise.all([find(target.host), proxy === null ? null : find(proxy.host)]);
  const findings: Finding[] = [];
  if (!(addresses instanceof Fault)) {
    trail.addresses = addresses;
    const steered = !(proxyAddresses instanceof Fault) && proxyAddresses?.some((address) => addresses.includes(address)) === true;
    findings.push(ok(target.host, `${describeAddresses(addresses)}${steered ? ', which is the proxy: DNS steers it there' : ''}`));
  } else if (proxy === null) {
    findings.push(failBy(target.host, addresses));
  } else {
    findings.push(skipped(target.host, `does not resolve here (${addresses.code}): the proxy resolves it, and only a mesh that steers would need it`));
  }
  if (proxy === null || proxyAddresses === null) return findings;
  if (proxyAddresses instanceof Fault) return [...findings, failBy(proxy.host, proxyAddresses)];
  trail.proxyAddresses = proxyAddresses;
  return [...findings, ok(proxy.host, describeAddresses(proxyAddresses))];
}

export async function checkWay(examination: ClientExamination): Promise<Finding[]> {
  return examination.proxy === null ? checkDirect(examination) : checkProxy(examination.proxy, examination);
}

/** Where a mesh steers, this is its sidecar: it may take connections to anything. */
async function checkDirect({ target, tools, trail }: ClientExamination): Promise<Finding[]> {
  const [address] = trail.addresses;
  if (address === undefined) return [skipped(target.where, 'no address to dial: see names')];
  try {
    (await tools.connect(target.host, target.port, address)).destroy();
    trail.open = true;
    return [ok(target.where, `${address} took the connection`)];
  } catch (error) {
    return [failBy(target.where, Fault.from(error))];
  }
}

async function checkProxy(proxy: ProxyAddress, { target, tools, trail }: ClientExamination): Promise<Finding[]> {
  const shown = showProxy(proxy);
  if (trail.proxyAddresses.length === 0) return [skipped(shown, 'no address to dial: see names')];
  let socket: Socket;
  try {
    socket = await openProxy(proxy, tools);
  } catch (error) {
    const fault = Fault.from(error);
    const plain = proxy.scheme === 'https' && fault.code === 'tls-failed' && (await answersHttp(await openProxy({ ...proxy, scheme: 'http' }, tools), { ...target, credentials: proxy.credentials, timeout: tools.timeout }));
    if (plain) return [fail(shown, 'https-proxy-on-plain-port', `the URL asks for TLS with the proxy, and port ${proxy.port} speaks plain HTTP`, `Write http://${shown.slice('https://'.length)}: also for https:// destinations.`)];
    return [{ ...failBy(shown, fault), advice: adviseClient(fault) }];
  }
  const refused = await askConnect(socket, { ...target, credentials: proxy.credentials, timeout: tools.timeout });
  if (refused === null) {
    socket.destroy();
    trail.open = true;
    return [ok(shown, `connects to ${target.where}`)];
  }
  const { code, seen, advice } = await judgeRefused(refused, () => openProxy(proxy, tools), tools.timeout);
  return [fail(shown, code, seen, advice)];
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

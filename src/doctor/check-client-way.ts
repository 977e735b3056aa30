/** A client's way: the names it needs, the proxy it is pointed at, and what that answers. */
import { Fault } from '../errors.ts';
import { askConnect } from './ask-connect.ts';
import type { ClientExamination } from './client-examination.ts';
import { describeAddresses } from './describe-addresses.ts';
import { fail, failBy, type Finding, ok, skipped } from './finding.ts';
import { judgeRefused } from './judge-refused.ts';
import { openOrFail, openProxy } from './open-proxy.ts';
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
  if (trail.addresses.length === 0) return [skipped(target.where, 'no address to dial: see names')];
  try {
    const socket = await tools.connect(target.host, target.port, trail.addresses);
    const address = socket.remoteAddress ?? target.host;
    socket.destroy();
    trail.open = true;
    return [ok(target.where, `${address} took the connection`)];
  } catch (error) {
    return [failBy(target.where, Fault.from(error))];
  }
}

async function checkProxy(proxy: ProxyAddress, { target, tools, trail }: ClientExamination): Promise<Finding[]> {
  const shown = showProxy(proxy);
  if (trail.proxyAddresses.length === 0) return [skipped(shown, 'no address to dial: see names')];
  const socket = await openOrFail(proxy, target, tools);
  if (!('destroy' in socket)) return [socket];
  const refused = await askConnect(socket, { ...target, credentials: proxy.credentials, timeout: tools.timeout });
  if (refused === null) {
    socket.destroy();
    trail.open = true;
    return [ok(shown, `connects to ${target.where}`)];
  }
  const { code, seen, advice } = await judgeRefused(refused, () => openProxy(proxy, tools), tools.timeout);
  return [fail(shown, code, seen, advice)];
}

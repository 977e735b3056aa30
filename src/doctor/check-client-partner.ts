/** The partner, as a client sees it at the end of its way: TLS and HTTP. */
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { readPeerChain } from '../dial/peer-chain.ts';
import { secure } from '../dial/tls.ts';
import { Fault } from '../errors.ts';
import { askConnect } from './ask-connect.ts';
import { noteClock } from './check-http.ts';
import { describe, describeChain } from './check-tls.ts';
import { openProxy } from './open-proxy.ts';
import type { ClientExamination } from './client-examination.ts';
import { fail, failBy, type Finding, judgeStatus, skipped } from './finding.ts';
import { judgeConnect, judgeExchange } from './judge-answer.ts';

export async function checkClientTls(examination: ClientExamination): Promise<Finding[]> {
  const { target, trail, tools, host } = examination;
  if (target.scheme === 'http') return [];
  if (!trail.open) return [skipped(target.where, 'not reached: see way')];
  try {
    const socket = await openTls(examination);
    const finding = describe(target.where, socket, host.now());
    socket.destroy();
    return [finding];
  } catch (error) {
    const fault = Fault.from(error);
    trail.open = false;
    if (fault.code !== 'tls-certificate') return [failBy(target.where, fault)];
    const chain = await readPeerChain({ socket: await openWay(examination), host: target.host, port: target.port, timeout: tools.timeout });
    const finding = failBy(target.where, fault);
    return [{ ...finding, seen: `${finding.seen}; ${describeChain(chain)}`, advice: adviseClient(fault) }];
  }
}

/** A client has no configuration of ours, of which the remedies of the dialler speak. */
function adviseClient({ remedy }: Fault): string | null {
  if (remedy?.includes('.caFile') === true) return 'Have the client trust that authority (docs/clients says how for each language); here: --ca FILE, or NODE_EXTRA_CA_CERTS.';
  return remedy?.includes('.serverName') === true ? 'Check that the right host is asked for, and that nothing else answers in its place.' : remedy ?? null;
}

export async function checkClientHttp(examination: ClientExamination): Promise<Finding[]> {
  const { proxy, target, trail, tools, host } = examination;
  if (!trail.open) return [skipped(target.where, 'not reached: see way and tls')];
  const origin = `${target.scheme}://${target.where}`;
  try {
    // Plain http:// is not tunnelled: the proxy is asked for the URL.
    const byUrl = target.scheme === 'http' && proxy !== null;
    const socket = target.scheme === 'https' ? await openTls(examination) : byUrl ? await openProxy(proxy, tools) : await openWay(examination);
    const asked = host.now();
    const { status, headers } = await tools.ask({ socket }, { method: 'HEAD', origin, path: byUrl ? `${origin}${target.path}` : target.path, ...(byUrl ? { headers: { host: target.where } } : {}) });
    const refusal = target.scheme === 'http' ? judgeExchange(headers) : null;
    if (refusal !== null) return [fail(target.where, refusal.code, refusal.seen, refusal.advice)];
    noteClock(trail.clocks, target.where, headers['date'], (asked + host.now()) / 2);
    return [judgeStatus(target.where, `HEAD ${target.path} is answered ${status}`, status)];
  } catch (error) {
    return [failBy(target.where, Fault.from(error))];
  }
}

async function openTls(examination: ClientExamination): Promise<TLSSocket> {
  const { target, tls, tools } = examination;
  const socket = await openWay(examination);
  return secure({ socket, host: target.host, port: target.port, config: { ...tls }, keys: 'the client', timeout: tools.timeout, signal: new AbortController().signal });
}

/** What is written to it arrives at the partner. Rejects with a Fault. */
async function openWay({ proxy, target, tools, trail }: ClientExamination): Promise<Socket> {
  if (proxy === null) return tools.connect(target.host, target.port, trail.addresses);
  const socket = await openProxy(proxy, tools);
  const refused = await askConnect(socket, { ...target, credentials: proxy.credentials, timeout: tools.timeout });
  if (refused === null) return socket;
  const { seen, advice } = judgeConnect(refused);
  throw new Fault('hop-failed', seen, { remedy: advice });
}

/** The checks from a client's host or pod: names, the proxy, and the partner through it. */
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { UpstreamTlsConfig } from '../config/config.ts';
import { readPeerChain } from '../dial/peer-chain.ts';
import { secure } from '../dial/tls.ts';
import { Fault } from '../errors.ts';
import { askConnect, credentialFields, judgeConnect, judgeExchange, judgeRefused } from './answers.ts';
import { openOrFail, openProxy } from './choose-proxy.ts';
import type { HostFacts, Tools } from './examination.ts';
import { fail, failBy, type DoctorFinding, judgeStatus, ok, skipped } from './finding.ts';
import { describeTls, describeChain, noteClock } from './partner-checks.ts';
import { type ProxyAddress, showProxy } from './proxy-address.ts';
import { describeAddresses } from './targets.ts';

/** The target of a client. */
export interface ClientTarget {
  readonly scheme: 'http' | 'https';
  /** Canonical. */
  readonly host: string;
  readonly port: number;
  readonly path: string;
  /** `eco-sit.telus.internal:443`. */
  readonly where: string;
}

/** What the checks share. Each leaves in `trail` what later ones use. */
export interface ClientExamination {
  readonly target: ClientTarget;
  /** Null: none; a mesh redirects, or the route is direct. */
  readonly proxy: ProxyAddress | null;
  readonly tls: UpstreamTlsConfig;
  readonly host: HostFacts;
  /** No host has it: a server that accepts a connection to it answers for other addresses. */
  readonly emptyAddress: string;
  readonly tools: Tools;
  readonly trail: {
    addresses: readonly string[];
    proxyAddresses: readonly string[];
    open: boolean;
    readonly clocks: { where: string; ahead: number }[];
  };
}

/** A client's route: the names it needs, its configured proxy, and the proxy's answer. */
export async function checkClientNames({ target, proxy, tools, trail }: ClientExamination): Promise<DoctorFinding[]> {
  const find = (host: string): Promise<readonly string[] | Fault> => tools.resolve(host).catch((error: unknown) => Fault.from(error));
  const [addresses, proxyAddresses] = await Promise.all([find(target.host), proxy === null ? null : find(proxy.host)]);
  const findings: DoctorFinding[] = [];
  if (!(addresses instanceof Fault)) {
    trail.addresses = addresses;
    const steered = !(proxyAddresses instanceof Fault) && proxyAddresses?.some((address) => addresses.includes(address)) === true;
    findings.push(ok(target.host, `${describeAddresses(addresses)}${steered ? ', which is the proxy: DNS steers it there' : ''}`));
  } else if (proxy === null) {
    findings.push(failClient(target.host, addresses));
  } else {
    findings.push(
      skipped(target.host, `does not resolve here (${addresses.code}): the proxy resolves it, and only a mesh that steers would need it`),
    );
  }
  if (proxy === null || proxyAddresses === null) return findings;
  if (proxyAddresses instanceof Fault) return [...findings, failClient(proxy.host, proxyAddresses)];
  trail.proxyAddresses = proxyAddresses;
  return [...findings, ok(proxy.host, describeAddresses(proxyAddresses))];
}

/** Connects to the partner through the proxy, or directly where there is none; sets `trail.open`. */
export async function checkClientRoute(examination: ClientExamination): Promise<DoctorFinding[]> {
  return examination.proxy === null ? checkDirect(examination) : checkProxy(examination.proxy, examination);
}

/** With a mesh this is its sidecar: it may accept connections to any address. */
async function checkDirect({ target, tools, trail }: ClientExamination): Promise<DoctorFinding[]> {
  if (trail.addresses.length === 0) return [skipped(target.where, 'no address to dial: see names')];
  try {
    const socket = await tools.connect(target.host, target.port, trail.addresses);
    const address = socket.remoteAddress ?? target.host;
    socket.destroy();
    trail.open = true;
    return [ok(target.where, `${address} accepted the connection`)];
  } catch (error) {
    return [failClient(target.where, Fault.from(error))];
  }
}

async function checkProxy(proxy: ProxyAddress, { target, tools, trail }: ClientExamination): Promise<DoctorFinding[]> {
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
  const { ours, code, seen, advice } = await judgeRefused(refused, () => openProxy(proxy, tools), tools.timeout);
  if (ours && target.scheme === 'http') {
    trail.open = true;
    return [ok(shown, `answers, and refuses CONNECT to ${target.where} (${code}), which a request for http:// does not need`)];
  }
  return [fail(shown, code, seen, advice)];
}

/** The partner, as a client sees it at the end of its route: TLS and HTTP. */
export async function checkClientTls(examination: ClientExamination): Promise<DoctorFinding[]> {
  const { target, trail, host } = examination;
  if (target.scheme === 'http') return [];
  if (!trail.open) return [skipped(target.where, 'not reached: see way')];
  try {
    const socket = await openTls(examination);
    const finding = describeTls(target.where, socket, host.now());
    socket.destroy();
    return [finding];
  } catch (error) {
    const fault = Fault.from(error);
    trail.open = false;
    const finding = failClient(target.where, fault);
    return [fault.code === 'tls-certificate' ? { ...finding, seen: `${finding.seen}${await tellChain(examination)}` } : finding];
  }
}

/** '' where another connection shows none: the first finding stands alone. */
async function tellChain(examination: ClientExamination): Promise<string> {
  const {
    target: { host, port },
    tools,
  } = examination;
  try {
    return `; ${describeChain(await readPeerChain({ socket: await openWay(examination), host, port, timeout: tools.timeout }))}`;
  } catch {
    return '';
  }
}

/** A client has no proxy configuration, which the dialler's remedies mention: what to do here in place of a change of each key. */
const CLIENT_ADVICE = {
  'dns.servers': 'Check that the DNS server of this host answers: /etc/resolv.conf names it.',
  '.certFile':
    'If the partner asks for a client certificate: the doctor shows none. Check that the client shows its own, and that the partner accepts it.',
  '.caFile': 'Have the client trust that authority (docs/clients says how for each language); here: --ca FILE, or NODE_EXTRA_CA_CERTS.',
  '.serverName': 'Check that the right host is asked for, and that nothing else answers in its place.',
};

function failClient(subject: string, fault: Fault): DoctorFinding {
  const [, advice = fault.remedy] = Object.entries(CLIENT_ADVICE).find(([key]) => fault.remedy?.includes(key)) ?? [];
  return { ...failBy(subject, fault), advice };
}

/** Sends HEAD to the partner, and records its clock. Skipped while `trail.open` is false. */
export async function checkClientHttp(examination: ClientExamination): Promise<DoctorFinding[]> {
  const { proxy, target, trail, tools, host } = examination;
  if (!trail.open) return [skipped(target.where, 'not reached: see way and tls')];
  const origin = `${target.scheme}://${target.where}`;
  try {
    // Plain http:// is not tunnelled: the URL is requested from the proxy.
    const byUrl = target.scheme === 'http' && proxy !== null;
    const socket =
      target.scheme === 'https' ? await openTls(examination) : byUrl ? await openProxy(proxy, tools) : await openWay(examination);
    const asked = host.now();
    const { status, headers } = await tools.ask(
      { socket },
      {
        method: 'HEAD',
        origin,
        path: byUrl ? `${origin}${target.path}` : target.path,
        ...(byUrl ? { headers: { host: target.where, ...credentialFields(proxy.credentials) } } : {}),
      },
    );
    const refusal = target.scheme === 'http' ? judgeExchange(headers) : null;
    if (refusal !== null) return [fail(target.where, refusal.code, refusal.seen, refusal.advice)];
    noteClock(trail.clocks, target.where, headers, (asked + host.now()) / 2);
    return [judgeStatus(target.where, `HEAD ${target.path} is answered ${status}`, status)];
  } catch (error) {
    return [failBy(target.where, Fault.from(error))];
  }
}

async function openTls(examination: ClientExamination): Promise<TLSSocket> {
  const { target, tls, tools } = examination;
  const socket = await openWay(examination);
  return secure({
    socket,
    host: target.host,
    port: target.port,
    config: { ...tls },
    keys: 'the client',
    timeout: tools.timeout,
    signal: new AbortController().signal,
  });
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

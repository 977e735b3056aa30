/**
 * The probes of one round of the self-test: for each listener, a request in
 * each form that the policy must refuse, and the expected code. Pure.
 */
import type { AddressInfo } from 'node:net';
import type { Config, ListenerConfig } from '../config/config.ts';
import type { FaultCode } from '../errors.ts';
import { createPeerReader } from '../listeners/trusted-peers.ts';
import { formatAuthority, reachable } from '../targets/host.ts';

/** A metadata service: no policy has a reason to permit it, and a proxy that permits it discloses its own credentials. */
export const METADATA_ADDRESS = '169.254.169.254';

/** One request on a connection of its own. */
export interface SelfTestProbe {
  /** `connect on 127.0.0.1:3128`. */
  readonly what: string;
  /** Of the listener. */
  readonly host: string;
  readonly port: number;
  /** Sent before anything else: a PROXY header, or ''. */
  readonly preface: string;
  /** Of the ClientHello; null: no TLS. */
  readonly serverName: string | null;
  /** '' where the ClientHello is the request. */
  readonly request: string;
  /** The client address it claims; null: its own. */
  readonly asker: string | null;
  /** Any of them is right. */
  readonly expected: readonly FaultCode[];
}

/** For `listProbes`. */
export interface ProbeTerms {
  readonly config: Pick<Config, 'destinations' | 'listeners' | 'tlsServer'>;
  /** Bound, in the order of the configuration. */
  readonly bound: { readonly http: readonly AddressInfo[]; readonly tls: readonly AddressInfo[] };
  /** A name that no destination has. */
  readonly name: string;
  /** The address of a client that is identified by address only; null: there is none. */
  readonly client: string | null;
  /** An address of no client; null: every address is a client's. */
  readonly stranger: string | null;
}

interface ProbedListener {
  readonly host: string;
  readonly port: number;
  readonly listener: ListenerConfig;
  readonly serverName: string | null;
  /** The code with which everything on it is refused; null: the policy decides. */
  readonly refusal: FaultCode | null;
}

const NO_CLIENT: readonly FaultCode[] = ['client-not-allowed', 'credentials-missing'];

/** All probes of a round. */
export function listProbes(terms: ProbeTerms): SelfTestProbe[] {
  const { config, bound } = terms;
  const probes: SelfTestProbe[] = [];
  bound.http.forEach((address, index) => {
    const listener = config.listeners.http[index];
    if (listener !== undefined) probes.push(...httpProbes(terms, { ...reach(address), listener, serverName: null, refusal: null }));
  });
  bound.tls.forEach((address, index) => {
    const listener = config.listeners.tls[index];
    if (listener === undefined) return;
    const way = { ...reach(address), listener };
    // Only the ClientHello names the target, and only it is answered.
    probes.push(
      probeOf(
        { ...way, serverName: terms.name, refusal: null },
        'sni',
        '',
        terms.client,
        listener.forms.includes('sni') ? hostDenials(terms) : ['form-not-allowed'],
      ),
    );
    const serverName = config.tlsServer?.names[0];
    // The self-test has no certificate to show.
    if (serverName !== undefined)
      probes.push(
        ...httpProbes(terms, {
          ...way,
          serverName,
          refusal: config.tlsServer?.clientCertificate === 'require' ? 'client-certificate' : null,
        }),
      );
  });
  return probes;
}

function httpProbes({ config, name, client, stranger }: ProbeTerms, way: ProbedListener): SelfTestProbe[] {
  const { forms } = way.listener;
  const host = hostDenials({ client });
  const inForm = (form: (typeof forms)[number], codes: readonly FaultCode[]): readonly FaultCode[] =>
    forms.includes(form) ? codes : ['form-not-allowed'];
  const probes = [
    probeOf(way, 'connect', connectHead(name, 443), client, inForm('connect', host)),
    probeOf(way, 'forward', getHead(`http://${name}/`, name), client, inForm('forward', host)),
    // A host that no destination has is refused before the form is known.
    probeOf(way, 'host-routed', getHead('/', name), client, host),
  ];
  if (!config.destinations.some(({ hosts }) => hosts.includes(METADATA_ADDRESS)))
    probes.push(probeOf(way, `connect to ${METADATA_ADDRESS}`, connectHead(METADATA_ADDRESS, 80), client, inForm('connect', host)));
  // Below a prefix the destination is fixed: only the client can be wrong. Report mode lets that pass.
  const prefix = config.destinations.find(({ gateway, report }) => gateway !== null && !report)?.gateway?.prefix;
  if (prefix !== undefined && stranger !== null)
    probes.push(probeOf(way, 'gateway', getHead(`${prefix}/`, name), stranger, inForm('gateway', NO_CLIENT)));
  return probes;
}

function hostDenials({ client }: Pick<ProbeTerms, 'client'>): readonly FaultCode[] {
  // By its own address, it may be a client or not.
  return client === null ? ['host-not-allowed', ...NO_CLIENT] : ['host-not-allowed'];
}

function probeOf(
  { host, port, listener, serverName, refusal }: ProbedListener,
  form: string,
  request: string,
  asker: string | null,
  expected: readonly FaultCode[],
): SelfTestProbe {
  const inside = serverName !== null && request !== '' ? ' in TLS' : '';
  return {
    what: `${form}${inside} on ${formatAuthority(host, port)}`,
    host,
    port,
    preface: prefaceOf(listener, host, port, asker),
    serverName,
    request,
    asker,
    expected: refusal === null ? expected : [refusal],
  };
}

/** A listener that trusts this host to name its clients waits for a PROXY header. */
function prefaceOf(listener: ListenerConfig, host: string, port: number, asker: string | null): string {
  if (listener.proxyProtocol === 'off' || !createPeerReader(listener).trusts(host)) return '';
  if (asker === null) return 'PROXY UNKNOWN\r\n';
  return asker.includes(':') ? `PROXY TCP6 ${asker} ::1 1 ${port}\r\n` : `PROXY TCP4 ${asker} 127.0.0.1 1 ${port}\r\n`;
}

/** How a bound listener is reached from this host. A connection to a local address has that same address as its source. */
export function reach({ address, port }: AddressInfo): { readonly host: string; readonly port: number } {
  return { host: reachable(address), port };
}

function connectHead(host: string, port: number): string {
  return `CONNECT ${host}:${port} HTTP/1.1\r\nHost: ${host}:${port}\r\n\r\n`;
}

function getHead(target: string, host: string): string {
  return `GET ${target} HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
}

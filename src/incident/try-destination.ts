/** Tries a destination step by step: each name, each address and port, each parent, with the same steps as the proxy's dials, with its own time limits and ignoring open circuits. */
import { TLSSocket } from 'node:tls';
import type { Dialled } from '../dial/dial.ts';
import { tryConnect } from '../dial/try-connect.ts';
import type { Tools } from '../doctor/examination.ts';
import { noteClock, readChain } from '../doctor/partner-checks.ts';
import { dialTargetOf, type Target, targetGuard } from '../doctor/targets.ts';
import { trustEndOf } from '../dial/tls.ts';
import { Fault } from '../errors.ts';
import { createHopGuard } from '../policy/address-guard.ts';
import { formatAuthority } from '../targets/host.ts';
import { bound } from '../telemetry/safe-text.ts';
import type { TakeTurn } from '../turns.ts';
import type { AddressTry, HttpTry, NameTry, ParentTry, RouteTry, TcpOutcome, TcpTry, TlsTry, TriedFault } from './evidence.ts';

/** For all tries of one question. */
export interface TryContext {
  readonly tools: Tools;
  readonly isSelf: (address: string, port: number) => boolean;
  /** Ms since the epoch. */
  readonly now: () => number;
  /** When it is up, no further step begins. */
  readonly signal: AbortSignal;
  readonly turns: TakeTurn;
  /** Filled in. */
  readonly clocks: { where: string; ahead: number }[];
}

/** A certificate may be for hundreds of names. */
const LONGEST_CERTIFICATE_NAMES = 200;
const LONGEST_TRIED_DETAIL = 300;

/** Looks the name up now, without the cache. @param inUse the addresses that requests get; null: none */
export async function tryName(
  target: Target,
  { tools, now, signal }: TryContext,
  inUse: readonly string[] | null,
  history: NameTry['history'],
): Promise<NameTry> {
  const { host, port } = target;
  const at = now();
  try {
    const addresses = await lookUp(host, tools, signal);
    const guard = targetGuard(target);
    const refused = addresses.flatMap((address) => {
      const refusal = guard(address, port);
      return refusal === null ? [] : [{ address, detail: refusal.message }];
    });
    return { host, at, fault: null, addresses, refused, inUse, history };
  } catch (error) {
    return { host, at, fault: faultOf(error), addresses: [], refused: [], inUse, history };
  }
}

/** A question that got no answer is asked once more: a single packet may be lost. */
async function lookUp(host: string, tools: TryContext['tools'], signal: AbortSignal): Promise<readonly string[]> {
  try {
    return await tools.resolve(host);
  } catch (error) {
    if (faultOf(error).code !== 'resolver-timeout' || signal.aborted) throw error;
    return tools.resolveAnew(host);
  }
}

/** @param moved bytes received from the address over other connections since this function was called */
export async function tryAddress(target: Target, address: string, context: TryContext, moved: () => number): Promise<AddressTry> {
  const { where, port, protocol } = target;
  const tcp = await tryTcp(address, port, context);
  const again = tcp.outcome === 'silent' && !context.signal.aborted ? await tryTcp(address, port, context) : null;
  const none = { where, tcp, again, tls: null, http: null };
  const open = again ?? tcp;
  if (open.outcome !== 'open' || protocol === 'unknown' || context.signal.aborted) return { ...none, moved: moved() };
  const at = context.now();
  const began = performance.now();
  const above = await tryAbove(target, address, context);
  if (above === null) return { ...none, moved: moved() };
  const { tls, http, fault } = above;
  if (fault === null) return { ...none, tls, http, moved: moved() };
  // A connection of its own: the one before was open, and this one was not.
  const next: TcpTry = {
    at,
    address,
    port,
    from: null,
    outcome: FAILED_OUTCOMES.get(fault.code) ?? 'unsent',
    ms: Math.round(performance.now() - began),
    detail: fault.detail,
  };
  return { ...none, tcp: open, again: next, moved: moved() };
}

/** Of a dial that failed before its TLS; otherwise our own system refused. */
const FAILED_OUTCOMES: ReadonlyMap<string, TcpOutcome> = new Map([
  ['connection-refused', 'refused'],
  ['connect-timeout', 'silent'],
  ['unreachable', 'unreachable'],
]);

async function tryTcp(
  address: string,
  port: number,
  { tools, now, signal }: Pick<TryContext, 'tools' | 'now' | 'signal'>,
): Promise<TcpTry> {
  const at = now();
  return { at, address, port, ...(await tryConnect(address, port, tools.timeout, signal)) };
}

interface TriedAbove {
  readonly tls: TlsTry | null;
  readonly http: HttpTry | null;
  readonly fault: TriedFault | null;
}

/** TLS and one request; null: the time was over before its turn came. @param address undefined: through the parents */
function tryAbove(target: Target, address: string | undefined, context: TryContext): Promise<TriedAbove | null> {
  return context.turns(async () => (context.signal.aborted ? null : dialAndAsk(target, address, context)));
}

async function dialAndAsk(target: Target, address: string | undefined, context: TryContext): Promise<TriedAbove> {
  const { protocol } = target;
  const { tools, isSelf } = context;
  let dialled: Dialled;
  try {
    dialled = await tools.dial(dialTargetOf(target, isSelf), targetGuard(target), address);
  } catch (error) {
    const fault = faultOf(error);
    if (protocol !== 'tls' || !fault.code.startsWith('tls-')) return { tls: null, http: null, fault };
    return { tls: { fault, certificate: await readCertificate(target, address, context) }, http: null, fault: null };
  }
  const tls = protocol === 'tls' ? { fault: null, certificate: certificateOf(dialled) } : null;
  if (context.signal.aborted || protocol === 'unknown') {
    dialled.socket.destroy();
    return { tls, http: null, fault: null };
  }
  const http = await tryHttp(target, dialled, context);
  // A refusal of our certificate arrives with the answer.
  if (tls !== null && http.fault?.code === 'tls-failed') return { tls: { ...tls, fault: http.fault }, http: null, fault: null };
  return { tls, http, fault: null };
}

async function tryHttp({ destination, protocol, where }: Target, dialled: Dialled, { tools, now, clocks }: TryContext): Promise<HttpTry> {
  const path = `${destination.gateway?.basePath ?? ''}/`;
  const asked = `HEAD ${path}`;
  const at = now();
  const began = performance.now();
  const passed = (): number => Math.round(performance.now() - began);
  try {
    const { status, headers } = await tools.ask(dialled, {
      method: 'HEAD',
      origin: `${protocol === 'tls' ? 'https' : 'http'}://${where}`,
      path,
    });
    noteClock(clocks, where, headers, (at + now()) / 2);
    return { fault: null, status, ms: passed(), asked };
  } catch (error) {
    return { fault: faultOf(error), status: 0, ms: passed(), asked };
  }
}

function certificateOf({ socket }: Dialled): TlsTry['certificate'] {
  const shown = socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined;
  if (shown === undefined) return null;
  return {
    names: bound(shown.subjectAltName ?? shown.subject, LONGEST_CERTIFICATE_NAMES),
    issuer: bound(shown.issuer.replaceAll('\n', ', '), LONGEST_CERTIFICATE_NAMES),
    validFrom: shown.validFromDate.getTime(),
    validTo: trustEndOf(socket),
  };
}

/** Null: no certificate was shown. */
async function readCertificate(target: Target, address: string | undefined, context: TryContext): Promise<TlsTry['certificate']> {
  const [leaf] = context.signal.aborted ? [] : ((await readChain(target, address, context)) ?? []);
  return leaf === undefined
    ? null
    : {
        names: bound(leaf.names, LONGEST_CERTIFICATE_NAMES),
        issuer: bound(leaf.issuer, LONGEST_CERTIFICATE_NAMES),
        validFrom: leaf.validFrom,
        validTo: leaf.validTo,
      };
}

/** Each parent of the first hop separately. */
export async function tryParents({ destination }: Target, context: TryContext): Promise<ParentTry[]> {
  const { tools, isSelf, signal } = context;
  const [hop] = destination.via;
  if (hop === undefined) return [];
  const guard = createHopGuard(hop, isSelf);
  return Promise.all(
    hop.parents.map(async ({ host, port }): Promise<ParentTry> => {
      const parent = formatAuthority(host, port);
      try {
        const addresses = await lookUp(host, tools, signal);
        const permitted = addresses.filter((address) => guard(address, port) === null);
        const [refusal] = addresses.flatMap((address) => guard(address, port) ?? []);
        if (permitted.length === 0 && refusal !== undefined) throw refusal;
        return {
          hop: hop.name,
          parent,
          fault: null,
          tcp: signal.aborted ? [] : await Promise.all(permitted.map((address) => tryTcp(address, port, context))),
        };
      } catch (error) {
        return { hop: hop.name, parent, fault: faultOf(error), tcp: [] };
      }
    }),
  );
}

/** The whole route through the parents; empty: not tried. */
export async function tryRoute(target: Target, context: TryContext): Promise<RouteTry[]> {
  const above = await tryAbove(target, undefined, context);
  return above === null ? [] : [{ where: target.where, at: context.now(), ...above }];
}

function faultOf(error: unknown): TriedFault {
  const { code, detail, cause } = Fault.from(error);
  return {
    code,
    detail: bound(detail, LONGEST_TRIED_DETAIL),
    ...(cause instanceof Fault && cause.code === 'connect-timeout' ? { connecting: true } : {}),
  };
}

/** Answers incident questions: collects the evidence, which is the state of the running proxy and the tries made now, bounded in number and in time, and has it judged. */
import { isIPv6 } from 'node:net';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from '../config/config.ts';
import type { CircuitsView } from '../dial/circuit.ts';
import type { DialHistory } from '../dial/dial-history.ts';
import type { Lookup } from '../dial/lookup.ts';
import type { PortsInUse } from '../dial/ports.ts';
import { createTools } from '../doctor/examination.ts';
import { Fault } from '../errors.ts';
import { type Target, targetGuard, targetsOf } from '../doctor/targets.ts';
import type { DenialRecord } from '../explain/kept-request.ts';
import type { SourceView } from '../source-ip/source-proof.ts';
import type { Verification, VerifyRequest } from '../source-ip/verify.ts';
import { formatAuthority } from '../targets/host.ts';
import { type HealthView, LAST_OUTCOMES } from '../telemetry/destination-health.ts';
import { bound } from '../telemetry/safe-text.ts';
import { takeTurns } from '../turns.ts';
import type { DeniedRequests, DestinationEvidence, IncidentEvidence, NameTry, ProxyEvidence, SourceEvidence } from './evidence.ts';
import { isWithin, outcomeOfTry, RECENT_MS } from './finding.ts';
import { type IncidentVerdict, judgeIncident } from './judge.ts';
import { readSentSegments, sentBetween } from './retransmits.ts';
import { tryAddress, type TryContext, tryName, tryParents, tryRoute } from './try-destination.ts';

/** For each step, ms; shorter where the configuration says so. */
const STEP_MS = 3_000;
/** After which no further step begins, and all that are under way end, ms: curl and kubelets are asked to wait for 30 s. */
const MOST_TRIED_MS = 15_000;
const MOST_WAITED_MS = 25_000;
const MOST_ROUTES_AT_ONCE = 16;
/** Hosts and ports, and addresses of one host, that are tried. */
const MOST_TARGETS = 16;
const MOST_TRIED_ADDRESSES = 4;
/** Hosts and ports of recent failures that are tried of each destination that has a pattern or a range. */
const MOST_PATTERN_HOSTS = 4;
const MOST_FAILURES_READ = 200;
const MOST_DENIALS_READ = 1_000;
const MOST_KEPT_FAILURES = 20;
const LONGEST_SHOWN_DETAIL = 300;
const LOOP_RESOLUTION_MS = 10;
/** Minimum time of watching the event loop, ms: in a shorter time one pause would count too much. */
const LEAST_WATCHED_MS = 1_000;

/** @param asked name of a destination; null: all */
async function gatherEvidence(sources: IncidentSources, asked: string | null): Promise<IncidentEvidence> {
  const { config: configOf, lookup, isSelf, now, instance, version } = sources;
  const whole = configOf();
  const short = (ms: number): number => Math.min(ms, STEP_MS);
  const destinations = whole.destinations
    .filter(({ name }) => asked === null || name === asked)
    .map((destination) => ({ ...destination, via: destination.via.map((hop) => ({ ...hop, connect: short(hop.connect) })) }));
  const config = { ...whole, destinations };
  const { timeouts } = config;
  const limit = new AbortController();
  setTimeout(() => {
    limit.abort(new Fault('connect-timeout', `no result when all tries had taken ${MOST_WAITED_MS / 1000} s`));
  }, MOST_WAITED_MS).unref();
  const tools = createTools({
    config,
    lookup: lookup ?? undefined,
    timeouts: { resolve: short(timeouts.resolve), connect: short(timeouts.connect), tls: short(timeouts.tls) },
    timeout: STEP_MS,
    signal: limit.signal,
  });
  const loop = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS });
  loop.enable();
  const segments = readSentSegments();
  const clocks: TryContext['clocks'] = [];
  const context: TryContext = {
    tools: { ...tools, timeout: short(timeouts.connect) },
    isSelf,
    now,
    signal: AbortSignal.timeout(MOST_TRIED_MS),
    turns: takeTurns(MOST_ROUTES_AT_ONCE),
    clocks,
  };
  const failures = sources.failures(MOST_FAILURES_READ);
  const failedAt = destinations.flatMap(({ name, hosts, ports }) => {
    if (!hosts.some((host) => host.startsWith('*')) && ports.every((port) => typeof port === 'number')) return [];
    return [
      ...new Map(
        failures.flatMap((one) => (one.destination === name ? [[formatAuthority(one.host, one.port), one] as const] : [])),
      ).values(),
    ].slice(0, MOST_PATTERN_HOSTS);
  });
  const targets = targetsOf(config, failedAt, isSelf);
  // Those that fail come first: only they can show what is wrong.
  const failed = new Set(failures.map(({ host, port }) => formatAuthority(host, port)));
  const tried = targets
    .map((target) => ({
      target,
      urgency: LAST_OUTCOMES.indexOf(sources.health(target.destination.name)?.last ?? 'ok') + Number(failed.has(target.where)) / 2,
    }))
    .toSorted((one, other) => other.urgency - one.urgency)
    .slice(0, MOST_TARGETS)
    .map(({ target }) => target);
  const [source, results] = await Promise.all([
    askSource(sources),
    Promise.all(tried.map((target) => tryTarget(target, sources, context))),
    delay(LEAST_WATCHED_MS),
  ]);
  loop.disable();
  // Each once: a file may have thousands of destinations.
  const [recent, circuits, ports] = [sources.failures(MOST_FAILURES_READ), sources.circuits(), sources.ports()];
  const read: IncidentSources = { ...sources, failures: () => recent, circuits: () => circuits, ports: () => ports };
  const at = now();
  return {
    at,
    instance,
    version,
    asked,
    proxy: {
      ...sources.proxy(),
      segments: sentBetween(segments, readSentSegments()),
      eventLoopMs: Math.max(0, loop.percentile(95) / 1e6 - LOOP_RESOLUTION_MS),
    },
    source,
    denials: groupRefusals(sources.denials(MOST_DENIALS_READ), at, sources.proxy().loadedAt, asked),
    clocks,
    destinations: destinations.map(({ name, via }) => ({
      ...describeTraffic(name, read),
      via: via.map((hop) => hop.name),
      ...mergeResults(results.filter((result) => result.target.destination.name === name)),
    })),
    leftOut: targets.length - tried.length + results.reduce((sum, { leftOut }) => sum + leftOut, 0),
  };
}

interface TargetResult extends Pick<DestinationEvidence, 'names' | 'tries' | 'parents' | 'routes'> {
  readonly target: Target;
  readonly leftOut: number;
}

/** A host has one name, and a hop has its parents, for every port; an address of ours is refused for our own ports only. */
function mergeResults(results: readonly TargetResult[]): Pick<DestinationEvidence, 'names' | 'tries' | 'parents' | 'routes'> {
  const once = <T>(all: readonly T[], key: (one: T) => string): T[] => [...new Map(all.map((one) => [key(one), one])).values()];
  return {
    names: [
      ...Map.groupBy(
        results.flatMap(({ names }) => names),
        ({ host }) => host,
      ).values(),
    ].flatMap(([first, ...others]) =>
      first === undefined
        ? []
        : {
            ...first,
            refused: first.refused.filter(({ address }) => others.every(({ refused }) => refused.some((one) => one.address === address))),
          },
    ),
    tries: results.flatMap(({ tries }) => tries),
    parents: once(
      results.flatMap(({ parents }) => parents),
      ({ parent }) => parent,
    ),
    routes: results.flatMap(({ routes }) => routes),
  };
}

async function tryTarget(target: Target, sources: IncidentSources, context: TryContext): Promise<TargetResult> {
  const { host, port, destination } = target;
  const { history, resolveAsRequests } = sources;
  const behind = destination.via.length > 0;
  const parents = behind ? tryParents(target, context) : [];
  if (behind && destination.resolve === 'parent')
    return {
      target,
      names: [],
      tries: [],
      parents: await parents,
      routes: target.guessed ? [] : await tryRoute(target, context),
      leftOut: 0,
    };
  const patience = AbortSignal.timeout(STEP_MS);
  const inUse = resolveAsRequests(host, patience).catch(() => null);
  const answers: NameTry['history'] = history.answersFor(host).map(({ at, addresses, code }) => ({ at, addresses, code }));
  const name = await tryName(target, context, await inUse, answers);
  if (behind)
    return {
      target,
      names: [name],
      tries: [],
      parents: await parents,
      routes: !target.guessed && name.addresses.length > name.refused.length ? await tryRoute(target, context) : [],
      leftOut: 0,
    };
  // If the resolver fails, the addresses that requests use instead are tried.
  const guard = targetGuard(target);
  const permitted = (name.fault === null ? name.addresses : (name.inUse ?? [])).filter((address) => guard(address, port) === null);
  const before = new Map(Array.from(sources.connections(), ({ key, bytesReceived }) => [key, bytesReceived]));
  const all = await Promise.all(
    permitted
      .slice(0, MOST_TRIED_ADDRESSES)
      .map((address) => tryAddress(target, address, context, () => movedSince(before, sources.connections(), address))),
  );
  // A host may have one family, and a partner both.
  const tries = all
    .filter((one) => !target.guessed || outcomeOfTry(one) === 'open')
    .filter(
      ({ tcp: { address, outcome } }) =>
        outcome !== 'unsent' || !all.some((other) => outcomeOfTry(other) === 'open' && isIPv6(other.tcp.address) !== isIPv6(address)),
    );
  return { target, names: [name], tries, parents: [], routes: [], leftOut: Math.max(0, permitted.length - MOST_TRIED_ADDRESSES) };
}

/** Bytes that came from an address over connections that were open before. */
function movedSince(before: ReadonlyMap<object, number>, connections: Iterable<OpenConnection>, of: string): number {
  let moved = 0;
  for (const { key, address, bytesReceived } of connections)
    if (address === of) moved += Math.max(0, bytesReceived - (before.get(key) ?? bytesReceived));
  return moved;
}

/** The probe of the source address, repeated now. */
async function askSource({ config, source, now }: IncidentSources): Promise<SourceEvidence> {
  const { sourceIp } = config();
  const view = source.view();
  const at = now();
  if (!sourceIp?.probe)
    return { result: 'off', seen: null, expected: sourceIp?.expected ?? [], since: null, at, endpoint: null, from: null, fault: null };
  const { expected, probe } = sourceIp;
  const {
    result,
    observations: [observation],
  } = await source.verify({ probe: { ...probe, timeout: Math.min(probe.timeout, STEP_MS) }, expected, times: 1 });
  const since = view.result === result && view.since !== null ? Date.parse(view.since) : at;
  const { seen = null, endpointAddress = null, localAddress = null, code = null, reason = null } = observation ?? {};
  return {
    result,
    seen,
    expected,
    since,
    at,
    endpoint: endpointAddress,
    from: localAddress,
    fault: code === null ? null : { code, detail: bound(reason ?? '', LONGEST_SHOWN_DETAIL) },
  };
}

function describeTraffic(
  name: string,
  { health: healthOf, failures, history, circuits, ports, took }: IncidentSources,
): Omit<DestinationEvidence, 'via' | 'names' | 'tries' | 'parents' | 'routes'> {
  const health = healthOf(name);
  const lastError = health?.lastError ?? null;
  const { limit, destinations } = ports();
  const { used = 0, refused = 0 } = destinations.get(name) ?? {};
  const ms = (text: string | null): number | null => (text === null ? null : Date.parse(text));
  return {
    name,
    last: health?.last ?? null,
    lastOk: ms(health?.lastOk ?? null),
    lastError: lastError === null ? null : { at: Date.parse(lastError.at), status: lastError.status },
    failures: failures(MOST_FAILURES_READ)
      .filter(({ destination }) => destination === name)
      .slice(0, MOST_KEPT_FAILURES)
      .map(({ time, code, detail }) => ({ at: Date.parse(time), code, detail: bound(detail, LONGEST_SHOWN_DETAIL) })),
    connections: history
      .failedTo(name)
      .slice(0, MOST_KEPT_FAILURES)
      .map(({ at, address, port, from, reason }) => ({ at, address, port, from, reason })),
    circuits: circuits()
      .filter(({ destination }) => destination === name)
      .flatMap(({ port, addresses }) =>
        addresses.flatMap(({ address, since, reason }) =>
          since === null ? [] : [{ address, port, since: Date.parse(since), reason: bound(reason, LONGEST_SHOWN_DETAIL) }],
        ),
      ),
    ports: { used, limit, refused },
    took: took(name),
  };
}

/** Of the last minute, and decided by the configuration in force: denials of an earlier one do not count. */
function groupRefusals(denials: readonly DenialRecord[], now: number, loadedAt: number, asked: string | null): DeniedRequests[] {
  const recent = denials.filter(
    ({ time, verdict, destination }) =>
      verdict === 'deny' &&
      isWithin(Date.parse(time), now, RECENT_MS) &&
      (Date.parse(time) >= loadedAt || loadedAt > now) &&
      (asked === null || destination === asked || destination === '-'),
  );
  return [
    ...Map.groupBy(
      recent,
      ({ client, clientAddress, code, destination }) => `${client === '-' ? clientAddress : client} ${code} ${destination}`,
    ).values(),
  ]
    .flatMap((group) => {
      const [latest] = group;
      const first = group.at(-1);
      if (latest === undefined || first === undefined) return [];
      const { client, clientAddress, code, destination, host } = latest;
      return [
        {
          client,
          clientAddress,
          code,
          destination,
          host,
          hosts: new Set(group.map((one) => one.host)).size,
          count: group.length,
          first: Date.parse(first.time),
          last: Date.parse(latest.time),
        },
      ];
    })
    .toSorted((one, other) => other.count - one.count);
}

// The state that the running proxy keeps anyway: each is read at the time of a
// question, and must not throw.

/** An open connection to a partner, and the bytes received so far. */
export interface OpenConnection {
  /** Its identity. */
  readonly key: object;
  readonly address: string;
  readonly bytesReceived: number;
}

/** Of one replica. */
export interface IncidentSources {
  readonly instance: string;
  readonly version: string;
  readonly config: () => Config;
  /** Replaces the configured resolver; null: it is used. */
  readonly lookup: Lookup | null;
  readonly isSelf: (address: string, port: number) => boolean;
  /** The addresses that requests would get for a name; rejects with a Fault. */
  readonly resolveAsRequests: (host: string, signal: AbortSignal) => Promise<readonly string[]>;
  readonly proxy: () => Omit<ProxyEvidence, 'eventLoopMs' | 'segments'>;
  readonly source: { view(): SourceView; verify(request: VerifyRequest): Promise<Verification> };
  /** The latest first. */
  readonly denials: (most: number) => readonly DenialRecord[];
  readonly failures: (most: number) => readonly DenialRecord[];
  /** Null: no request has been sent to it. */
  readonly health: (destination: string) => HealthView | null;
  /** Null: no exchange with it has ended in the last minute. */
  readonly took: (destination: string) => DestinationEvidence['took'];
  readonly circuits: () => readonly CircuitsView[];
  readonly ports: () => PortsInUse;
  readonly history: Pick<DialHistory, 'failedTo' | 'answersFor'>;
  readonly connections: () => Iterable<OpenConnection>;
  /** Ms since the epoch. */
  readonly now: () => number;
}

// Questions, one at a time: the tries cost connections to partners, so one within
// some seconds of the previous one gets the same answer.

/** Between the end of one question and the start of the next, ms. */
const PAUSE_MS = 5_000;

/** Holds no timer, so there is nothing to close. */
export class Incidents {
  readonly #sources: IncidentSources;
  readonly #monotonic: () => number;
  #busy = false;
  #latest: { readonly asked: string | null; readonly verdict: IncidentVerdict; readonly endedAt: number } | null = null;

  /** @param monotonic ms */
  constructor(sources: IncidentSources, monotonic: () => number) {
    this.#sources = sources;
    this.#monotonic = monotonic;
  }

  /** Valid names for a question. */
  get destinations(): readonly string[] {
    return this.#sources.config().destinations.map(({ name }) => name);
  }

  /** `busy`: another question is being answered, or has just been. @param asked name of a destination; null: all */
  async ask(asked: string | null): Promise<IncidentVerdict | 'busy'> {
    if (this.#busy) return 'busy';
    if (this.#latest !== null && this.#monotonic() - this.#latest.endedAt < PAUSE_MS)
      return this.#latest.asked === asked ? this.#latest.verdict : 'busy';
    this.#busy = true;
    try {
      const verdict = judgeIncident(await gatherEvidence(this.#sources, asked));
      this.#latest = { asked, verdict, endedAt: this.#monotonic() };
      return verdict;
    } finally {
      this.#busy = false;
    }
  }
}

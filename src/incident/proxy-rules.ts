/** The rules about causes in the proxy, its policy, and the pods that ask. Pure. */
import { FAULTS } from '../errors.ts';
import { formatMoment } from '../targets/quote.ts';
import type { DeniedRequests, IncidentEvidence } from './evidence.ts';
import { type IncidentFinding, type IncidentRule, type NamelessFinding, completeFinding, isWithin } from './finding.ts';

/** Event loop delay that slows every answer, ms; and the delay that makes time limits expire. */
const SLOW_LOOP_MS = 500;
const STUCK_LOOP_MS = 1000;
/** Denials of one client in a minute that count as a flood, above the usual background of a cluster. */
export const FLOOD = 100;
/** Fewer refusals may be one mistyped command. */
const FEW = 3;

function findDraining({ proxy }: IncidentEvidence): NamelessFinding[] {
  if (!proxy.draining) return [];
  return [
    completeFinding({
      part: 'proxy',
      state: 'broken',
      what: 'this replica is shutting down, and takes no new requests',
      next: ['Ask another replica; kubectl describe pod says why this one is ended.'],
    }),
  ];
}

function findNotEnforcing({ proxy }: IncidentEvidence): NamelessFinding[] {
  return proxy.notEnforcing.map((reason) =>
    completeFinding({
      part: 'proxy',
      state: 'broken',
      what: 'the self-test found that the allowlist is not in force, so this replica is not ready',
      evidence: [{ at: null, text: reason }],
      next: ['Delete the pod, and look at the access lines of the host that the sentence names.'],
    }),
  );
}

function findOverload({ proxy }: IncidentEvidence): NamelessFinding[] {
  const { eventLoopMs, limits, descriptors, overloaded } = proxy;
  const found: NamelessFinding[] = overloaded.map((text) =>
    completeFinding({
      part: 'proxy',
      state: 'broken',
      what: 'it is overloaded, and refuses new requests',
      evidence: [{ at: null, text }],
      next: ['Add replicas, give it more CPU or memory, or find on the status page which client sends so much.'],
    }),
  );
  if (eventLoopMs >= STUCK_LOOP_MS) {
    found.push(
      completeFinding({
        part: 'proxy',
        state: 'broken',
        what: `it is short of CPU: its event loop is late by ${Math.round(eventLoopMs)} ms`,
        evidence: [{ at: null, text: `Event loop late by ${Math.round(eventLoopMs)} ms (95th percentile) while this was tried` }],
        next: ['Add replicas, or raise the CPU limit of the pod.'],
        explains: ['silent', 'tls', 'http', 'name'],
      }),
    );
  }
  for (const { name, used, limit } of limits) {
    if (limit === null || used < limit) continue;
    found.push(
      completeFinding({
        part: 'proxy',
        state: 'broken',
        what: `the limit of ${name} is reached: ${used} of ${limit}, and further ones are refused`,
        next: ['See which client holds them on the status page; add replicas, or raise the limit.'],
      }),
    );
  }
  if (descriptors !== null)
    found.push(
      completeFinding({
        part: 'proxy',
        state: 'degraded',
        what: 'file descriptors are short',
        evidence: [{ at: null, text: descriptors }],
        next: ['Raise the limit of open files of the process (ulimit -n).'],
        explains: ['unreachable'],
      }),
    );
  return found;
}

/** It delays answers, but explains no failure. */
function findLateness({ proxy: { eventLoopMs } }: IncidentEvidence): NamelessFinding[] {
  if (eventLoopMs < SLOW_LOOP_MS || eventLoopMs >= STUCK_LOOP_MS) return [];
  return [
    completeFinding({
      part: 'proxy',
      state: 'degraded',
      what: `every request waits, because the event loop is late by ${Math.round(eventLoopMs)} ms`,
      next: ['Add replicas, or raise the CPU limit of the pod.'],
    }),
  ];
}

/** A change within this time, ms, may be why requests are denied: what was denied later has more often another reason. */
const CHANGE_MS = 900_000;

const isFresh = ({ at }: { readonly at: number }, now: number): boolean => isWithin(at, now, CHANGE_MS);

/** Denials of hosts that the policy knows: a rule may have been removed. */
function findPolicy({ denials, proxy, at: now }: IncidentEvidence): NamelessFinding[] {
  const known = denials.filter(
    ({ code, destination, count }) =>
      FAULTS[code].blame === 'policy' && !RATED.has(code) && code !== 'address-not-allowed' && destination !== '-' && count >= FEW,
  );
  return known.map((group) => {
    const { policyChange, loadedAt } = proxy;
    const changed = policyChange !== null && policyChange.denies && isFresh(policyChange, now) && group.first >= policyChange.at;
    return completeFinding({
      part: changed ? 'proxy' : 'pod',
      state: changed ? 'broken' : 'degraded',
      confidence: changed ? 'likely' : 'unsure',
      destination: group.destination,
      what: changed
        ? `since the reload at ${formatMoment(policyChange.at)} it denies ${group.client} with ${group.code}`
        : `${group.client} asks for what the policy does not permit: ${group.code}`,
      since: group.first,
      evidence: [denialLine(group), ...(changed ? [{ at: policyChange.at, text: `Reload: ${policyChange.sentence}` }] : [])],
      alternatives: changed
        ? [{ part: 'pod', why: 'the change may be intended, and the client not informed' }]
        : [{ part: 'proxy', why: `a rule may be missing in the configuration, which was loaded at ${formatMoment(loadedAt)}` }],
      next: ['Follow "why?" beside the denial on the status page: it names the change that would permit it.'],
    });
  });
}

const RATED: ReadonlySet<string> = new Set(['rate-limited', 'byte-limit-reached']);

const denialLine = ({ client, clientAddress, code, host, hosts, count, last }: DeniedRequests): { at: number; text: string } => ({
  at: last,
  text: `${count} ${count === 1 ? 'request' : 'requests'} of ${client} (${clientAddress}) refused in the last minute with ${code}, for ${hosts === 1 ? host : `${hosts} hosts, such as ${host}`}`,
});

function findPod({ denials }: IncidentEvidence): NamelessFinding[] {
  const pod = (group: DeniedRequests, what: string, more: Partial<NamelessFinding>): NamelessFinding =>
    completeFinding({ part: 'pod', state: 'degraded', what, since: group.first, evidence: [denialLine(group)], ...more });
  return denials.flatMap((group) => {
    const { client, clientAddress, code, count, hosts } = group;
    const who = client === '-' ? clientAddress : `${client} (${clientAddress})`;
    if (RATED.has(code) && count >= FEW)
      return [
        pod(group, `${who} has used up what its rate permits: ${code}`, {
          confidence: 'likely',
          alternatives: [{ part: 'proxy', why: 'the rate of its rule may be too small for what is meant' }],
          next: ['Look at the pod; if it does what it should, raise the rate of its rule.'],
        }),
      ];
    if (code === 'limit-reached' && count >= FEW)
      return [
        pod(group, `a limit refuses requests of ${who}: ${count} in the last minute`, {
          part: 'proxy',
          state: 'broken',
          confidence: 'likely',
          alternatives: [
            { part: 'pod', why: 'it may ask for, or hold, more than it should' },
            { part: 'partner-application', why: 'answers that take long hold for long what is limited' },
          ],
          next: [
            'Follow "why?" beside the denial on the status page: it names the limit. See what holds so many, add replicas, or raise the limit.',
          ],
        }),
      ];
    if (count >= FLOOD && ASKED_WRONGLY.has(FAULTS[code].blame))
      return [
        pod(
          group,
          `${who} sends a flood of requests that are refused: ${count} in the last minute, for ${hosts === 1 ? 'one host' : `${hosts} hosts`} (${code})`,
          { next: ['Look at that pod: the access log has its address and what it asks for.'] },
        ),
      ];
    if (FAULTS[code].blame === 'client' && count >= FEW && !ENDS.has(code))
      return [
        pod(group, `${who} sends what the proxy cannot accept: ${code}`, {
          next: [`Correct the client: docs/errors.md says what to do about ${code}.`],
        }),
      ];
    return [];
  });
}

/** Excludes refusals for missing resources of the upstream or the proxy. */
const ASKED_WRONGLY: ReadonlySet<string> = new Set(['policy', 'client']);
/** A client that disconnects is no fault. */
const ENDS: ReadonlySet<string> = new Set(['client-closed', 'client-stalled']);

function findReload({ proxy }: IncidentEvidence): NamelessFinding[] {
  if (proxy.reloadRefused.length === 0) return [];
  return [
    completeFinding({
      part: 'proxy',
      state: 'degraded',
      what: 'the configuration that was offered last is faulty and was refused; the one before stays in force',
      evidence: [
        ...proxy.reloadRefused.map((text) => ({ at: null, text })),
        { at: proxy.loadedAt, text: 'Configuration in force since then' },
      ],
      next: ['Correct the file: npx eco-egress check names every fault with its line.'],
    }),
  ];
}

/** Clients that it denies may have used another replica. */
function findChange({ at: now, proxy: { policyChange } }: IncidentEvidence, earlier: readonly IncidentFinding[]): NamelessFinding[] {
  if (policyChange === null || !isFresh(policyChange, now) || !policyChange.denies || earlier.some(({ rule }) => rule === 'policy'))
    return [];
  return [
    completeFinding({
      part: 'proxy',
      state: 'degraded',
      confidence: 'unsure',
      what: 'the latest reload denies requests that were permitted before',
      since: policyChange.at,
      evidence: [
        { at: policyChange.at, text: `Reload: ${policyChange.sentence}` },
        ...policyChange.classes.map((text) => ({ at: null, text })),
      ],
      alternatives: [{ part: 'pod', why: 'the change may be meant, and this replica was not asked for any of it' }],
      next: ['If it is not meant, take the change back and reload.'],
    }),
  ];
}

/** Requests are served, and what is recorded of them is incomplete. */
function findLostTelemetry({ proxy: { telemetry } }: IncidentEvidence): NamelessFinding[] {
  if (telemetry.length === 0) return [];
  return [
    completeFinding({
      part: 'proxy',
      state: 'degraded',
      what: 'it serves requests, and log, metrics or traces lose some of what it records',
      evidence: telemetry.map((text) => ({ at: null, text })),
      next: ['For the log: is the disk full, or the reader of standard output gone or slow? For traces: does the collector accept them?'],
    }),
  ];
}

/** In the order in which they are tried and named. */
export const PROXY_RULES: readonly IncidentRule[] = [
  { name: 'draining', find: findDraining },
  { name: 'not-enforcing', find: findNotEnforcing },
  { name: 'overload', find: findOverload },
];

/** Named after the causes in the network. */
export const POLICY_RULES: readonly IncidentRule[] = [{ name: 'policy', find: findPolicy }];

/** Named only after all causes that break requests. */
export const MINOR_RULES: readonly IncidentRule[] = [
  { name: 'reload-refused', find: findReload },
  { name: 'policy-change', find: findChange },
  { name: 'lost-telemetry', find: findLostTelemetry },
  { name: 'client-requests', find: findPod },
  { name: 'late', find: findLateness },
];

/**
 * What the program prints for other programs, as zod schemas that the types of
 * the source are held to: a field that is missing here, or is of another type,
 * fails `npm run types`, and one that is new fails the tests that validate real
 * outputs, since no object may have others than these.
 * Longer than 400 lines: it is a table of all outputs.
 */
import * as z from 'zod';
import { FORMS, type LogConfig, PEER_HEADERS, WARNING_KINDS } from '../src/config/config.ts';
import type { Setting } from '../src/config/settings.ts';
import { DOCTOR_CODES, type DoctorReport } from '../src/doctor/finding.ts';
import { type FaultCode, FAULTS } from '../src/errors.ts';
import type { ExplainAnswer } from '../src/explain/answer.ts';
import { DIFF_CHANGES, type DiffChange } from '../src/policy-diff/diff-class.ts';
import type { DiffRequest, DiffVerdict } from '../src/policy-diff/judge-request.ts';
import type { Peer } from '../src/policy/verdict.ts';
import { BAND_STATES, DESTINATION_STATES, type StatusHistory, type StatusView } from '../src/admin/status-view.ts';
import type { DrainView } from '../src/drain/drain-view.ts';
import type { DenialsView } from '../src/explain/recent-denials.ts';
import { INCIDENT_PARTS } from '../src/incident/evidence.ts';
import { INCIDENT_CONFIDENCES } from '../src/incident/finding.ts';
import { INCIDENT_STATES, type IncidentVerdict } from '../src/incident/judge.ts';
import type { InForce } from '../src/reload/in-force.ts';
import type { OtherChange } from '../src/reload/other-changes.ts';
import type { OutcomeReport } from '../src/reload/outcome.ts';
import type { SourceView } from '../src/source-ip/source-proof.ts';
import type { Verification } from '../src/source-ip/verify.ts';
import { type HealthView, LAST_OUTCOMES } from '../src/telemetry/destination-health.ts';
import type { TunnelsView } from '../src/telemetry/open-tunnels.ts';

const CODES = Object.keys(FAULTS) as [FaultCode, ...FaultCode[]];
const code = z.enum(CODES);
const codeOrOk = z.enum(['ok', ...CODES]);
const form = z.enum(FORMS);
const verdict = z.enum(['allow', 'deny', 'report']);
const text = z.string();
const texts = z.array(text);
const orNull = text.nullable();
const count = z.int().min(0);
const moment = z.iso.datetime();
const peer = { address: text, user: orNull, token: z.strictObject({ issuer: text, audiences: texts, subject: text }).nullable(), sans: texts, rejected: orNull };
const hash = z.string().regex(/^[0-9a-f]{16}$/).describe('Of the whole configuration.');
/** A word of a type of the source that has no list of its own. */
const word = <T extends string>(): z.ZodType<T> => z.string() as unknown as z.ZodType<T>;

// explain

const address = z.strictObject({ address: text, class: word<NonNullable<NonNullable<ExplainAnswer['addresses']>[number]['class']>>().nullable(), via: word<NonNullable<NonNullable<ExplainAnswer['addresses']>[number]['via']>>().nullable(), reference: orNull, verdict, code: code.nullable(), detail: orNull, remedy: orNull });

const change = z.strictObject({ text: text.describe('In words.'), yaml: orNull.describe('The parts of the file as they would then be; null where no change is safe.') });

const explain = z.strictObject({
  verdict,
  code: codeOrOk.describe('ok, or what stands against it.'),
  status: z.int().nullable().describe('What the client gets instead of an answer of the upstream; null when it gets that.'),
  why: text.describe('The rule that lets it pass, or the reason why not: one sentence.'),
  remedy: orNull.describe('What would have to change; null when nothing has to, or nothing in the file could.'),
  change: change.nullable().describe('The same as an edit of the file.'),
  report: orNull.describe('What report mode does about it.'),
  mode: z.enum(['enforce', 'report']),
  configHash: hash,
  asked: z.strictObject({ method: text, target: text, host: orNull }),
  peer: z.strictObject(peer),
  target: z.strictObject({ form, method: orNull, host: text, kind: z.enum(['name', 'ipv4', 'ipv6']), port: z.int(), path: orNull, ambiguity: orNull }).nullable(),
  client: orNull,
  destination: orNull,
  rule: orNull.describe('The rule that lets it pass, by its place in the file: rules[0].'),
  clients: z.array(z.strictObject({ name: text, matches: z.boolean(), chosen: z.boolean(), kinds: z.array(z.strictObject({ kind: z.enum(['addresses', 'basic', 'tokens', 'certificates']), matches: z.boolean(), detail: text })) })),
  clientsLeftOut: count,
  destinations: z.array(z.strictObject({ name: text, pattern: text, chosen: z.boolean(), checks: z.array(z.strictObject({ check: z.enum(['port', 'form', 'rule', 'method', 'path']), passes: z.boolean(), detail: text })) })),
  rules: z.array(z.strictObject({ rule: text, destination: text, applies: z.boolean(), detail: text, owner: orNull, reason: orNull, ticket: orNull, until: orNull })),
  addresses: z.array(address).nullable().describe('Null where the name was not looked up.'),
  way: z.array(z.strictObject({ hop: text, parents: z.array(z.strictObject({ url: text, addresses: z.array(address).nullable(), detail: orNull })) })),
  notes: texts,
}) satisfies z.ZodType<ExplainAnswer>;

// doctor

const doctor = z.strictObject({
  ok: z.boolean().describe('No finding is a failure.'),
  mode: z.enum(['proxy', 'client']),
  about: text,
  checks: z.array(
    z.strictObject({
      name: text,
      title: text,
      findings: z.array(z.strictObject({ state: z.enum(['ok', 'warn', 'fail', 'skipped']), subject: text, code: z.enum([...DOCTOR_CODES, ...CODES]).nullable(), seen: text, advice: orNull })),
    }),
  ),
}) satisfies z.ZodType<DoctorReport>;

// doctor --incident

const part = z.enum(INCIDENT_PARTS);
const partAndWhy = z.array(z.strictObject({ part, why: text }));

const incident = z.strictObject({
  at: moment,
  instance: text.describe('Name of the replica that answered; -: none did.'),
  asked: orNull.describe('The destination that was asked about; null: all.'),
  state: z.enum(INCIDENT_STATES).describe('ok: nothing is wrong. degraded: something is, and requests are served. broken: requests fail.'),
  part: part.nullable().describe('The part at fault; null: nothing is wrong.'),
  confidence: z.enum(INCIDENT_CONFIDENCES).nullable().describe('unsure: the evidence does not tell, and the alternatives are as likely.'),
  destination: orNull.describe('Null: it concerns all, or none.'),
  sentence: text.describe('Who, what, since when.'),
  since: moment.nullable(),
  evidence: z.array(z.strictObject({ at: moment.nullable().describe('Null: it holds now.'), text })),
  alternatives: partAndWhy.describe('What else it may be.'),
  ruledOut: partAndWhy,
  also: z.array(z.strictObject({ part, state: z.enum(['broken', 'degraded']), destination: orNull, sentence: text })).describe('Further causes that were found.'),
  next: texts.describe('What to do.'),
  runbook: text,
  letter: orNull.describe('A paragraph to send to the partner; null: it is not the likely cause.'),
}) satisfies z.ZodType<IncidentVerdict>;

// check

const finding = { file: text, line: z.int().nullable(), column: z.int().nullable(), path: text.describe('Of the key: destinations.eco-sit.ports[1].'), problem: text, instead: text };

const listenAddress = { host: text, port: z.int().min(0).max(65_535) };

const listener = z.strictObject({ ...listenAddress, forms: z.array(form), trustedPeers: texts, proxyProtocol: z.enum(['off', 'from-trusted']), believe: z.array(z.enum(PEER_HEADERS)) });

const permit = z.strictObject({
  client: text,
  clientAddresses: texts.nullable(),
  clientUsers: texts.nullable(),
  clientTokenSubjects: texts.nullable(),
  clientCertificates: texts.nullable(),
  destination: text,
  hosts: texts,
  ports: z.array(z.union([z.int(), text])).describe('Ports, and ranges such as 8000-8100.'),
  forms: z.array(form),
  gateway: orNull,
  methods: texts.nullable().describe('Null: any.'),
  paths: texts.nullable().describe('Null: any.'),
  pathsWithin: texts.nullable(),
  from: moment.nullable(),
  until: moment.nullable(),
  owner: orNull,
  reason: orNull,
  ticket: orNull,
  addresses: texts.nullable().describe('Null: public addresses only.'),
  via: texts,
  resolve: z.enum(['here', 'parent']),
  proxyProtocol: z.enum(['v1', 'v2']).nullable(),
  rule: text,
  report: z.boolean(),
  rate: texts.describe('Limits of the rule, each in words; empty: none.'),
});

const setting = z.strictObject({ path: text, value: z.unknown(), origin: z.strictObject({ from: z.enum(['file', 'variable', 'default']), line: z.int().nullable(), variables: texts }) }) satisfies z.ZodType<Setting>;

const ending = z.strictObject({ rule: text, clients: texts, destinations: texts, owner: orNull, reason: orNull, ticket: orNull, until: moment });

const check = z.union([
  z
    .strictObject({
      ok: z.literal(true),
      file: text,
      hash,
      permits: z.array(permit),
      listeners: z.strictObject({ http: z.array(listener), tls: z.array(listener), admin: z.strictObject({ ...listenAddress, hosts: texts }) }),
      warnings: z.array(z.strictObject({ ...finding, kind: z.enum(WARNING_KINDS) })),
      settings: z.array(setting).optional().describe('With --effective.'),
    })
    .describe('A file that can be served.'),
  z.strictObject({ ok: z.literal(false), file: text, faults: z.array(z.strictObject(finding)).min(1) }).describe('A faulty file.'),
  z.strictObject({ ok: z.boolean().describe('No rule has ended.'), file: text, hash, ended: z.array(ending), soon: z.array(ending).describe('Within 14 days.') }).describe('With --expired.'),
]);

// test

const test = z.strictObject({
  ok: z.boolean(),
  files: z.array(
    z.strictObject({
      file: text,
      config: text,
      tests: z.array(
        z.strictObject({
          name: text,
          line: z.int().min(1),
          ok: z.boolean(),
          differences: z.array(z.strictObject({ what: z.enum(['verdict', 'code', 'client', 'destination', 'rule']), expected: text, actual: text })),
          verdict,
          code: codeOrOk,
          client: orNull,
          destination: orNull,
          rule: orNull,
          why: text,
        }),
      ),
    }),
  ),
  coverage: z
    .array(z.strictObject({ config: text, total: count, touched: count, untouched: z.array(z.strictObject({ kind: z.enum(['rule', 'client', 'destination', 'host']), name: text })) }))
    .optional()
    .describe('With --coverage or --min-coverage.'),
});

// diff

const diffPeer = z.strictObject(peer) satisfies z.ZodType<Peer>;

const diffVerdict = z.strictObject({
  verdict: verdict satisfies z.ZodType<DiffVerdict['verdict']>,
  code: codeOrOk.describe('ok, or what stands against it; with report, what report mode does not enforce.') satisfies z.ZodType<DiffVerdict['code']>,
  client: orNull,
  destination: orNull,
  rule: orNull.describe('By its place in that file: rules[0].'),
  leads: orNull.describe('Where it leads, as far as the request does not say so: the URL of a gateway, another port.'),
});

const diffCodes = z.array(codeOrOk).min(1);
const whoAsks = text.describe('Name of a client, or for somebody who is none the code of the denial.');

const diffClass = z.strictObject({
  change: z.enum(DIFF_CHANGES).describe('allowed: newly. denied: newly. otherwise: let through before and after, in another way. refused: denied before and after, with another code.') satisfies z.ZodType<DiffChange>,
  text: text.describe('The requests, in words.'),
  outcome: text.describe('What became of them and becomes of them, in words.'),
  codes: z.strictObject({ before: diffCodes, after: diffCodes }).describe('All codes of the class; before and after have those of the witness.'),
  before: diffVerdict.describe('On the witness.'),
  after: diffVerdict.describe('On the witness.'),
  hosts: texts.describe('eco.example, *.example, or * for every host that no file names; empty for the gateway.'),
  prefixes: texts.describe('Of the gateway; empty for other forms.'),
  forms: z.array(form).min(1),
  ports: texts.describe('Ports, and ranges such as 8000-8100; of no meaning to sni and gateway.'),
  methods: z.union([z.strictObject({ only: texts }), z.strictObject({ allBut: texts })]).describe('Of no meaning to tunnels.'),
  times: z.array(z.strictObject({ from: moment, until: moment.nullable().describe('No more at this moment; null: without end.') })).min(1),
  clients: z.array(z.strictObject({ before: whoAsks, after: whoAsks, peer: diffPeer.describe('One of them.') })).min(1),
  resolving: orNull.describe('To which addresses the name resolves, in words; null: wherever it leads.'),
  witness: z
    .strictObject({
      form,
      peer: diffPeer,
      now: moment,
      host: text.describe('Empty for the gateway.'),
      port: z.int().min(0).max(65_535).describe('0 where the request has none.'),
      scheme: z.enum(['http', 'https']).describe('By which a steered request came.'),
      method: orNull,
      path: orNull,
      resolves: orNull.describe('The address that the name resolves to; null: any.'),
      explain: texts.describe('Arguments of explain for it.'),
    } satisfies Record<keyof DiffRequest | 'resolves' | 'explain', z.ZodType>)
    .describe('One of the requests.'),
});

const otherChange = z.strictObject({
  path: text.describe('Of the key: timeouts.connect.'),
  before: z.unknown().describe('Null: not set.'),
  after: z.unknown().describe('Null: not set.'),
  needsRestart: z.boolean().describe('It takes effect at the next start, and not at a reload.'),
}) satisfies z.ZodType<OtherChange>;

const comparedFile = z.strictObject({ file: text, hash });

const diff = z.strictObject({
  equivalent: z.boolean().describe('Both decide every request alike: there is no class.'),
  from: moment.describe('From when on requests count: now, or --at.'),
  before: comparedFile,
  after: comparedFile,
  classes: z.array(diffClass).describe('All requests that are decided in another way.'),
  others: z.array(otherChange).describe('Changes on which no decision depends.'),
  policyKeys: texts.describe('Keys of the policy that are written in another way, whether that changes a decision or not.'),
});

// suggest

const seenRequest = z.strictObject({
  form,
  port: z.int().min(0).max(65_535),
  method: orNull.describe('Null in a tunnel, as path.'),
  path: orNull,
  code: text.describe('Why it was denied, or would have been.'),
  count,
  first: moment,
  last: moment,
});

const deniedGroup = { who: text.describe('Name of a client, or an address that is none.'), host: text, count, addresses: texts.describe('That asked, the first hundred of each request.'), requests: z.array(seenRequest).min(1) };

const suggest = z.strictObject({
  file: text,
  hash,
  denials: count,
  lines: z.strictObject({ access: count, other: count }).nullable().describe('Of the logs; null: a running proxy was asked.'),
  leftOut: count.describe('Denials that were not looked at, because there were too many kinds.'),
  permitted: count.describe('Denials of requests that the file permits by now.'),
  proposed: z.array(z.strictObject({ ...deniedGroup, changes: texts.describe('In words; none: a change before it permits these requests.'), permits: texts.describe('All requests that the changes permit, in words.') })),
  declined: z.array(z.strictObject({ ...deniedGroup, reason: text })),
  generalised: texts,
  classes: z.array(diffClass).describe('All requests that the changes together decide in another way, as diff tells them.'),
  problems: texts.describe('What has to be written by hand.'),
  patch: orNull.describe('A unified diff of the file; null: nothing to change, or not automatically.'),
});

// What the status page shows.

const momentOrNull = moment.nullable();
const amount = z.number().min(0);
const codeCounts = z.array(z.strictObject({ code: text, count }));
const end = { ends: moment, days: z.int().describe('Until then; negative: it has expired.') };
const keptRequest = z.strictObject({ requestId: text, at: moment, verdict: z.enum(['deny', 'report', 'allow']), code: text, detail: text, client: text, method: text, host: text, port: z.int(), destination: text });
const curve = z.array(z.number().nullable()).describe('One number for each step, the oldest first.');
const byClient = z.array(z.strictObject({ client: text, tunnels: count }));

const statusDestination = z.strictObject({
  name: text,
  hosts: texts,
  ports: texts,
  via: texts,
  state: z.enum(DESTINATION_STATES),
  circuits: z.array(z.strictObject({ of: text, address: text, state: text, failures: count, since: moment.nullable(), reason: text, nextTrial: moment.nullable() })).describe('Addresses that have failed in a row.'),
  requestsPerSecond: amount.describe('Over the last ten seconds.'),
  requests: count.describe('In the last minute.'),
  failures: z.strictObject({ minute: codeCounts, hour: codeCounts }),
  errors: z.strictObject({ minute: count, hour: count }).describe('Answers with 5xx.'),
  p50: amount.nullable().describe('Of exchanges of the last minute, ms.'),
  p99: amount.nullable(),
  lastOk: momentOrNull,
  lastError: z.strictObject({ at: moment, status: z.int() }).nullable(),
  lastFailure: z.strictObject({ at: moment, code: text, detail: text }).nullable(),
  addresses: z.array(z.strictObject({ address: text, at: moment })),
  certificate: z.strictObject(end).nullable().describe('That it last showed us; null: none was seen.'),
  pool: z.strictObject({ active: count, idle: count, queued: count }),
  tunnels: count,
  nat: z.strictObject({ used: count, highWater: count, refused: count }),
});

const drainTunnels = z.strictObject({ open: count, idle: count, busy: count, endsPerSecond: z.number().min(0), medianAge: z.number().min(0).nullable(), oldestAge: z.number().min(0).nullable() });

const drainFields = {
  state: z.enum(['running', 'delay', 'draining', 'ended']).describe('running: there is none, and the rest is a forecast.'),
  deadline: moment.nullable(),
  secondsLeft: z.number().min(0).nullable(),
  tunnels: drainTunnels,
  exchanges: count,
  ended: z.strictObject({ byThemselves: count, quiet: count, busy: count, cut: count, exchangesCut: count }),
};

const SOURCE_RESULTS = ['match', 'mismatch', 'unknown', 'unjudged'] as const;
const sourceResult = z.enum(SOURCE_RESULTS);

const sourceFields = {
  result: z.enum([...SOURCE_RESULTS, 'pending', 'off']),
  seen: orNull,
  expected: texts,
  since: momentOrNull,
  at: momentOrNull,
  reason: orNull,
};

const openTunnel = z.strictObject({ requestId: text, client: text, clientAddress: text, host: text, port: z.int(), ageMs: count, bytesSent: count, bytesReceived: count });

const statusView = z.strictObject({
  at: moment,
  instance: text.describe('Name of this replica.'),
  version: text,
  uptimeSeconds: count,
  band: z.strictObject({ state: z.enum(BAND_STATES), reasons: texts, notes: texts }),
  drain: z.strictObject(drainFields),
  requestsPerSecond: amount,
  failures: count.describe('Failed dials and exchanges in the last minute.'),
  errors: count.describe('Answers with 5xx in the last minute.'),
  denials: count.describe('In the last minute.'),
  limits: z.array(z.strictObject({ name: text, used: count, limit: count.nullable() })),
  clients: z.array(z.strictObject({ client: text, requestsPerSecond: amount, requests: count, denials: count, tunnels: count })),
  clientsLeftOut: count,
  source: z.strictObject({
    ...sourceFields,
    history: z.array(z.strictObject({ at: moment, result: text, seen: orNull, code: orNull })).describe('Changes, the latest first.'),
  }),
  natLimit: count.nullable(),
  destinations: z.array(statusDestination).describe('Those that fail first, then the busiest.'),
  destinationsLeftOut: count,
  tunnels: z.strictObject({ open: count, byClient, oldest: z.array(openTunnel) }),
  shortTunnels: byClient,
  latestFailures: z.array(keptRequest),
  latestDenials: z.array(keptRequest),
  frequentDenials: z.array(z.strictObject({ client: text, host: text, count, overcount: count, code: text, requestId: text })),
  denialsTotal: count,
  configuration: z.strictObject({
    file: orNull,
    hash: text,
    loadedAt: moment,
    mode: z.enum(['enforce', 'report']),
    enforcement: text.describe('What the self-test found.'),
    listeners: z.array(z.strictObject({ name: text, addresses: texts })),
    reload: z.strictObject({ at: moment, sentence: text, classes: texts }).nullable(),
    ruleEnds: z.array(z.strictObject({ rule: text, clients: texts, destinations: texts, until: moment, state: z.enum(['ended', 'soon', 'later']), owner: orNull, ticket: orNull, reason: orNull })),
    ruleEndsLeftOut: count,
  }),
  certificates: z.array(z.strictObject({ name: text, ...end })),
}) satisfies z.ZodType<StatusView>;

const statusHistory = z.strictObject({
  step: count.describe('Number of the latest step.'),
  stepSeconds: amount,
  at: moment,
  curves: z.array(z.strictObject({ name: text.describe('Of the destination; empty: all together.'), requests: curve.describe('Per second.'), failures: curve.describe('Per minute, with answers of 5xx.'), denials: curve.describe('Per minute; of all together alone.'), p99: curve.describe('Ms.') })),
}) satisfies z.ZodType<StatusHistory>;

const status = statusView.extend({ history: statusHistory.describe('The last 15 minutes.') });

// What the admin port answers besides.

const drain = z.strictObject({
  ...drainFields,
  tunnels: drainTunnels.extend({ byClient: byClient.describe('Most first.'), byDestination: z.array(z.strictObject({ destination: text, tunnels: count })).describe('Most first.') }),
}) satisfies z.ZodType<DrainView>;

const tunnels = z.strictObject({
  open: count,
  byClient: byClient.describe('Most first.'),
  oldest: z.array(openTunnel.extend({ form, destination: text, upstreamAddress: text.describe('-: only the parent proxy knows.') })).describe('The 200 oldest.'),
}) satisfies z.ZodType<TunnelsView>;

const statusCount = z.strictObject({ '1xx': count, '2xx': count, '3xx': count, '4xx': count, '5xx': count });

const destinations = z.strictObject({
  destinations: z.array(
    z.strictObject({
      destination: text,
      last: z.enum(LAST_OUTCOMES).nullable().describe('ok: an answer below 500, or a tunnel. error: an answer of 5xx. failed: no answer. Null: no request since the start.'),
      inRow: count.describe('The latest requests with that outcome.'),
      lastOk: momentOrNull,
      lastError: z.strictObject({ at: moment, status: z.int() }).nullable(),
      lastFailure: z.strictObject({ at: moment, code, detail: text }).nullable(),
      answers: statusCount.describe('By class of their status.'),
      failures: z.partialRecord(code, count).describe('By code; without those that never occurred.'),
    }),
  ),
}) satisfies z.ZodType<{ readonly destinations: readonly HealthView[] }>;

const denialRecord = z.strictObject({
  requestId: text,
  time: moment.describe('When it ended.'),
  verdict: verdict.describe('report: let through by report mode alone.'),
  code,
  detail: text,
  remedy: orNull,
  status: z.int().min(0).max(599).describe('Sent to the client; 0: none.'),
  form: z.enum([...FORMS, '-']),
  client: text.describe('-: the peer is no client.'),
  clientAddress: text,
  method: text,
  host: text,
  port: z.int().min(0).max(65_535),
  path: text,
  destination: text,
});

const denials = z.strictObject({
  total: count.describe('Since the start.'),
  kept: count.describe('Most single denials that are kept.'),
  frequent: z.array(z.strictObject({ client: text, host: text, count: count.describe('At most overcount too many.'), overcount: count, latest: denialRecord })).describe('Most first.'),
  latest: z.array(denialRecord).describe('The latest first.'),
}) satisfies z.ZodType<DenialsView>;

const sourceIp = z.strictObject({
  ...sourceFields,
  code: code.nullable().describe('Why the address is not known.'),
  remark: orNull,
  lastSeen: z.strictObject({ address: orNull, at: moment }).nullable().describe('When an address was last known.'),
  history: z.array(z.strictObject({ at: moment, result: sourceResult, seen: orNull, code: code.nullable() })).describe('Changes, the latest first.'),
  silentPartners: z.array(z.strictObject({ destination: text, cause: text, since: moment, timeouts: count, words: text, check: text })).describe('Partners whose connects time out.'),
}) satisfies z.ZodType<SourceView>;

const difference = z.strictObject({ path: text, before: z.unknown().describe('Null: not set.'), after: z.unknown().describe('Null: not set.') });

const inForce = z.strictObject({
  file: orNull.describe('Null: not from a file.'),
  hash,
  loadedAt: moment,
  warnings: texts,
  settings: z.array(setting),
}) satisfies z.ZodType<Pick<InForce, 'file' | 'hash'>>;

// reload

const decisionChanges = z.array(z.strictObject({ client: text, clientAddress: text, form, host: text, port: z.int(), code: codeOrOk.describe('Of the new verdict.'), detail: text, count }));
const decided = { newlyDenied: decisionChanges.describe('Latest requests that would be denied now.'), newlyAllowed: decisionChanges };

const reload = z.union([
  z
    .strictObject({
      result: z.literal('applied'),
      file: orNull,
      hash,
      loadedAt: moment,
      before: hash.describe('Of the configuration before.'),
      differences: z.array(difference),
      needRestart: texts.describe('Keys whose change takes effect at the next start.'),
      warnings: texts,
      replayed: count.describe('Latest requests that were compared.'),
      tunnelsCut: count,
      ...decided,
    })
    .describe('The file is in force.'),
  z.strictObject({ result: z.literal('refused'), reasons: texts, ...decided }).describe('The previous configuration stays active.'),
]) satisfies z.ZodType<OutcomeReport>;

// verify-ip

const phase = z.number().min(0).exactOptional();

const verifyIp = z.strictObject({
  result: sourceResult.describe('The worst of the observations.'),
  expected: texts,
  url: text,
  via: texts,
  observations: z.array(
    z.strictObject({
      result: sourceResult,
      seen: orNull,
      endpointAddress: orNull.describe('Null: it was not dialled.'),
      localAddress: orNull.describe('Our end, before any NAT.'),
      phases: z.strictObject({ dns: phase, tcp: phase, hop: phase, tls: phase, answer: phase }).describe('Ms.'),
      code: code.nullable(),
      reason: orNull,
    }),
  ),
  remarks: texts,
  causes: z.array(z.strictObject({ cause: text, check: text })).describe('Likely ones; empty with match.'),
}) satisfies z.ZodType<Verification>;

// The body of a refusal, and of one by the admin port.

const problem = z.union([
  z
    .strictObject({
      type: z.enum(CODES.map((each) => `urn:eco-egress:error:${each}`) as [string, ...string[]]),
      title: text,
      status: z.int().min(400).max(599),
      detail: text,
      code,
      requestId: text,
      remedy: text.optional(),
    })
    .describe('To a client.'),
  z.strictObject({ type: z.literal('about:blank'), title: text, status: z.int().min(400).max(599), detail: text, paths: z.record(text, text).describe('What the admin port serves.') }).describe('By the admin port.'),
]);

// A line of the log. docs/log.md describes each field.

const level = z.enum(['debug', 'info', 'warn', 'error']);
const leads = {
  plain: {},
  google: { severity: z.enum(['DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL']), message: text },
  dynatrace: { loglevel: z.enum(['DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL']), timestamp: moment, content: text },
};
const ms = z.number().min(0);

/** Fields of the access line; the tests compare them with docs/log.md. */
export const ACCESS_LINE = {
  level: z.enum(['info', 'warn', 'error']),
  time: moment,
  requestId: text,
  form: z.enum([...FORMS, '-']),
  client: text,
  clientAddress: text,
  method: text,
  host: text,
  port: z.int().min(0).max(65_535),
  path: text,
  user: text.optional(),
  subject: text.optional(),
  san: text.optional(),
  destination: text,
  rule: text,
  verdict: z.enum(['allow', 'deny', 'report', '-']),
  wouldDeny: code.optional(),
  code: codeOrOk,
  status: z.int().min(0).max(599),
  upstreamAddress: text,
  upstreamStatus: z.int().optional(),
  localAddress: text.optional(),
  localPort: z.int().optional(),
  via: text.optional(),
  attempts: z.int().min(2).optional(),
  dials: z.int().min(2).optional(),
  reusedConnection: z.boolean(),
  phases: z.strictObject({ dns: ms.optional(), tcp: ms.optional(), hop: ms.optional(), tls: ms.optional(), firstByte: ms.optional() }),
  durationMs: ms,
  bytesSent: count,
  bytesReceived: count,
  closedBy: z.enum(['client', 'upstream', 'proxy', '-']),
  'dt.trace_id': text.optional(),
  'dt.span_id': text.optional(),
  detail: text.optional(),
  msg: text,
};

const digits = z.string().regex(/^\d+$/);

/** What a profile adds to an access line; the tests compare it with docs/log.md. */
export const PROFILE_FIELDS = {
  plain: {},
  google: {
    ...leads.google,
    httpRequest: z.strictObject({ requestMethod: text.optional(), requestUrl: text.optional(), status: z.int().optional(), requestSize: digits, responseSize: digits, remoteIp: text, serverIp: text.optional(), latency: z.string().regex(/^\d+\.\d{5}s$/) }),
    'logging.googleapis.com/trace': text.optional(),
    'logging.googleapis.com/spanId': text.optional(),
  },
  dynatrace: {
    ...leads.dynatrace,
    'client.address': text,
    'http.request.method': text.optional(),
    'http.response.status_code': z.int().optional(),
    'server.address': text.optional(),
    'server.port': z.int().optional(),
    'url.path': text.optional(),
    'network.peer.address': text.optional(),
    'error.type': code.optional(),
    trace_id: text.optional(),
    span_id: text.optional(),
  },
} as const satisfies Readonly<Record<LogConfig['profile'], z.core.$ZodLooseShape>>;

/** A notice has fields of its own, but none by which an access line is known. */
const lineOf = (profile: LogConfig['profile']): z.ZodType[] => [
  z.strictObject({ ...ACCESS_LINE, ...PROFILE_FIELDS[profile] }).describe(`With log.profile ${profile}: written when an exchange or tunnel has ended.`),
  z.looseObject({ level, time: moment, msg: text, ...leads[profile], durationMs: z.never().optional() }).describe(`With log.profile ${profile}: a notice for operators. Further fields depend on what it tells.`),
];

const logLine = z.union([...lineOf('plain'), ...lineOf('google'), ...lineOf('dynatrace')]);

/** By the name under which `eco-egress schema` prints it, without the version. */
export const OUTPUTS = {
  check: { title: 'npx eco-egress check --json', page: 'docs/configuration.md', schema: check },
  'config-in-force': { title: 'GET /config of the admin port', page: 'docs/reload.md', schema: inForce },
  denials: { title: 'GET /denials of the admin port', page: 'docs/explain.md', schema: denials },
  destinations: { title: 'GET /destinations of the admin port', page: 'docs/operations.md', schema: destinations },
  diff: { title: 'npx eco-egress diff --json', page: 'docs/policy-diff.md', schema: diff },
  doctor: { title: 'npx eco-egress doctor --json', page: 'docs/doctor.md', schema: doctor },
  drain: { title: 'GET /drain of the admin port', page: 'docs/operations.md', schema: drain },
  explain: { title: 'npx eco-egress explain --json, and GET /explain', page: 'docs/explain.md', schema: explain },
  incident: { title: 'npx eco-egress doctor --incident --json, and POST /incident', page: 'docs/doctor.md', schema: incident },
  'log-line': { title: 'A line of the log of eco-egress', page: 'docs/log.md', schema: logLine },
  problem: { title: 'The body of a refusal by eco-egress (RFC 9457)', page: 'docs/errors.md', schema: problem },
  reload: { title: 'npx eco-egress reload --json, and POST /reload', page: 'docs/reload.md', schema: reload },
  'source-ip': { title: 'GET /source-ip of the admin port', page: 'docs/source-ip.md', schema: sourceIp },
  status: { title: 'GET /status.json of the admin port', page: 'docs/operations.md', schema: status },
  suggest: { title: 'npx eco-egress suggest --json', page: 'docs/suggest.md', schema: suggest },
  test: { title: 'npx eco-egress test --json', page: 'docs/policy-tests.md', schema: test },
  tunnels: { title: 'GET /tunnels of the admin port', page: 'docs/operations.md', schema: tunnels },
  'verify-ip': { title: 'npx eco-egress verify-ip --json', page: 'docs/source-ip.md', schema: verifyIp },
} as const satisfies Readonly<Record<string, { title: string; page: string; schema: z.ZodType }>>;

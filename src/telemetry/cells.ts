/**
 * Where the metrics are counted: plain numbers in maps, keyed by names of the
 * configuration. Any other name counts under `-`, so clients cannot add a
 * series.
 */
import type { Form, WarningKind } from '../config/config.ts';
import type { RuleEnd } from '../config/rule-ends.ts';
import { Crowd } from '../crowd.ts';
import type { DescriptorRefusal } from '../descriptors.ts';
import type { FaultCode } from '../errors.ts';
import { type AccessRecord, asksForTunnel, DENIAL_CODES, isShortTunnel, type Outcome, outcomeOf, UPSTREAM_CODES } from './access-record.ts';
import { DestinationHealth, Reached } from './destination-health.ts';

/** Bounds in seconds. */
const CONNECT_BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** Of the duration of exchanges. */
export const EXCHANGE_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const TUNNEL_BOUNDS = [0.1, 1, 5, 15, 60, 300, 900, 3600, 14400, 43200];

/** What the metrics use of a configuration: names that may become label values, and its numbers. */
export interface PolicyFacts {
  /** Of the whole configuration. */
  readonly hash: string;
  /** `-`: it was not loaded from a file. */
  readonly file: string;
  /** When it was applied, ms since the epoch. */
  readonly loadedAt: number;
  readonly warnings: ReadonlyMap<WarningKind, number>;
  readonly clients: readonly string[];
  readonly destinations: readonly string[];
  /** The hosts of the parents, by name of the hop. */
  readonly hops: ReadonlyMap<string, readonly string[]>;
  /** Numbers of `limits`, by key. */
  readonly limits: Readonly<Record<string, number>>;
  /** By the key that names the file: when the first certificate in it expires, Unix time in seconds. */
  readonly certificates: ReadonlyMap<string, number>;
  /** When the first list of revoked certificates is out of date, ms since the epoch; null or absent: none says so. */
  readonly listsEnd?: number | null;
  /** Rules that end, each with its owner. */
  readonly ruleEnds: readonly Pick<RuleEnd, 'rule' | 'owner' | 'ticket' | 'until' | 'state'>[];
}

/** Maximum number of series of rules that end: a file may have thousands, and each series costs money. */
const MAX_RULE_ENDS = 100;

/** A form, or `-` for a request whose form was not known. */
export type FormName = Form | '-';
type CodeName = FaultCode | 'ok';
/** Requests of one form, destination, client and code, by result. */
type OutcomeCounts = Record<Outcome, number>;

/** Counters of one destination and form. */
export class FormCells {
  bytesSent = 0;
  bytesReceived = 0;
  readonly exchanges = new HistogramCell(EXCHANGE_BOUNDS);
  readonly tunnelTimes = new HistogramCell(TUNNEL_BOUNDS);
  /** By client and code. */
  readonly requests = new Map<string, Map<CodeName, OutcomeCounts>>();
  /** Requests passed by report mode, by client and code of the denial. */
  readonly reported = new Map<string, Map<FaultCode, number>>();
  /** Tunnels that are open: their bytes are still in their record, until `ended` adds them to the sums. */
  readonly open = new Crowd<AccessRecord>();
}

/** Counters of one destination. */
export class DestinationCells {
  connectionsOpened = 0;
  connectionsActive = 0;
  connectionsIdle = 0;
  readonly dns = new HistogramCell(CONNECT_BOUNDS);
  readonly tcp = new HistogramCell(CONNECT_BOUNDS);
  readonly hop = new HistogramCell(CONNECT_BOUNDS);
  readonly tls = new HistogramCell(CONNECT_BOUNDS);
  /** Of requests that have ended. */
  readonly outcomes: OutcomeCounts = { allowed: 0, denied: 0, failed: 0, aborted: 0 };
  /**
   * Requests that were let through: a tunnel when it opens, any other request when it ends. Failed dials
   * are compared with these, not with what has ended: a tunnel may be open for days.
   */
  admitted = 0;
  readonly errors: Map<FaultCode, number>;
  readonly forms = new Map<FormName, FormCells>();
  readonly health = new DestinationHealth();
  readonly reached = new Reached();

  /** @param errors that are exported with 0 before the first */
  constructor(errors: readonly FaultCode[]) {
    this.errors = zeros(errors);
  }

  /** Created at the first use. */
  form(name: FormName): FormCells {
    let cells = this.forms.get(name);
    if (cells === undefined) this.forms.set(name, (cells = new FormCells()));
    return cells;
  }
}

/** What a client did, over all destinations: neither number decreases. */
export interface ClientCounts {
  /** As of a destination. */
  admitted: number;
  denied: number;
}

/** Label value of `eco_egress_policy_reloads_total`. */
export type ReloadResult = 'applied' | 'refused';

/**
 * What the admin port refuses.
 * - `connections`: a connection, because all are in use; `evicted`: an idle one, closed to make room.
 * - `host`, `cross-site`: a request that a browser may have been tricked into.
 * - `pipelined`: a request before the one ahead of it was answered; `busy`: a question, because there are too many.
 */
export const ADMIN_REFUSALS = ['connections', 'evicted', 'host', 'cross-site', 'pipelined', 'busy'] as const;
/** Why the admin port refused something. */
export type AdminRefusal = (typeof ADMIN_REFUSALS)[number];

/**
 * Maximum number of label sets of `requests_total` and `would_deny_total`. They
 * appear with their first request, and a client can ask for every destination
 * with every error: the configuration alone would allow millions.
 */
export const MAX_REQUEST_SETS = 20_000;

/** Counters and gauges that the data path writes, and the facts of the configuration in force. */
export class Cells {
  clientConnections = 0;
  /** Requests counted under no client and no destination, because the limit of label sets was reached. */
  folded = 0;
  internalErrors = 0;
  readonly reloads: Record<ReloadResult, number> = { applied: 0, refused: 0 };
  /** Of the configuration that was offered last. */
  lastReload: ReloadResult = 'applied';
  readonly descriptorRefusals: Record<DescriptorRefusal, number> = { connection: 0, request: 0, system: 0 };
  readonly adminRefusals: Record<AdminRefusal, number> = { connections: 0, evicted: 0, host: 0, 'cross-site': 0, pipelined: 0, busy: 0 };
  config: Pick<PolicyFacts, 'hash' | 'file' | 'loadedAt' | 'warnings' | 'listsEnd'> = {
    hash: '',
    file: '-',
    loadedAt: 0,
    warnings: new Map(),
  };
  limits: PolicyFacts['limits'] = {};
  certificates: ReadonlyMap<string, number> = new Map();
  /** Those that end next, then the latest that have. */
  ruleEnds: PolicyFacts['ruleEnds'] = [];
  readonly destinations = new Map<string, DestinationCells>();
  /** Destinations of the configuration in force. An earlier one keeps its counters, and its state is of no interest. */
  configured: ReadonlySet<string> = new Set();
  /** By name of the hop and host of the parent: when the certificate expires that was shown last, ms since the epoch; 0: none was. */
  parents: ReadonlyMap<string, Map<string, number>> = new Map();
  /** Requests denied, by client and code. */
  readonly denials = new Map<string, Map<FaultCode, number>>([['-', zeros(DENIAL_CODES)]]);
  readonly clients = new Map<string, ClientCounts>([['-', { admitted: 0, denied: 0 }]]);
  /** Short tunnels, by client. */
  readonly shortTunnels = new Map<string, number>([['-', 0]]);
  /** Without a destination. */
  readonly #unknown = new DestinationCells([]);
  #requestSets = 0;

  constructor() {
    this.destinations.set('-', this.#unknown);
  }

  /** Counts under these names too. Names of an earlier policy stay: a counter must not decrease, and requests in progress still end. */
  adopt({
    hash,
    file,
    loadedAt,
    warnings,
    clients,
    destinations,
    hops,
    limits,
    certificates,
    listsEnd = null,
    ruleEnds,
  }: PolicyFacts): void {
    this.config = { hash, file, loadedAt, warnings, listsEnd };
    this.limits = limits;
    this.certificates = certificates;
    const ahead = ruleEnds.filter(({ state }) => state !== 'ended').toSorted((one, other) => one.until - other.until);
    const behind = ruleEnds.filter(({ state }) => state === 'ended').toSorted((one, other) => other.until - one.until);
    this.ruleEnds = [...ahead, ...behind].slice(0, MAX_RULE_ENDS);
    // Exported from the start with 0: `increase()` sees no increase in a counter that begins with 1.
    for (const name of clients) {
      if (this.denials.has(name)) continue;
      this.denials.set(name, zeros(DENIAL_CODES));
      this.clients.set(name, { admitted: 0, denied: 0 });
      this.shortTunnels.set(name, 0);
    }
    const before = this.parents;
    this.parents = new Map(
      [...hops].map(([hop, parents]) => [hop, new Map(parents.map((parent) => [parent, before.get(hop)?.get(parent) ?? 0]))]),
    );
    this.configured = new Set(destinations);
    for (const name of destinations) {
      if (!this.destinations.has(name)) this.destinations.set(name, new DestinationCells(UPSTREAM_CODES));
      // Without a gauge before the first tunnel, an autoscaler would have no value.
      this.destination(name).form('connect');
    }
  }

  /** Those of `-` where the configuration has no such name. */
  destination(name: string): DestinationCells {
    return this.destinations.get(name) ?? this.#unknown;
  }

  /** Those of an earlier configuration are of no interest. */
  noteParent(hop: string, parent: string, ends: number): void {
    const parents = this.parents.get(hop);
    if (parents?.has(parent) === true) parents.set(parent, ends);
  }

  /** A tunnel is open: it counts as admitted now, however it ends. */
  countTunnel(record: AccessRecord): void {
    const destination = this.destination(record.destination);
    destination.form(record.form).open.add(record);
    destination.admitted += 1;
    this.#countsOf(record).admitted += 1;
  }

  #countsOf({ client }: AccessRecord): ClientCounts {
    const counts = this.clients.get(client) ?? this.clients.get('-');
    if (counts === undefined) throw new Error('no counts of unknown clients');
    return counts;
  }

  /** A request has ended, well or not. */
  countEnd(record: AccessRecord): void {
    const { code, upstreamStatus } = record;
    const destination = this.destination(record.destination);
    const form = destination.form(record.form);
    const client = this.denials.has(record.client) ? record.client : '-';
    const outcome = outcomeOf(record);
    destination.outcomes[outcome] += 1;
    if (code === 'internal') this.internalErrors += 1;
    if (outcome === 'denied') this.#countsOf(record).denied += 1;
    if (outcome === 'denied' && code !== 'ok') increment(this.denials.get(client), code);
    this.#outcomes(form, record.form, client, code)[outcome] += 1;
    // Passed by the policy, it may have been denied for its address.
    if (record.wouldDeny !== '' && outcome !== 'denied') this.#countReported(form, record.form, client, record.wouldDeny);
    form.bytesSent += record.bytesSent;
    form.bytesReceived += record.bytesReceived;
    if (record.became === 'tunnel') {
      form.open.delete(record);
      form.tunnelTimes.observe(record.durationMs / 1000);
      if (isShortTunnel(record)) increment(this.shortTunnels, client);
      if (code === 'ok' && record.bytesReceived === 0) destination.health.note('ok', Date.now());
      return;
    }
    // A client that breaks off before the decision was not let through, however long that took.
    const letThrough = outcome !== 'denied' && record.verdict !== '-';
    if (letThrough) {
      destination.admitted += 1;
      this.#countsOf(record).admitted += 1;
    }
    // A response that was cut after its head has already been counted as
    // failed.
    if (upstreamStatus !== 0 && outcome !== 'failed')
      destination.health.noteAnswer(upstreamStatus, Date.now(), record.durationMs - record.firstByteMs);
    // Refusals take no time; in this histogram they would hide the partner's response times.
    if (letThrough && !asksForTunnel(record)) form.exchanges.observe(record.durationMs / 1000);
  }

  /** One more request that report mode let pass. */
  #countReported(cells: FormCells, form: FormName, client: string, code: FaultCode): void {
    const reported = codesOf(cells.reported, client);
    if (reported.has(code) || this.#takeSet()) increment(reported, code);
    else increment(codesOf(this.#unknown.form(form).reported, '-'), code);
  }

  #outcomes(cells: FormCells, form: FormName, client: string, code: CodeName): OutcomeCounts {
    const codes = codesOf(cells.requests, client);
    const known = codes.get(code);
    if (known !== undefined) return known;
    const unknown = this.#unknown.form(form);
    const folds = (cells !== unknown || client !== '-') && !this.#takeSet();
    if (folds) {
      this.folded += 1;
      return this.#outcomes(unknown, form, '-', code);
    }
    const counts = { allowed: 0, denied: 0, failed: 0, aborted: 0 };
    codes.set(code, counts);
    return counts;
  }

  /** @returns whether there is room for another label set */
  #takeSet(): boolean {
    if (this.#requestSets >= MAX_REQUEST_SETS) return false;
    this.#requestSets += 1;
    return true;
  }
}

/** The codes of a client, of which there may be none yet. */
function codesOf<Code, Count>(clients: Map<string, Map<Code, Count>>, client: string): Map<Code, Count> {
  let codes = clients.get(client);
  if (codes === undefined) clients.set(client, (codes = new Map<Code, Count>()));
  return codes;
}

function zeros(codes: readonly FaultCode[]): Map<FaultCode, number> {
  return new Map(codes.map((code) => [code, 0]));
}

/** Adds one to an entry of `counts`, or creates it. */
export function increment<Key>(counts: Map<Key, number> | undefined, key: Key): void {
  counts?.set(key, (counts.get(key) ?? 0) + 1);
}

/** One series of a histogram, in plain numbers. */
export class HistogramCell {
  readonly bounds: readonly number[];
  /** Observations per bucket, not cumulative; the last one is above every bound. */
  readonly counts: Float64Array;
  sum = 0;
  count = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  /** @param value in the unit of the bounds */
  observe(value: number): void {
    const { bounds, counts } = this;
    let bucket = 0;
    while (bucket < bounds.length && value > (bounds[bucket] ?? Infinity)) bucket += 1;
    counts[bucket] = (counts[bucket] ?? 0) + 1;
    this.sum += value;
    this.count += 1;
  }
}

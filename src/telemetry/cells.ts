/**
 * Where the metrics are counted: plain numbers, found through maps by names of
 * the configuration. A name the configuration does not hold counts under `-`,
 * so nothing a client sends can add a series.
 */
import type { Form, LimitsConfig } from '../config/config.ts';
import { Crowd } from '../crowd.ts';
import type { FaultCode } from '../errors.ts';
import type { AccessRecord } from './access-record.ts';
import type { Outcome } from './outcome.ts';
import { HistogramCell } from './histogram.ts';

/** Bounds in seconds. */
export const CONNECT_BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
export const EXCHANGE_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
export const TUNNEL_BOUNDS = [0.1, 1, 5, 15, 60, 300, 900, 3600, 14400, 43200];

/** What a configuration lets the metrics say: names that may become label values, and numbers of its own. */
export interface PolicyFacts {
  readonly hash: string;
  readonly clients: readonly string[];
  readonly destinations: readonly string[];
  readonly limits: Pick<LimitsConfig, 'connections' | 'tunnels'>;
  /** By the key that names the file: when the first certificate in it expires, Unix time in seconds. */
  readonly certificates: ReadonlyMap<string, number>;
}

export type FormName = Form | '-';
export type CodeName = FaultCode | 'ok';
/** Requests of one form, destination, client and code, by how they ended. */
export type OutcomeCounts = Record<Outcome, number>;

export class FormCells {
  tunnels = 0;
  bytesSent = 0;
  bytesReceived = 0;
  readonly exchanges = new HistogramCell(EXCHANGE_BOUNDS);
  readonly tunnelTimes = new HistogramCell(TUNNEL_BOUNDS);
  readonly requests = new Map<string, Map<CodeName, OutcomeCounts>>();
  /** What report mode let pass, by client and by the code of the denial. */
  readonly reported = new Map<string, Map<FaultCode, number>>();
  /** Tunnels whose bytes are still in their record, until `ended` adds them to the sums. */
  readonly open = new Crowd<AccessRecord>();
}

export class DestinationCells {
  connectionsOpened = 0;
  connectionsActive = 0;
  connectionsIdle = 0;
  readonly dns = new HistogramCell(CONNECT_BOUNDS);
  readonly tcp = new HistogramCell(CONNECT_BOUNDS);
  readonly hop = new HistogramCell(CONNECT_BOUNDS);
  readonly tls = new HistogramCell(CONNECT_BOUNDS);
  readonly errors = new Map<FaultCode, number>();
  readonly forms = new Map<FormName, FormCells>();

  form(name: FormName): FormCells {
    let cells = this.forms.get(name);
    if (cells === undefined) this.forms.set(name, (cells = new FormCells()));
    return cells;
  }
}

export type ReloadResult = 'applied' | 'refused';

export class Cells {
  clientConnections = 0;
  readonly reloads: Record<ReloadResult, number> = { applied: 0, refused: 0 };
  policyHash = '';
  limits: PolicyFacts['limits'] = { connections: 0, tunnels: 0 };
  certificates: ReadonlyMap<string, number> = new Map();
  readonly destinations = new Map<string, DestinationCells>();
  /** Tunnels that were over soon, by client. */
  readonly shortTunnels = new Map<string, number>();
  readonly #unknown = new DestinationCells();
  readonly #clients = new Set<string>();

  constructor() {
    this.destinations.set('-', this.#unknown);
  }

  /** Counts under these names too. Names of an earlier policy stay: a counter must not go back, and what is under way still ends. */
  adopt({ hash, clients, destinations, limits, certificates }: PolicyFacts): void {
    this.policyHash = hash;
    this.limits = limits;
    this.certificates = certificates;
    for (const name of clients) this.#clients.add(name);
    for (const name of destinations) {
      if (!this.destinations.has(name)) this.destinations.set(name, new DestinationCells());
      // A tunnel gauge that is absent until the first tunnel would leave an autoscaler without a value.
      this.destination(name).form('connect');
    }
  }

  destination(name: string): DestinationCells {
    return this.destinations.get(name) ?? this.#unknown;
  }

  requests(form: FormCells, client: string, code: CodeName): OutcomeCounts {
    const codes = form.requests.get(client) ?? this.#addClient(form, client);
    let counts = codes.get(code);
    if (counts === undefined) codes.set(code, (counts = { allowed: 0, denied: 0, failed: 0, aborted: 0 }));
    return counts;
  }

  countReported(form: FormCells, client: string, code: FaultCode): void {
    const name = this.#clientLabel(client);
    let codes = form.reported.get(name);
    if (codes === undefined) form.reported.set(name, (codes = new Map<FaultCode, number>()));
    codes.set(code, (codes.get(code) ?? 0) + 1);
  }

  countShortTunnel(client: string): void {
    const name = this.#clientLabel(client);
    this.shortTunnels.set(name, (this.shortTunnels.get(name) ?? 0) + 1);
  }

  #clientLabel(client: string): string {
    return this.#clients.has(client) ? client : '-';
  }

  #addClient(form: FormCells, client: string): Map<CodeName, OutcomeCounts> {
    const name = this.#clientLabel(client);
    const known = form.requests.get(name);
    if (known !== undefined) return known;
    const codes = new Map<CodeName, OutcomeCounts>();
    form.requests.set(name, codes);
    return codes;
  }
}

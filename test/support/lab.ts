/**
 * A whole proxy between real clients and a real upstream that speaks HTTPS and
 * HTTP, on ports the system chose, with its own CA and its log in reach.
 */
import { EventEmitter, once } from 'node:events';
import { createServer as createHttpServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { Writable } from 'node:stream';
import type { Test } from 'tap';
import { stringify } from 'yaml';
import { loadConfig, type LoadResult } from '../../src/config/load.ts';
import { type CertificateAuthority, createAuthority } from '../../src/demo/authority.ts';
import type { Lookup } from '../../src/dial/lookup.ts';
import type { DrainClock } from '../../src/drain/drain.ts';
import type { compilePolicy } from '../../src/policy/compile.ts';
import type { StatusView } from '../../src/admin/status-view.ts';
import type { ReloadOutcome } from '../../src/reload/outcome.ts';
import { readBuffer } from '../../src/relay/node-internals.ts';
import { Service, type ServiceDeps } from '../../src/service.ts';
import { listen } from './listen.ts';
import { readScrape, type Scrape } from './prometheus.ts';

export const ECO = 'eco-sit.telus.internal';

/** A line of the access log or a notice. */
export type LogLine = Record<string, unknown> & { readonly msg?: string; readonly code?: string };

type Section = Record<string, unknown>;

/** The configuration document before it is loaded; loose in its values, because tests break them on purpose. */
export interface Draft {
  version: number;
  name?: unknown;
  readonly listeners: Section;
  readonly clients: Section;
  readonly destinations: { readonly eco: Section; [name: string]: Section };
  readonly rules: Section[];
  readonly headers: Section;
  readonly limits: Section;
  readonly timeouts: Section;
  readonly dns: Section;
  reload?: Section;
  selfTest?: Section;
  hops?: Section;
  sourceIp?: Section;
  nat?: Section;
  log?: Section;
  tlsServer?: Section;
  mode?: unknown;
}

export interface LabOptions {
  /** Changes the configuration document. */
  readonly configure?: (draft: Draft, ports: { https: number; http: number }) => void;
  /** What the upstream does; by default it tells what it saw, as JSON. */
  readonly onRequest?: RequestListener;
  /** Files the configuration names, besides ca.pem: path to content. */
  readonly files?: Record<string, string>;
  /** By default every name is 127.0.0.1. */
  readonly lookup?: Lookup;
  /** In place of what compiles the policy: to break it. */
  readonly compile?: typeof compilePolicy;
  /** For the proof of the source address. */
  readonly now?: () => number;
  /** For the rates of rules, and the pauses of circuits. */
  readonly monotonic?: () => number;
  /** For the drain window. */
  readonly drainClock?: DrainClock;
  /** How many files the process may have open; without, that is not known. */
  readonly openFiles?: number;
  /** What the overload protection looks at. */
  readonly overload?: ServiceDeps['overload'];
}

export interface Upstream {
  readonly https: Server;
  readonly http: Server;
  readonly httpsPort: number;
  readonly httpPort: number;
  /** Every request that reached it, in order. */
  readonly requests: IncomingMessage[];
  /** Connections that reached it, both ports. */
  connections: number;
}

export interface Lab {
  readonly authority: CertificateAuthority;
  readonly upstream: Upstream;
  readonly service: Service;
  /** The one HTTP listener, all forms. */
  readonly port: number;
  readonly url: string;
  readonly adminUrl: string;
  readonly log: readonly LogLine[];
  /** The first line, already written or yet to come, that fits. */
  logged(fits: (line: LogLine) => boolean): Promise<LogLine>;
  /** Loads the configuration as it was before `configure`, changed by `change`. */
  load(change: (draft: Draft) => void): LoadResult;
  /** Offers the running proxy the configuration as it was before `configure`, changed by `change`. */
  reload(change: (draft: Draft) => void): Promise<ReloadOutcome>;
  /** Scrapes `/metrics`. */
  scrape(): Promise<Scrape>;
  /** What the status page shows. */
  status(): Promise<StatusView>;
}

let shared: Promise<{ authority: CertificateAuthority; certPem: string; keyPem: string }> | null = null;

/** One CA and upstream certificate for all labs of a process: they are slow to make and never change. */
export function labCertificates(): Promise<{ authority: CertificateAuthority; certPem: string; keyPem: string }> {
  shared ??= createAuthority('test CA').then(async (authority) => ({ authority, ...(await authority.issue({ names: [ECO, '*.telus.internal', 'localhost'], addresses: ['127.0.0.1'] })) }));
  return shared;
}

/** Starts upstream and proxy; both end with the test. */
export async function startLab(t: Test, options: LabOptions = {}): Promise<Lab> {
  const { authority, certPem, keyPem } = await labCertificates();
  const upstream = await startUpstream(t, certPem, keyPem, options.onRequest ?? tellWhatWasSeen);
  const ports = { https: upstream.httpsPort, http: upstream.httpPort };
  const load = (change?: (draft: Draft) => void): LoadResult => {
    const draft = baseDraft(ports);
    change?.(draft);
    return loadConfig({ file: '/lab/egress.yaml', env: {}, readFile: (path) => options.files?.[path] ?? (path.endsWith('ca.pem') ? authority.certPem : stringify(draft)) });
  };
  const loaded = load((draft) => options.configure?.(draft, ports));
  if (!loaded.ok) throw new Error(`the lab's configuration is faulty: ${JSON.stringify(loaded.faults, null, 2)}`);
  const log = new LogReader();
  const service = new Service(loaded.config, {
    loaded,
    logDestination: log,
    logSink: { batchLength: 1 },
    lookup: options.lookup ?? (async () => ({ addresses: ['127.0.0.1'], ttl: null })),
    ...(options.compile === undefined ? {} : { compile: options.compile }),
    ...(options.now === undefined ? {} : { now: options.now }),
    ...(options.monotonic === undefined ? {} : { monotonic: options.monotonic }),
    ...(options.drainClock === undefined ? {} : { drainClock: options.drainClock }),
    ...(options.openFiles === undefined ? {} : { openFiles: options.openFiles }),
    ...(options.overload === undefined ? {} : { overload: options.overload }),
  });
  await service.start();
  t.teardown(() => service.close());
  // What a socket has read is valid during the call that gives it: what is kept without a copy shows as 0xdb.
  const spoil = setInterval(() => readBuffer.fill(0xdb), 1);
  t.teardown(() => {
    clearInterval(spoil);
  });
  const [http] = service.addresses.http;
  if (http === undefined) throw new Error('the lab has no HTTP listener');
  const adminUrl = `http://127.0.0.1:${service.addresses.admin.port}`;
  return {
    authority,
    upstream,
    service,
    port: http.port,
    url: `http://127.0.0.1:${http.port}`,
    adminUrl,
    log: log.lines,
    load,
    reload: (change) => service.reload(load(change)),
    logged: (fits) => log.find(fits),
    status: async () => (await (await fetch(`${adminUrl}/status.json`)).json()) as StatusView,
    scrape: async () => readScrape(await (await fetch(`${adminUrl}/metrics`)).text()),
  };
}

/** The configuration of a lab: one destination, reached from loopback in every form. */
export function baseDraft({ https, http }: { https: number; http: number }): Draft {
  return {
    version: 1,
    listeners: { http: ['127.0.0.1:0'], tls: 'off', admin: '127.0.0.1:0' },
    clients: { pods: { addresses: ['127.0.0.0/8', '::1/128'] } },
    destinations: {
      eco: {
        hosts: [ECO],
        ports: [https, http],
        addresses: ['127.0.0.0/8'],
        gateway: { prefix: '/eco', url: `https://${ECO}:${https}` },
        tls: { caFile: 'ca.pem' },
      },
    },
    rules: [{ clients: ['pods'], destinations: ['eco'] }],
    headers: {},
    limits: {},
    timeouts: { drainDelay: '0s' },
    dns: {},
  };
}

/** HTTPS and HTTP on ports of the system's choosing; ends with the test. */
export async function startUpstream(t: Test, cert: string, key: string, onRequest: RequestListener): Promise<Upstream> {
  const requests: IncomingMessage[] = [];
  const listener: RequestListener = (req, res) => {
    requests.push(req);
    onRequest(req, res);
  };
  const https = createHttpsServer({ cert, key }, listener);
  const http = createHttpServer(listener);
  const upstream: Upstream = { https, http, httpsPort: await listen(t, https), httpPort: await listen(t, http), requests, connections: 0 };
  for (const server of [https, http]) {
    server.on('connection', () => {
      upstream.connections += 1;
    });
  }
  return upstream;
}

function tellWhatWasSeen(req: IncomingMessage, res: Parameters<RequestListener>[1]): void {
  req.resume();
  req.on('end', () => {
    res.setHeader('content-type', 'application/json');
    res.end(JSON.stringify({ method: req.method, url: req.url, headers: req.rawHeaders }));
  });
}

/** Of a busy machine, ms. */
export const LONGEST_WAIT_FOR_LINE = 60_000;

class LogReader extends Writable {
  readonly lines: LogLine[] = [];
  readonly #events = new EventEmitter().setMaxListeners(0);
  #rest = '';

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    const parts = (this.#rest + chunk.toString()).split('\n');
    this.#rest = parts.pop() ?? '';
    for (const part of parts) {
      const line = JSON.parse(part) as LogLine;
      this.lines.push(line);
      this.#events.emit('line', line);
    }
    done();
  }

  /** Rejects where none comes in time, so that a test fails there and does not hang. */
  async find(fits: (line: LogLine) => boolean): Promise<LogLine> {
    const signal = AbortSignal.timeout(LONGEST_WAIT_FOR_LINE);
    // Several lines may come at once: each is looked at, however many were told meanwhile.
    for (let next = 0; ; ) {
      for (; next < this.lines.length; next += 1) {
        const line = this.lines[next];
        if (line !== undefined && fits(line)) return line;
      }
      await once(this.#events, 'line', { signal }).catch((error: unknown) => {
        throw new Error('that line is not in the log', { cause: error });
      });
    }
  }
}

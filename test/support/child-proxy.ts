/** A proxy in a process of its own, with its death in sight: what ends it, ends nothing of the test. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { get, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text as textOf } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { startDnsServer } from './dns-server.ts';
import { baseDraft, type Draft, labCertificates, type LogLine, LONGEST_WAIT_FOR_LINE } from './lab.ts';
import { readScrape, type Scrape } from './prometheus.ts';
import { OWN, ownCertificate } from './tls-lab.ts';

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
/** Answers a message with how many timers or other active resources there are, or how many bytes V8 has in its old generation, in its heap, or in its heap after a collection (needs `--expose-gc`). */
const TELL = `
  import { getHeapSpaceStatistics } from 'node:v8';
  const figures = {
    timers: () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length,
    handles: () => process.getActiveResourcesInfo().filter((kind) => kind !== 'Timeout').length,
    old: () => getHeapSpaceStatistics().find(({ space_name: name }) => name === 'old_space').space_used_size,
    heap: () => process.memoryUsage().heapUsed,
    // What the first finds out of use and has an end of its own, the second takes away.
    collected: () => (gc(), gc(), process.memoryUsage().heapUsed),
  };
  process.on('message', (name) => { process.send(figures[name]()); });
  process.channel.unref();
`;

export interface ChildOptions {
  /** Empty, and the caller's: configuration and certificates go here. */
  readonly directory: string;
  /** The partner's. */
  readonly ports: { readonly https: number; readonly http: number };
  readonly configure?: (draft: Draft) => void;
  /** Of its heap; by default Node's own. */
  readonly heapMegabytes?: number;
  /** Further options of Node. */
  readonly flags?: readonly string[];
  /** Called for every line of its log; by default they are kept in `log`. */
  readonly onLine?: (line: LogLine) => void;
  /** Besides A records of 127.0.0.1 for every name. */
  readonly dns?: Parameters<typeof startDnsServer>[0];
}

export interface ChildProxy {
  readonly child: ChildProcess;
  readonly port: number;
  readonly tlsPort: number;
  readonly adminPort: number;
  readonly log: readonly LogLine[];
  /** Null while it lives; else how it ended, with the last of what it wrote to stderr. */
  readonly death: string | null;
  logged(fits: (line: LogLine) => boolean): Promise<LogLine>;
  /** Open file descriptors, sockets among them. */
  descriptors(): number;
  /** Timers that would keep it alive. */
  timers(): Promise<number>;
  /** Bytes that V8 has in the old generation, those that nobody needs any more among them. */
  oldBytes(): Promise<number>;
  /** Handles and requests that would keep it alive, timers apart. */
  handles(): Promise<number>;
  /** Bytes of its heap that are taken. */
  heapBytes(): Promise<number>;
  /** The same after a full collection; needs the flag `--expose-gc`. */
  heapBytesCollected(): Promise<number>;
  /** Bytes of memory that the system has given it. */
  residentBytes(): number;
  /** Its metrics. */
  scrape(): Promise<Scrape>;
  close(): Promise<void>;
}

/** On a connection of its own, which `fetch` would keep. */
async function scrape(port: number): Promise<Scrape> {
  const request = get({ host: '127.0.0.1', port, path: '/metrics', agent: false });
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  return readScrape(await textOf(response));
}

/** Starts it. Rejects with what it wrote when it does not come up. */
export async function startChildProxy({ directory, ports, configure, heapMegabytes, flags = [], onLine, dns = () => ({ addresses: ['127.0.0.1'], ttl: 60 }) }: ChildOptions): Promise<ChildProxy> {
  const [{ authority }, own, names] = await Promise.all([labCertificates(), ownCertificate(), startDnsServer(dns)]);
  writeFileSync(join(directory, 'ca.pem'), authority.certPem);
  writeFileSync(join(directory, 'tls.crt'), own.certPem);
  writeFileSync(join(directory, 'tls.key'), own.keyPem);
  const draft = baseDraft(ports);
  draft.listeners['tls'] = ['127.0.0.1:0'];
  draft.tlsServer = { names: [OWN], certFile: 'tls.crt', keyFile: 'tls.key' };
  Object.assign(draft.dns, { servers: [names.address] });
  draft.reload = { watch: false };
  configure?.(draft);
  const file = join(directory, 'egress.yaml');
  writeFileSync(file, stringify(draft));
  const options = [`--import=data:text/javascript,${encodeURIComponent(TELL)}`, ...flags, ...(heapMegabytes === undefined ? [] : [`--max-old-space-size=${heapMegabytes}`])];
  const child: ChildProcess = spawn(process.execPath, [...options, MAIN, 'serve', '--config', file], { cwd: directory, env: { PATH: process.env['PATH'] }, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
  const { stdout, stderr: errors } = child;
  if (stdout === null || errors === null) throw new Error('no pipes');
  const log: LogLine[] = [];
  const changed = new EventTarget();
  const told = (): void => {
    changed.dispatchEvent(new Event('change'));
  };
  let stderr = '';
  errors.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-4000);
  });
  const lines = createInterface({ input: stdout });
  // It would wait for the end of an output that a test has destroyed.
  stdout.once('close', () => {
    lines.close();
  });
  let listening: LogLine | null = null;
  lines.on('line', (text) => {
    // Of a process that was killed, the last line may be a part of one.
    if (closing) return;
    const line = JSON.parse(text) as LogLine;
    if (line.msg === 'eco-egress is listening') listening = line;
    if (onLine === undefined || listening === line) log.push(line);
    onLine?.(line);
    told();
  });
  let closing = false;
  let death: string | null = null;
  const ended = Promise.all([once(child, 'close'), once(lines, 'close')]).then(([[code, signal]]) => {
    death = `code ${String(code)}, signal ${String(signal)}: ${stderr}`;
    told();
  });
  const figure = async (name: string): Promise<number> => {
    const answer = once(child, 'message');
    child.send(name);
    const [value] = (await answer) as [number];
    return value;
  };
  const proxy = {
    child,
    log,
    get death() {
      return death;
    },
    logged: (fits: (line: LogLine) => boolean): Promise<LogLine> =>
      new Promise((resolve, reject) => {
        let seen = 0;
        const look = (): void => {
          for (; seen < log.length; seen += 1) {
            const line = log[seen];
            if (line === undefined || !fits(line)) continue;
            changed.removeEventListener('change', look);
            resolve(line);
            return;
          }
          if (death === null) return;
          changed.removeEventListener('change', look);
          reject(new Error(`the process ended without that line; ${death}`));
        };
        changed.addEventListener('change', look);
        setTimeout(() => { reject(new Error('that line is not in the log')); }, LONGEST_WAIT_FOR_LINE).unref();
        look();
      }),
    descriptors: () => readdirSync(`/proc/${String(child.pid)}/fd`).length,
    timers: () => figure('timers'),
    oldBytes: () => figure('old'),
    handles: () => figure('handles'),
    heapBytes: () => figure('heap'),
    heapBytesCollected: () => figure('collected'),
    residentBytes: () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${String(child.pid)}/status`, 'utf8'))?.[1]) * 1024,
    close: async () => {
      closing = true;
      if (death === null) child.kill('SIGKILL');
      await ended;
      await names.close();
    },
  };
  const line = await proxy.logged(({ msg }) => msg === 'eco-egress is listening').catch(async (error: unknown) => {
    await names.close();
    throw error;
  });
  const portOf = (authorities: unknown): number => Number(/:(\d+)$/.exec(Array.isArray(authorities) ? String(authorities[0]) : String(authorities))?.[1]);
  const adminPort = portOf(line['admin']);
  return Object.assign(proxy, { port: portOf(line['http']), tlsPort: portOf(line['tls']), adminPort, scrape: () => scrape(adminPort) });
}

/** A node of the cluster: the real proxy as a process on it, its configuration file, its log and its metrics. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { readScrape, type Scrape, sumOf } from '../support/prometheus.ts';
import type { Network, Output } from './network.ts';
import { type Program, watch } from './program.ts';
import type { HostName } from './topology.ts';

export const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

/** A line of the proxy's log. */
export type LogLine = Readonly<Record<string, unknown>> & { readonly msg?: string; readonly code?: string };
/** The configuration document. */
export type Document = Readonly<Record<string, unknown>>;

export interface ProxyNode<Name extends string = HostName> {
  readonly name: Name;
  readonly address: string;
  /** Starts the proxy, or starts it again; resolves once it listens. @param wrap makes of its command the one that is run */
  start(wrap?: (command: readonly string[]) => readonly string[]): Promise<void>;
  /** Ends the proxy in order; resolves to its exit code. */
  stop(): Promise<number | null>;
  /** Ends the proxy without a word, as a machine does that loses its power. */
  kill(): Promise<void>;
  /** Gives the process a signal, and waits for nothing. */
  signal(signal: NodeJS.Signals): void;
  /** Writes a text in place of the configuration and asks for a reload, and waits for nothing. */
  offer(text: string): void;
  /** The same; resolves to the line that says what came of it. */
  reloadText(text: string): Promise<LogLine>;
  /** Takes over another configuration while running: sections replace those of the same name. */
  reload(sections: Document): Promise<void>;
  /** Where the log ends now, for `logged`. */
  mark(): number;
  /** All lines from the mark on that are there; of a process that was started since, all. */
  linesFrom(mark: number): LogLine[];
  /** How often it has been started. */
  readonly starts: number;
  /** The first line from the mark on, written or yet to be, that fits. */
  logged(fits: (line: LogLine) => boolean, from: number, patience?: number): Promise<LogLine>;
  /** The last lines of the log, and what it wrote to stderr. */
  tail(count: number): readonly string[];
  scrape(): Promise<Scrape>;
  /** Whether an exchange is under way. */
  isBusy(): Promise<boolean>;
  /** Runs another command of the proxy on this node, with its configuration. */
  command(name: string, args?: readonly string[]): Promise<Output>;
}

/** @param address of the node; @param directory where its configuration file is written */
export function createProxyNode<Name extends string>(network: Network<Name>, name: Name, address: string, directory: string, document: Document): ProxyNode<Name> {
  const file = join(directory, `${name}.yaml`);
  let current = document;
  let program: Program | null = null;
  let ended: readonly string[] = [];
  let starts = 0;
  const running = (): Program => {
    if (program === null) throw new Error(`the proxy on ${name} is not running`);
    return program;
  };
  const logged: ProxyNode['logged'] = async (fits, from, patience) => {
    const line = await running().line((text) => readLines([text]).some(fits), { from, ...(patience === undefined ? {} : { patience }) });
    return JSON.parse(line) as LogLine;
  };
  const offer = (text: string): void => {
    writeFileSync(file, text);
    running().signal('SIGHUP');
  };
  const reloadText = async (text: string): Promise<LogLine> => {
    const from = running().lines.length;
    offer(text);
    return logged(({ msg }) => msg?.startsWith('reload ') === true, from);
  };
  const end = async (signal: NodeJS.Signals): Promise<number | null> => {
    const { length } = running().lines;
    const code = await running().end(signal);
    // What it said at its end.
    ended = program?.lines.slice(length) ?? [];
    program = null;
    return code;
  };
  const scrape = async (): Promise<Scrape> => {
    const { stdout } = await network.exec(name, ['curl', '--silent', '--max-time', '5', 'http://127.0.0.1:9090/metrics']);
    return readScrape(stdout);
  };

  return {
    name,
    address,
    logged,
    mark: () => running().lines.length,
    linesFrom: (mark) => readLines(program === null ? ended : program.lines.slice(mark)),
    get starts() {
      return starts;
    },
    tail: (count) => [...(program?.lines.slice(-count) ?? []), program?.complaints ?? ''],
    start: async (wrap = (command) => command) => {
      writeFileSync(file, stringify(current));
      starts += 1;
      program = watch(network.start(name, wrap([process.execPath, MAIN, 'serve', '--config', file])), `the proxy on ${name}`);
      await logged(({ msg }) => msg === 'eco-egress is listening', 0);
    },
    stop: () => end('SIGTERM'),
    kill: async () => {
      await end('SIGKILL');
    },
    signal: (signal) => {
      running().signal(signal);
    },
    offer,
    reloadText,
    reload: async (sections) => {
      current = { ...current, ...sections };
      const line = await reloadText(stringify(current));
      if (line.msg !== 'reload applied') throw new Error(`${name}: ${JSON.stringify(line)}`);
    },
    scrape,
    isBusy: async () => sumOf(await scrape(), 'eco_egress_upstream_connections', { state: 'active' }) > 0,
    command: (command, args = []) => network.exec(name, [process.execPath, MAIN, command, '--config', file, ...args]),
  };
}

/** Those that are whole: where a disk is full, or a process was killed, one may be torn. */
function readLines(lines: readonly string[]): LogLine[] {
  return lines.flatMap((line) => {
    try {
      return line.startsWith('{') ? [JSON.parse(line) as LogLine] : [];
    } catch {
      return [];
    }
  });
}

/**
 * Builds a topology out of Linux network namespaces: one for each host, and
 * one with a bridge for each wire. Nothing of it is in the namespace of the
 * machine itself. leftovers.ts takes it away.
 */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { labName } from './leftovers.ts';
import type { Host, Wire } from './topology.ts';

export interface Output {
  /** Null when a signal ended it. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Network<Name extends string> {
  /** The namespace of a host, as `ip netns exec` takes it. */
  namespace(host: Name): string;
  /** Runs a program to its end, whatever that is; input goes to its stdin. */
  exec(host: Name, command: readonly string[], input?: string): Promise<Output>;
  /** Starts a program that runs until it is killed, at the latest with the lab; its stdout and stderr are pipes. */
  start(host: Name, command: readonly string[]): ChildProcess;
  /** Gives rules to the host's nftables; rejects with what nft says. */
  firewall(host: Name, rules: string): Promise<void>;
  /** Pulls the host's plugs, or puts them back; rejects with what ip says. */
  plug(host: Name, state: 'up' | 'down'): Promise<void>;
}

/** Rejects with what a command said that failed. Whatever it made is there until `removeLab`, also then. */
export async function buildNetwork<Name extends string>(topology: Record<Name, Host>): Promise<Network<Name>> {
  const namespace = (host: string): string => `${labName(process.pid)}${host}`;
  const hosts = Object.entries<Host>(topology);
  const wires = [...new Set(hosts.flatMap(([, host]) => wiresOf(host)))];
  const enter = (host: string, command: readonly string[]): string[] => ['netns', 'exec', namespace(host), ...command];
  const firewall = async (host: string, rules: string): Promise<void> => {
    succeeded(await run('ip', enter(host, ['nft', '-f', '-']), rules));
  };

  // Not to be interrupted: a name that comes up after the lab was taken away would stay.
  const { status, stderr } = spawnSync('ip', ['-batch', '-'], { input: ['switch', ...Object.keys(topology)].map((host) => `netns add ${namespace(host)}\n`).join(''), encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  await ip(['-n', namespace('switch')], [
    ...wires.flatMap((wire) => [`link add ${wire} type bridge`, `link set ${wire} up`]),
    // Both ends of a cable are made inside: the machine's own namespace never sees them.
    ...hosts
      .flatMap(([name, host]) => wiresOf(host).map((wire) => ({ name, wire })))
      .map(({ name, wire }, port) => `link add port${port} up master ${wire} type veth peer name ${wire} netns ${namespace(name)}`),
  ]);
  await Promise.all(
    hosts.map(async ([name, host]) => {
      await ip(['-n', namespace(name)], hostLines(host));
      // Before the settings: those of connection tracking appear with the first rule that needs it.
      if (host.firewall !== undefined) await firewall(name, host.firewall);
      const settings = { ...host.settings, ...(host.router === true ? { 'net/ipv4/ip_forward': 1 } : {}) };
      const script = Object.entries(settings).map(([file, value]) => `echo ${value} >/proc/sys/${file}\n`);
      if (script.length > 0) succeeded(await run('ip', enter(name, ['sh', '-e']), script.join('')));
    }),
  );

  return {
    namespace,
    firewall,
    exec: (host, command, input) => run('ip', enter(host, command), input),
    start: (host, command) => {
      // `ip netns exec` becomes the program, so that a signal to the child reaches it.
      return spawn('ip', enter(host, command), { stdio: ['ignore', 'pipe', 'pipe'], env: CLEAN_ENV });
    },
    plug: async (host, state) => {
      const { way } = topology[host];
      await ip(['-n', namespace(host)], [
        ...wiresOf(topology[host]).map((wire) => `link set ${wire} ${state}`),
        // A link that goes down takes its routes along.
        ...(state === 'up' && way !== undefined ? [`route replace default ${towards(way)}`] : []),
      ]);
    },
  };
}

function wiresOf(host: Host): Wire[] {
  return Object.keys(host.addresses) as Wire[];
}

function hostLines({ addresses, way }: Host): string[] {
  return [
    'link set lo up',
    ...Object.entries(addresses).flatMap(([wire, list]) => [`link set ${wire} up`, ...list.map((address) => `addr add ${address} dev ${wire}`)]),
    ...(way === undefined ? [] : [`route add default ${towards(way)}`]),
  ];
}

function towards(way: string): string {
  return /^\d/.test(way) ? `via ${way}` : `dev ${way}`;
}

/** Nothing of this machine's proxies and settings may steer what runs in the lab. */
const CLEAN_ENV = { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8' };

async function ip(options: readonly string[], lines: readonly string[]): Promise<void> {
  succeeded(await run('ip', [...options, '-batch', '-'], `${lines.join('\n')}\n`));
}

function succeeded({ code, stderr }: Output): void {
  if (code !== 0) throw new Error(stderr);
}

function run(program: string, args: readonly string[], input = ''): Promise<Output> {
  return new Promise((resolve) => {
    const child = execFile(program, args, { env: CLEAN_ENV, maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : null, stdout, stderr });
    });
    // A program that ends without reading its input is judged by its exit code.
    child.stdin?.on('error', () => {}).end(input);
  });
}

/** Everything that runs in the chaos suite, with verbs for what the faults do to it. */
import { mkdtempSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createCertificateFiles } from '../lab/certificate-files.ts';
import { labName, pidsIn } from '../lab/leftovers.ts';
import { buildNetwork, type Network } from '../lab/network.ts';
import { type Program, watch } from '../lab/program.ts';
import { createProxyNode, type Document, MAIN, type ProxyNode } from '../lab/proxy-node.ts';
import { SERVICE, TRUSTED } from '../lab/topology.ts';
import type { CallReport, ClientKind, OpenedReport } from './actors/client.ts';
import type { DnsState } from './actors/dns.ts';
import type { PartnerState } from './actors/partner.ts';
import { CHAOS, chaosAddress, type ChaosHost, chaosNatRules, lossRules, partnerRules } from './topology.ts';

/** The partner's name; it has two addresses. */
export const PARTNER = 'eco-sit.telus.internal';
const ECHO = 'echo.partner.internal';
const A_DAY_MS = 86_400_000;
/** Which host does what. */
const CLIENTS: readonly (readonly [ChaosHost, ClientKind])[] = [['client-1', 'gateway'], ['client-2', 'forward'], ['client-3', 'connect'], ['client-4', 'tunnel'], ['client-4', 'parent']];

export interface Stage {
  /** For files of the faults; it is removed with everything else. */
  readonly directory: string;
  readonly nodes: readonly [ProxyNode<ChaosHost>, ProxyNode<ChaosHost>];
  /** Every call of every client, in the order in which they ended. */
  readonly calls: readonly CallReport[];
  /** Every tunnel that was opened. */
  readonly opened: readonly OpenedReport[];
  /** How the partner behaves, at both addresses; what is left out stays. */
  partner(state: Partial<PartnerState>): void;
  /** What the firewall of a host does with what comes for its ports: `accept`, `drop`, `reject with tcp reset`. */
  firewall(host: 'eco-a' | 'eco-b' | 'parent', verdict: string): Promise<void>;
  /** How the resolver answers; what is left out stays. */
  resolver(state: Partial<DnsState>): void;
  /** From now on, new connections leave by this address, with so many ports for each node. */
  nat(address: string, ports?: number): Promise<void>;
  /** The router loses so many percent of all packets. */
  lose(percent: number): Promise<void>;
  /** Pulls the plugs of a host, or puts them back. */
  plug(host: ChaosHost, state: 'up' | 'down'): Promise<void>;
  /** The configuration as it is at the start, with other sections. */
  configuration(sections?: Document): Document;
  /** Opens so many connections from a pod to the proxies, each with one request of a denied host, as fast as it can; ends by itself. */
  flood(host: ChaosHost, count: number): Promise<void>;
  /** Descriptors that the proxy on a node has open. */
  descriptors(node: ProxyNode<ChaosHost>): number;
  /** What the admin port of a node answers from outside, where scrapers are; null: it does not answer. */
  askAdmin(node: ProxyNode<ChaosHost>, path: string): Promise<string | null>;
  /** The process of the proxy on a node; null: there is none. */
  pid(node: ProxyNode<ChaosHost>): number | null;
}

/** Rejects when something does not start. What was started and made is there until `removeLab`, also then. @param tunnels that one client keeps open; it uses each once a second */
export async function setStage(tunnels = 10): Promise<Stage> {
  const directory = mkdtempSync(join(tmpdir(), labName(process.pid)));
  const network = await buildNetwork<ChaosHost>(CHAOS);
  const ca = await writeCertificates(directory);
  const partner = keepState<PartnerState>(join(directory, 'partner.json'), { mode: 'ok', certificate: 'good' });
  const good: DnsState = { mode: 'ok', zone: { [PARTNER]: [chaosAddress('eco-a'), chaosAddress('eco-b')], [ECHO]: [chaosAddress('echo')] } };
  const resolver = keepState<DnsState>(join(directory, 'dns.json'), good);
  const act = (host: ChaosHost, file: string, ...args: string[]): Program => {
    const program = watch(network.start(host, [process.execPath, fileURLToPath(new URL(file, import.meta.url)), ...args]), `${file} on ${host}`);
    // None of them ends by itself: results without one of them are worth nothing.
    program.line(() => false, { patience: A_DAY_MS }).catch((error: unknown) => {
      process.stdout.write(`${(error as Error).message}\n`);
      process.exit(1);
    });
    return program;
  };
  const configuration = (sections: Document = {}): Document => ({ ...configurationOf(ca), ...sections });
  const nodeOf = (name: 'node-1' | 'node-2'): ProxyNode<ChaosHost> => createProxyNode(network, name, chaosAddress(name), directory, configuration());
  const nodes = [nodeOf('node-1'), nodeOf('node-2')] as const;
  const isReady = (line: string): boolean => line === 'ready';

  const service = act('cloud', '../lab/actors/service.ts', SERVICE, ...nodes.map(({ address }) => address));
  const echo = watch(network.start('echo', [process.execPath, MAIN, 'echo', '--listen', '0.0.0.0:80']), 'the echo service');
  await Promise.all([
    act('dns', 'actors/dns.ts', join(directory, 'dns.json')).line(isReady),
    echo.line((line) => line.includes('is listening')),
    ...(['eco-a', 'eco-b'] as const).map((host) => act(host, 'actors/partner.ts', join(directory, 'partner.json'), directory).line(isReady)),
    act('parent', 'actors/parent.ts', `by-parent.${PARTNER}=${chaosAddress('eco-b')}`).line(isReady),
    ...nodes.map((node) => node.start()),
  ]);
  await service.line((line) => line === `ready: ${nodes.map(({ address }) => address).join(' ')}`);
  const calls: CallReport[] = [];
  const opened: OpenedReport[] = [];
  await Promise.all(CLIENTS.map(([host, kind]) => startClient(network, host, [kind, SERVICE, PARTNER, ca, String(tunnels)], calls, opened)));

  // The first of its processes: others are those that it was started with.
  const pidOf: Stage['pid'] = ({ name }) => pidsIn(network.namespace(name)).toSorted((one, other) => one - other)[0] ?? null;
  return {
    directory,
    nodes,
    calls,
    opened,
    partner,
    resolver,
    configuration,
    firewall: (host, verdict) => network.firewall(host, partnerRules(verdict)),
    nat: (address, ports) => network.firewall('cloud', chaosNatRules(address, ports)),
    lose: (percent) => network.firewall('cloud', lossRules(percent)),
    plug: (host, state) => network.plug(host, state),
    flood: async (host, count) => {
      await network.exec(host, ['curl', '--silent', '--parallel', '--parallel-immediate', '--parallel-max', '200', '--max-time', '5', '--output', '/dev/null', '--proxy', `http://${SERVICE}:3128`, `http://n[1-${count}].denied.example/`]);
    },
    descriptors: (node) => {
      const pid = pidOf(node);
      return pid === null ? 0 : readdirSync(`/proc/${pid}/fd`).length;
    },
    askAdmin: async ({ address }, path) => {
      const { code, stdout } = await network.exec('cloud', ['curl', '--silent', '--max-time', '2', `http://${address}:9090${path}`]);
      return code === 0 ? stdout : null;
    },
    pid: pidOf,
  };
}

/** A file that an actor reads; it is whole at every moment. */
function keepState<State>(file: string, first: State): (change: Partial<State>) => void {
  let state = first;
  const change = (next: Partial<State>): void => {
    state = { ...state, ...next };
    writeFileSync(`${file}.new`, JSON.stringify(state));
    renameSync(`${file}.new`, file);
  };
  change({});
  return change;
}

async function startClient(network: Network<ChaosHost>, host: ChaosHost, args: readonly string[], calls: CallReport[], opened: OpenedReport[]): Promise<void> {
  const child = network.start(host, [process.execPath, fileURLToPath(new URL('actors/client.ts', import.meta.url)), ...args]);
  const program = watch(child, `${args[0] ?? ''} on ${host}`);
  await program.line((line) => line === 'ready');
  let read = 0;
  // The program keeps all its lines; they are taken over as they come.
  setInterval(() => {
    for (; read < program.lines.length; read += 1) {
      const line = program.lines[read] ?? '';
      if (!line.startsWith('{')) continue;
      const said = JSON.parse(line) as CallReport | OpenedReport;
      if ('opened' in said) opened.push(said);
      else calls.push(said);
    }
  }, 50).unref();
}

/** @returns the file of the authority */
async function writeCertificates(directory: string): Promise<string> {
  const { ca, issue } = await createCertificateFiles(directory, 'chaos authority');
  const kinds = { good: {}, next: {}, expired: { notBefore: new Date(Date.now() - 2 * A_DAY_MS), notAfter: new Date(Date.now() - A_DAY_MS) }, other: { names: ['other.example'] } };
  for (const [name, options] of Object.entries(kinds)) await issue(name, { names: [PARTNER], ...options });
  return ca;
}

/** Times are shorter than in production, so that each fault shows and heals soon. */
function configurationOf(ca: string): Document {
  const partner = { hosts: [PARTNER], ports: [443, 80], addresses: [chaosAddress('eco-a'), chaosAddress('eco-b')], tls: { caFile: ca } };
  return {
    version: 1,
    reload: { watch: false },
    listeners: { tls: 'off' },
    clients: { pods: { addresses: ['10.8.0.0/24'] } },
    hops: { parent: { url: `http://${chaosAddress('parent')}:3128`, addresses: [chaosAddress('parent')], connect: '1s' } },
    destinations: {
      'eco-sit': { ...partner, gateway: { prefix: '/eco', url: `https://${PARTNER}` } },
      // The same partner by way of a parent, which resolves the name itself.
      parent: { hosts: [`by-parent.${PARTNER}`], ports: [80], via: 'parent', resolve: 'parent', gateway: { prefix: '/parent', url: `http://by-parent.${PARTNER}` } },
    },
    rules: [{ clients: ['pods'], destinations: ['eco-sit', 'parent'] }],
    sourceIp: { expected: TRUSTED, probe: { url: `http://${ECHO}/`, every: '1s', timeout: '1s', addresses: [chaosAddress('echo')] } },
    dns: { servers: [`${chaosAddress('dns')}:53`] },
    timeouts: { resolve: '1s', connect: '2s', tls: '2s', responseHeaders: '2s', body: '2s', upstreamKeepAlive: '5s', upstreamAge: '2s', drainDelay: '2s', drain: '5s' },
  };
}

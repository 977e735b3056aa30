/** Who plays in the lab: starts every program on its host, and gives the story verbs for what they can do. */
import { mkdtempSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createCertificateFiles } from './certificate-files.ts';
import { curl, type CurlAnswer } from './curl.ts';
import { labName } from './leftovers.ts';
import { buildNetwork, type Network } from './network.ts';
import { type Program, watch } from './program.ts';
import { createProxyNode, MAIN, type Document, type ProxyNode } from './proxy-node.ts';
import { addressOf, type HostName, natRules, SERVICE, TOPOLOGY, TRUSTED } from './topology.ts';

/** The partner's name, and the one that TLS to the proxy itself asks for. */
export const ECO = 'eco-sit.telus.internal';
export const PROXY_NAME = 'eco-egress.eco-egress.svc';
/** Where callers are told their address. */
const ECHO = 'echo.partner.internal';

/** How often the proxies ask for their source address. */
const PROBE_EVERY_MS = 3000;
/** How long the proxies keep a connection to the partner that nobody uses. */
export const POOL_IDLE_MS = 2000;

export interface Pod {
  readonly name: HostName;
  curl(...args: string[]): Promise<CurlAnswer>;
}

export interface Cast {
  readonly network: Network<HostName>;
  readonly pods: readonly [Pod, Pod];
  readonly nodes: readonly [ProxyNode, ProxyNode];
  /** What the Service said of its replicas. */
  readonly service: Program;
  /** Starts a program of `actors/` on a host; it ends with the lab. */
  readonly act: (host: HostName, actor: string, ...args: string[]) => Program;
  /** Gives a name other addresses in the DNS. */
  readonly answer: (name: string, ...addresses: string[]) => void;
  /** From now on, new connections from the nodes leave by this address. */
  readonly leaveBy: (address: string) => Promise<void>;
  /** The partner's firewall passes nobody else; without an address, nobody. */
  readonly trust: (...addresses: string[]) => Promise<void>;
  /** Whom the partner's firewall dropped since it was last asked. */
  readonly dropped: () => Promise<string[]>;
}

/** Rejects when something does not start. What was started and made is there until `removeLab`, also then. */
export async function gatherCast(): Promise<Cast> {
  const directory = mkdtempSync(join(tmpdir(), labName(process.pid)));
  const network = await buildNetwork(TOPOLOGY);
  const files = await writeCertificates(directory);
  const zoneFile = join(directory, 'zone.json');
  const zone = new Map<string, readonly string[]>([[ECO, [addressOf('eco')]], [ECHO, [addressOf('echo')]]]);
  const writeZone = (): void => {
    // Whole at every moment: the server may read it at any.
    writeFileSync(`${zoneFile}.new`, JSON.stringify(Object.fromEntries(zone)));
    renameSync(`${zoneFile}.new`, zoneFile);
  };
  writeZone();

  const act: Cast['act'] = (host, actor, ...args) =>
    watch(network.start(host, [process.execPath, fileURLToPath(new URL(`actors/${actor}.ts`, import.meta.url)), ...args]), `${actor} on ${host}`);
  const nodes = [
    createProxyNode(network, 'node-1', addressOf('node-1'), directory, configurationOf('node-1', files)),
    createProxyNode(network, 'node-2', addressOf('node-2'), directory, configurationOf('node-2', files)),
  ] as const;
  const service = act('cloud', 'service', SERVICE, ...nodes.map((node) => node.address));
  await Promise.all([
    ready(act('dns', 'dns', zoneFile)),
    listening(watch(network.start('echo', [process.execPath, MAIN, 'echo', '--listen', '0.0.0.0:80']), 'the echo service')),
    ready(act('eco', 'partner', ECO, files.eco.cert, files.eco.key)),
    ready(act('eco-new', 'partner', ECO, files.eco.cert, files.eco.key)),
    ...nodes.map((node) => node.start()),
  ]);
  await service.line((line) => line === `ready: ${nodes.map((node) => node.address).join(' ')}`);

  const podOf = (name: HostName): Pod => ({ name, curl: (...args) => curl(network, name, ['--cacert', files.ca, ...args]) });
  const partners = ['eco', 'eco-new'] as const;
  return {
    network,
    pods: [podOf('pod-1'), podOf('pod-2')],
    nodes,
    service,
    act,
    answer: (name, ...addresses) => {
      zone.set(name, addresses);
      writeZone();
    },
    leaveBy: (address) => network.firewall('cloud', natRules(address)),
    trust: async (...addresses) => {
      const rules = ['flush set ip firewall trusted', ...addresses.map((address) => `add element ip firewall trusted { ${address} }`)];
      await Promise.all(partners.map((partner) => network.firewall(partner, rules.join('\n'))));
    },
    dropped: async () => {
      const all = await Promise.all(partners.map((partner) => takeDropped(network, partner)));
      return [...new Set(all.flat())].toSorted();
    },
  };
}

interface Files {
  readonly ca: string;
  readonly eco: { readonly cert: string; readonly key: string };
  readonly proxy: { readonly cert: string; readonly key: string };
}

async function writeCertificates(directory: string): Promise<Files> {
  const { ca, issue } = await createCertificateFiles(directory, 'lab authority');
  return { ca, eco: await issue(ECO, { names: [ECO] }), proxy: await issue(PROXY_NAME, { names: [PROXY_NAME] }) };
}

/** Clocks are short, so that the story need not wait; everything else is as in a cluster. */
function configurationOf(name: string, files: Files): Document {
  return {
    version: 1,
    name,
    reload: { watch: false },
    tlsServer: { names: [PROXY_NAME], certFile: files.proxy.cert, keyFile: files.proxy.key },
    clients: { 'dynatrace-sit': { addresses: ['10.8.0.0/24'] } },
    destinations: {
      'eco-sit': {
        hosts: [ECO],
        ports: [443, 80],
        addresses: [`${addressOf('eco')}/32`, `${addressOf('eco-new')}/32`],
        gateway: { prefix: '/eco', url: `https://${ECO}` },
        tls: { caFile: files.ca },
      },
    },
    rules: [{ clients: ['dynatrace-sit'], destinations: ['eco-sit'] }],
    sourceIp: { expected: TRUSTED, probe: { url: `http://${ECHO}/`, every: `${PROBE_EVERY_MS}ms`, timeout: '2s', addresses: [`${addressOf('echo')}/32`] } },
    dns: { servers: [`${addressOf('dns')}:53`] },
    timeouts: { connect: '1s', upstreamKeepAlive: `${POOL_IDLE_MS}ms`, drainDelay: '2s', drain: '5s' },
  };
}

async function listening(program: Program): Promise<void> {
  await program.line((line) => line.includes('is listening'));
}

async function ready(program: Program): Promise<void> {
  await program.line((line) => line === 'ready');
}

async function takeDropped(network: Network<HostName>, partner: HostName): Promise<string[]> {
  const { stdout } = await network.exec(partner, ['nft', 'list', 'set', 'ip', 'firewall', 'dropped']);
  await network.firewall(partner, 'flush set ip firewall dropped');
  const [, elements = ''] = /elements = \{([^}]*)\}/.exec(stdout) ?? [];
  return elements.split(',').map((element) => element.trim()).filter((element) => element !== '');
}


/** The network of the chaos suite: four client hosts, two replicas, a partner with two addresses, a parent proxy, a resolver. test/lab/network.ts builds it. */
import { ELSEWHERE, type Host, IMPATIENT_NAT, natRules, RENUMBERED, type Topology, TRUSTED } from '../lab/topology.ts';

/** Ports of the trusted address that each node may use. */
const PORTS_PER_NODE = 2000;

/** As in the lab, with other shares. */
export function chaosNatRules(address: string, ports = PORTS_PER_NODE): string {
  return natRules(address, PORTS_PER_NODE, ports);
}

/** The partner takes requests from the parent proxy, too. */
const PARENT = '203.0.113.30';

/** What a host does with packets that come for a partner's ports: `accept`, `drop`, `reject with tcp reset`; only the trusted address gets that far. */
export function partnerRules(verdict: string): string {
  return `
    add table ip firewall
    flush table ip firewall
    table ip firewall {
      chain arriving {
        type filter hook input priority filter
        tcp dport { 80, 443, 3128 } ip saddr != { ${TRUSTED}, ${PARENT} } drop
        tcp dport { 80, 443, 3128 } ${verdict}
      }
    }`;
}

/** What the router loses of what it passes on, in percent. */
export function lossRules(percent: number): string {
  return `
    add table ip loss
    flush table ip loss
    table ip loss {
      chain passing {
        type filter hook forward priority filter
        numgen random mod 100 < ${percent} drop
      }
    }`;
}

const partner = (address: string): Host => ({ addresses: { internet: [`${address}/32`] }, way: 'internet', firewall: partnerRules('accept') });
const client = (last: number): Host => ({ addresses: { pods: [`10.8.0.${last}/24`] }, way: '10.8.0.1' });

export const CHAOS = {
  'client-1': client(11),
  'client-2': client(12),
  'client-3': client(13),
  'client-4': client(14),
  'node-1': { addresses: { nodes: ['10.128.0.11/24'] }, way: '10.128.0.1' },
  'node-2': { addresses: { nodes: ['10.128.0.12/24'] }, way: '10.128.0.1' },
  cloud: { addresses: { pods: ['10.8.0.1/24'], nodes: ['10.128.0.1/24'], internet: [`${TRUSTED}/32`, `${RENUMBERED}/32`, `${ELSEWHERE}/32`] }, way: 'internet', router: true, firewall: `${chaosNatRules(TRUSTED)}${lossRules(0)}`, settings: IMPATIENT_NAT },
  'eco-a': partner('203.0.113.10'),
  'eco-b': partner('203.0.113.20'),
  parent: partner(PARENT),
  dns: { addresses: { internet: ['203.0.113.53/32'] }, way: 'internet' },
  echo: { addresses: { internet: ['203.0.113.80/32'] }, way: 'internet' },
} satisfies Topology;

export type ChaosHost = keyof typeof CHAOS;

export function chaosAddress(host: ChaosHost): string {
  const [first = ''] = Object.values<readonly string[]>(CHAOS[host].addresses).flat();
  return first.replace(/\/\d+$/, '');
}

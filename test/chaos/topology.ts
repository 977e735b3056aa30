/** The network of the chaos suite: four client hosts, two replicas, a partner with two addresses, a parent proxy, a resolver. test/lab/network.ts builds it. */
import { RENUMBERED, TRUSTED } from '../lab/topology.ts';
import type { Host, Topology } from '../lab/topology.ts';

/** Ports of the trusted address that each node may use. */
const PORTS_PER_NODE = 2000;

/** The nodes leave by `address`, each with so many ports; nobody else leaves. */
export function natRules(address: string, ports = PORTS_PER_NODE): string {
  const share = (node: number): string => `${20_000 + node * PORTS_PER_NODE}-${20_000 + node * PORTS_PER_NODE + ports - 1}`;
  return `
    add table ip nat
    flush table ip nat
    table ip nat {
      chain leaving {
        type nat hook postrouting priority srcnat
        oifname != "internet" return
        ip saddr 10.128.0.11 ip protocol tcp snat to ${address}:${share(0)}
        ip saddr 10.128.0.12 ip protocol tcp snat to ${address}:${share(1)}
        ip saddr 10.128.0.0/24 snat to ${address}
      }
    }`;
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

/** Ports come back soon, so that a fault is over when it is over. */
const NAT_TIMES = {
  'net/netfilter/nf_conntrack_tcp_timeout_syn_sent': 2,
  'net/netfilter/nf_conntrack_tcp_timeout_time_wait': 2,
  'net/netfilter/nf_conntrack_tcp_timeout_close': 1,
  'net/netfilter/nf_conntrack_tcp_timeout_fin_wait': 2,
  'net/netfilter/nf_conntrack_tcp_timeout_close_wait': 2,
  'net/netfilter/nf_conntrack_tcp_timeout_last_ack': 2,
};

const partner = (address: string): Host => ({ addresses: { internet: [`${address}/32`] }, way: 'internet', firewall: partnerRules('accept') });
const client = (last: number): Host => ({ addresses: { pods: [`10.8.0.${last}/24`] }, way: '10.8.0.1' });

export const CHAOS = {
  'client-1': client(11),
  'client-2': client(12),
  'client-3': client(13),
  'client-4': client(14),
  'node-1': { addresses: { nodes: ['10.128.0.11/24'] }, way: '10.128.0.1' },
  'node-2': { addresses: { nodes: ['10.128.0.12/24'] }, way: '10.128.0.1' },
  cloud: { addresses: { pods: ['10.8.0.1/24'], nodes: ['10.128.0.1/24'], internet: [`${TRUSTED}/32`, `${RENUMBERED}/32`] }, way: 'internet', router: true, firewall: `${natRules(TRUSTED)}${lossRules(0)}`, settings: NAT_TIMES },
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

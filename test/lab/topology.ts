/**
 * The lab's network as data: who is there, under which addresses, and what
 * stands between. network.ts builds it.
 *
 *     pods 10.8.0.0/24          nodes 10.128.0.0/24         the internet, one wire
 *     ┌───────┐                 ┌────────┐                  ┌────────────────────────┐
 *     │ pod-1 ├──┐           ┌──┤ node-1 │               ┌──┤ eco     203.0.113.10   │
 *     └───────┘  │ ┌───────┐ │  └────────┘               ├──┤ eco-new 203.0.113.20   │
 *                ├─┤ cloud ├─┤                           ├──┤ echo    203.0.113.80   │
 *     ┌───────┐  │ └───┬───┘ │  ┌────────┐               ├──┤ dns     203.0.113.53   │
 *     │ pod-2 ├──┘     │     └──┤ node-2 │               │  └────────────────────────┘
 *     └───────┘        │        └────────┘               │
 *                      └──── nodes as 34.123.45.67, ─────┘
 *                            everything else as 198.51.100.7
 */

/** Each is one Ethernet segment. */
export type Wire = 'pods' | 'nodes' | 'internet';

export interface Host {
  /** Addresses with their prefix length, by wire. */
  readonly addresses: Partial<Record<Wire, readonly string[]>>;
  /** Where everything else goes: the address of a router, or a wire on which everybody is at hand. */
  readonly way?: string;
  /** Passes packets on. */
  readonly router?: true;
  /** Rules for `nft -f`. */
  readonly firewall?: string;
  /** Files below /proc/sys, with what to write there. */
  readonly settings?: Readonly<Record<string, number>>;
}

export type Topology = Readonly<Record<string, Host>>;

/** The address that the partner trusts, and the one the nodes leave by after the NAT was given another. */
export const TRUSTED = '34.123.45.67';
export const RENUMBERED = '34.123.45.99';
/** What leaves the cluster by any other way than the nodes. */
export const ELSEWHERE = '198.51.100.7';
/** The address of the Service before both proxies. */
export const SERVICE = '10.96.0.10';
/** Ports of the trusted address that each node is given, in order. */
export const PORTS_PER_NODE = 64;

/** The proxies' nodes leave by `address`, each with its share of the ports; others do not. @param reserved ports of a node, of which it has the first `ports` */
export function natRules(address: string, reserved = PORTS_PER_NODE, ports = reserved): string {
  const share = (node: number): string => `${20_000 + node * reserved}-${20_000 + node * reserved + ports - 1}`;
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
        snat to ${ELSEWHERE}
      }
    }`;
}

/** Passes the trusted address alone, and remembers whom it dropped. Nobody is told: a dropped packet has no answer. */
const PARTNER_FIREWALL = `
  table ip firewall {
    set trusted { type ipv4_addr; elements = { ${TRUSTED} } }
    set dropped { type ipv4_addr; flags dynamic; }
    chain arriving {
      type filter hook input priority filter
      tcp dport { 80, 443 } ip saddr != @trusted add @dropped { ip saddr } drop
    }
  }`;

/** The port of a connection that is over, or that nobody answered, is free again much sooner than in a real NAT, so that nobody waits for it. */
export const IMPATIENT_NAT = {
  'net/netfilter/nf_conntrack_tcp_timeout_syn_sent': 2,
  'net/netfilter/nf_conntrack_tcp_timeout_time_wait': 2,
  'net/netfilter/nf_conntrack_tcp_timeout_close': 1,
  'net/netfilter/nf_conntrack_tcp_timeout_fin_wait': 2,
  'net/netfilter/nf_conntrack_tcp_timeout_close_wait': 2,
  'net/netfilter/nf_conntrack_tcp_timeout_last_ack': 2,
};

export const TOPOLOGY = {
  'pod-1': { addresses: { pods: ['10.8.0.11/24'] }, way: '10.8.0.1' },
  'pod-2': { addresses: { pods: ['10.8.0.12/24'] }, way: '10.8.0.1' },
  'node-1': { addresses: { nodes: ['10.128.0.11/24'] }, way: '10.128.0.1' },
  'node-2': { addresses: { nodes: ['10.128.0.12/24'] }, way: '10.128.0.1' },
  cloud: {
    addresses: { pods: ['10.8.0.1/24'], nodes: ['10.128.0.1/24'], internet: [`${TRUSTED}/32`, `${RENUMBERED}/32`, `${ELSEWHERE}/32`] },
    way: 'internet',
    router: true,
    firewall: natRules(TRUSTED),
    settings: IMPATIENT_NAT,
  },
  eco: { addresses: { internet: ['203.0.113.10/32'] }, way: 'internet', firewall: PARTNER_FIREWALL },
  'eco-new': { addresses: { internet: ['203.0.113.20/32'] }, way: 'internet', firewall: PARTNER_FIREWALL },
  dns: { addresses: { internet: ['203.0.113.53/32'] }, way: 'internet' },
  echo: { addresses: { internet: ['203.0.113.80/32'] }, way: 'internet' },
} satisfies Topology;

export type HostName = keyof typeof TOPOLOGY;

/** The address of a host, the first where it has several. */
export function addressOf(host: HostName): string {
  const { addresses }: Host = TOPOLOGY[host];
  const [first] = Object.values(addresses).flat();
  if (first === undefined) throw new Error(`${host} has no address`);
  return first.replace(/\/\d+$/, '');
}

/** Faults by name: how each is brought about and taken back, what clients may see of it, how it is named, and how soon it is over. */
import type { LogLine } from '../lab/proxy-node.ts';
import { RENUMBERED, TRUSTED } from '../lab/topology.ts';
import { until } from '../lab/until.ts';
import type { ClientKind } from './actors/client.ts';
import { chaosAddress } from './topology.ts';
import { capMemory, fillDisk, freeDisk, setClock, withClock, withLogOnDisk, type Wrap } from './replica.ts';
import { PARTNER, type Stage } from './stage.ts';

export interface ChaosFault {
  readonly name: string;
  /** What happens, in words. */
  readonly what: string;
  readonly inject: (stage: Stage) => Promise<void> | void;
  /** Takes it back. */
  readonly heal: (stage: Stage) => Promise<void> | void;
  /** Between the two, s; 5 without it. */
  readonly lasts?: number;
  /** Outcomes that clients may see, besides `ok`, by kind of client; a kind that is not named may see `ok` alone. */
  readonly sees: Partial<Record<ClientKind, RegExp>>;
  /** Calls of other kinds than those that may fail nevertheless: a connection that breaks takes what was on it along. */
  readonly mayLose?: number;
  /** A log line that names it; absent: nothing has to be said, because nothing failed. */
  readonly named?: (line: LogLine) => boolean;
  /** A reason that the status page of a replica gives for it; absent: it has no reason to. */
  readonly page?: RegExp;
  /** Alerts of deploy/monitoring that would fire if it lasted; of a list, at least one. */
  readonly alerts?: readonly (string | readonly string[])[];
  /** How the first replica has to be run for it, in place of by its own command alone. */
  readonly replica?: (stage: Stage) => Wrap;
  /** How soon log and page, s; 5 without it. */
  readonly namedWithin?: number;
  /** From the end of the fault until everything is as before, s; 5 without it. */
  readonly healsWithin?: number;
}

const HOUR_MS = 3_600_000;
const code = (...codes: string[]) => (line: LogLine): boolean => codes.includes(String(line.code));
const says = (pattern: RegExp) => (line: LogLine): boolean => pattern.test(line.msg ?? '');
/** No address can be used: what the proxy answers, or the connection shows. */
const DOWN = /^(?:50[234] [a-z-]+|reset|timeout)$/;
const ALL = (outcomes: RegExp): ChaosFault['sees'] => ({ gateway: outcomes, forward: outcomes, connect: outcomes, tunnel: outcomes, parent: outcomes });
const DIRECT = (outcomes: RegExp): ChaosFault['sees'] => ({ gateway: outcomes, forward: outcomes, connect: outcomes, tunnel: outcomes });
const bothAddresses = (verdict: string) => async (stage: Stage): Promise<void> => {
  await Promise.all([stage.firewall('eco-a', verdict), stage.firewall('eco-b', verdict)]);
};
/** The process of the first replica. */
const pidOf = (stage: Stage): number => {
  const found = stage.pid(stage.nodes[0]);
  if (found === null) throw new Error('the first replica does not run');
  return found;
};
/** Sets the clock of the first replica, and sees that it is. */
async function jump(stage: Stage, hours: number): Promise<void> {
  setClock(stage.directory, hours);
  const { at } = JSON.parse((await stage.askAdmin(stage.nodes[0], '/status.json')) ?? '{}') as { at?: string };
  const found = (Date.parse(at ?? '') - Date.now()) / HOUR_MS;
  if (!(Math.abs(found - hours) < 0.1)) throw new Error(`the clock was to be ${hours} h ahead, and is ${found.toFixed(2)} h`);
}
/** A configuration that takes a hundred MB to read. */
const LARGE = `version: 1\nclients:\n  pods:\n    addresses:\n${Array.from({ length: 500_000 }, (_, i) => `      - 10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}\n`).join('')}`;
/** What was held on an address that vanishes is lost: each tunnel once, and requests that were under way. */
const ON_IT = /^(?:reset|timeout|50[24] (?:upstream-cut|upstream-silent))$/;

export const CHAOS_FAULTS: readonly ChaosFault[] = [
  // The partner's network. The first of its addresses is the one that is tried first.
  { name: 'partner-refuses', what: 'both addresses of the partner refuse connections', inject: bothAddresses('reject with tcp reset'), heal: bothAddresses('accept'), sees: ALL(DOWN), named: code('connection-refused'), page: /connection-refused/, alerts: ['EcoEgressPartnerConnectFailing', 'EcoEgressCircuitOpen'] },
  { name: 'partner-vanishes', what: 'both addresses drop every packet', inject: bothAddresses('drop'), heal: bothAddresses('accept'), sees: ALL(DOWN), named: code('connect-timeout', 'upstream-silent'), healsWithin: 10, page: /connect-timeout|upstream-silent/, alerts: ['EcoEgressPartnerConnectFailing', 'EcoEgressCircuitOpen'] },
  { name: 'address-refuses', what: 'one of two addresses refuses connections', inject: (stage) => stage.firewall('eco-a', 'reject with tcp reset'), heal: (stage) => stage.firewall('eco-a', 'accept'), sees: DIRECT(ON_IT) },
  { name: 'address-vanishes', what: 'one of two addresses drops every packet', inject: (stage) => stage.firewall('eco-a', 'drop'), heal: (stage) => stage.firewall('eco-a', 'accept'), sees: DIRECT(ON_IT), healsWithin: 10 },
  { name: 'partner-unplugged', what: 'the partner’s links are cut for 10 s', inject: async (stage) => { await Promise.all([stage.plug('eco-a', 'down'), stage.plug('eco-b', 'down')]); }, heal: async (stage) => { await Promise.all([stage.plug('eco-a', 'up'), stage.plug('eco-b', 'up')]); }, lasts: 10, sees: ALL(DOWN), named: code('connect-timeout', 'unreachable', 'upstream-silent'), healsWithin: 10, page: /connect-timeout|upstream-silent/, alerts: ['EcoEgressPartnerConnectFailing', 'EcoEgressCircuitOpen'] },

  // The partner's servers.
  { name: 'partner-silent', what: 'requests get no answer', inject: (stage) => { stage.partner({ mode: 'silent' }); }, heal: (stage) => { stage.partner({ mode: 'ok' }); }, sees: ALL(/^(?:50[34] (?:upstream-silent|circuit-open)|timeout|reset)$/), named: code('upstream-silent'), healsWithin: 10, page: /upstream-silent/, alerts: ['EcoEgressPartnerResponseFailing'] },
  { name: 'partner-resets', what: 'each request is answered by a reset', inject: (stage) => { stage.partner({ mode: 'reset' }); }, heal: (stage) => { stage.partner({ mode: 'ok' }); }, sees: ALL(/^(?:50[23] (?:upstream-cut|circuit-open)|reset)$/), named: code('upstream-cut'), healsWithin: 10, page: /upstream-cut/, alerts: ['EcoEgressPartnerResponseFailing'] },
  { name: 'partner-garbage', what: 'answers are no HTTP', inject: (stage) => { stage.partner({ mode: 'garbage' }); }, heal: (stage) => { stage.partner({ mode: 'ok' }); }, sees: ALL(/^(?:50[23] (?:upstream-malformed|circuit-open)|reset|failed HPE_INVALID_CONSTANT)$/), named: code('upstream-malformed'), healsWithin: 10, page: /upstream-malformed/, alerts: ['EcoEgressPartnerResponseFailing'] },
  { name: 'partner-half', what: 'answers break in the middle', inject: (stage) => { stage.partner({ mode: 'half' }); }, heal: (stage) => { stage.partner({ mode: 'ok' }); }, sees: ALL(/^(?:reset|503 circuit-open)$/), named: code('upstream-cut'), healsWithin: 10, page: /upstream-cut/, alerts: ['EcoEgressPartnerResponseFailing'] },
  { name: 'partner-errors', what: 'every answer is a 500 of the application', inject: (stage) => { stage.partner({ mode: 'error' }); }, heal: (stage) => { stage.partner({ mode: 'ok' }); }, sees: ALL(/^500$/), page: /5xx/, alerts: ['EcoEgressPartnerErrors'] },
  { name: 'partner-slow', what: 'every answer takes a second', inject: (stage) => { stage.partner({ mode: 'slow' }); }, heal: (stage) => { stage.partner({ mode: 'ok' }); }, sees: {} },

  // Its TLS. Inside tunnels, clients see it for themselves.
  // Whether enough of all requests fail for the second alert depends on how soon the circuit opens: it refuses what would have failed.
  { name: 'certificate-expired', what: 'new handshakes show a certificate that has expired', inject: (stage) => { stage.partner({ certificate: 'expired' }); }, heal: (stage) => { stage.partner({ certificate: 'good' }); }, lasts: 8, sees: { gateway: /^50[23] (?:tls-certificate|circuit-open)$/, connect: /^tls$/ }, named: code('tls-certificate'), namedWithin: 8, healsWithin: 10, page: /tls-certificate/, alerts: [['EcoEgressCircuitOpen', 'EcoEgressPartnerTlsFailing']] },
  { name: 'certificate-of-another', what: 'new handshakes show the certificate of another name', inject: (stage) => { stage.partner({ certificate: 'other' }); }, heal: (stage) => { stage.partner({ certificate: 'good' }); }, lasts: 8, sees: { gateway: /^50[23] (?:tls-certificate|circuit-open)$/, connect: /^tls$/ }, named: code('tls-certificate'), namedWithin: 8, healsWithin: 10, page: /tls-certificate/, alerts: [['EcoEgressCircuitOpen', 'EcoEgressPartnerTlsFailing']] },
  { name: 'certificate-rotated', what: 'new handshakes show another certificate of the same authority', inject: (stage) => { stage.partner({ certificate: 'next' }); }, heal: (stage) => { stage.partner({ certificate: 'good' }); }, sees: {} },
  { name: 'handshake-cut', what: 'TLS handshakes are cut after the first bytes', inject: (stage) => { stage.partner({ mode: 'tls-cut' }); }, heal: (stage) => { stage.partner({ mode: 'ok' }); }, lasts: 8, sees: { gateway: /^50[23] (?:tls-failed|circuit-open)$/, connect: /^(?:reset|tls)$/ }, named: code('tls-failed'), namedWithin: 8, healsWithin: 10, page: /tls-failed/, alerts: ['EcoEgressCircuitOpen'] },

  // Names. The last good answer is used while the resolver fails (RFC 8767), and for half a minute nobody asks again: so these are far from one another.
  { name: 'resolver-lies', what: 'the name leads to a metadata address', inject: (stage) => { stage.resolver({ zone: { [PARTNER]: ['169.254.169.254'] } }); }, heal: (stage) => { stage.resolver({ zone: { [PARTNER]: [chaosAddress('eco-a'), chaosAddress('eco-b')], 'echo.partner.internal': [chaosAddress('echo')] } }); }, sees: DIRECT(/^403 address-not-allowed$/), named: code('address-not-allowed'), healsWithin: 8, page: /address-not-allowed/, alerts: ['EcoEgressPartnerFailing'] },
  { name: 'resolver-nxdomain', what: 'the resolver says that the name does not exist', inject: (stage) => { stage.resolver({ mode: 'NXDOMAIN' }); }, heal: (stage) => { stage.resolver({ mode: 'ok' }); }, sees: DIRECT(/^50[23] (?:name-not-found|circuit-open)$/), named: code('name-not-found'), healsWithin: 8, page: /name-not-found/, alerts: ['EcoEgressPartnerNameFailing'] },
  { name: 'resolver-silent', what: 'the resolver does not answer', inject: (stage) => { stage.resolver({ mode: 'silent' }); }, heal: (stage) => { stage.resolver({ mode: 'ok' }); }, sees: {}, named: says(/resolver/) },

  // The parent proxy.
  { name: 'parent-refuses', what: 'the parent proxy refuses connections', inject: (stage) => stage.firewall('parent', 'reject with tcp reset'), heal: (stage) => stage.firewall('parent', 'accept'), sees: { parent: /^50[234] [a-z-]+$/ }, named: code('hop-failed', 'hop-timeout'), healsWithin: 8, page: /hop-failed/, alerts: ['EcoEgressCircuitOpen'] },
  { name: 'parent-vanishes', what: 'the parent proxy drops every packet', inject: (stage) => stage.firewall('parent', 'drop'), heal: (stage) => stage.firewall('parent', 'accept'), sees: { parent: /^(?:50[234] [a-z-]+|timeout)$/ }, named: code('hop-failed', 'hop-timeout', 'upstream-silent'), healsWithin: 10, page: /hop-timeout|upstream-silent/, alerts: ['EcoEgressPartnerFailing'] },

  // The address.
  { name: 'nat-renumbered', what: 'new connections leave by an address that the partner does not know', inject: (stage) => stage.nat(RENUMBERED), heal: (stage) => stage.nat(TRUSTED), lasts: 8, sees: ALL(DOWN), named: says(/source address is WRONG/), healsWithin: 15, page: /^The source address is/, alerts: ['EcoEgressSourceAddressWrong'] },
  { name: 'nat-exhausted', what: 'the NAT has three ports for each node', inject: (stage) => stage.nat(TRUSTED, 3), heal: (stage) => stage.nat(TRUSTED), sees: ALL(DOWN), healsWithin: 15 },
  { name: 'packets-lost', what: 'one packet in ten is lost', inject: (stage) => stage.lose(10), heal: (stage) => stage.lose(0), lasts: 8, sees: ALL(DOWN), healsWithin: 15 },

  { name: 'resolver-servfail', what: 'the resolver answers SERVFAIL', inject: (stage) => { stage.resolver({ mode: 'SERVFAIL' }); }, heal: (stage) => { stage.resolver({ mode: 'ok' }); }, sees: {}, named: says(/resolver/) },

  // The replicas.
  { name: 'replica-killed', what: 'one replica is killed', inject: (stage) => stage.nodes[0].kill(), heal: (stage) => stage.nodes[0].start(), sees: ALL(/^(?:reset|refused|timeout)$/), healsWithin: 8, alerts: ['EcoEgressReplicaDown'] },
  { name: 'replica-frozen', what: 'one replica is stopped (SIGSTOP)', inject: (stage) => { stage.nodes[0].signal('SIGSTOP'); }, heal: (stage) => { stage.nodes[0].signal('SIGCONT'); }, sees: ALL(/^(?:timeout|50[24] [a-z-]+|reset)$/), healsWithin: 10, alerts: ['EcoEgressReplicaDown'] },
  { name: 'replica-unplugged', what: 'one node loses its link', inject: (stage) => stage.plug('node-1', 'down'), heal: (stage) => stage.plug('node-1', 'up'), sees: ALL(/^(?:timeout|reset|50[24] [a-z-]+)$/), healsWithin: 15, alerts: ['EcoEgressReplicaDown'] },
  { name: 'replica-restarted', what: 'one replica is restarted in order', inject: async (stage) => { await stage.nodes[0].stop(); }, heal: (stage) => stage.nodes[0].start(), sees: {}, named: says(/^draining/), healsWithin: 5, page: /draining/, alerts: ['EcoEgressReplicaDown'] },
  {
    name: 'replica-out-of-memory',
    what: 'one replica gets no more memory and is given a file that needs it; it ends, and is started again',
    inject: async (stage) => {
      const pid = pidOf(stage);
      capMemory(pid);
      stage.nodes[0].offer(LARGE);
      await until('the replica ends', () => {
        if (stage.pid(stage.nodes[0]) === pid) throw new Error('it runs');
      });
    },
    heal: async ({ nodes: [node] }) => {
      await node.kill();
      await node.start();
    },
    sees: ALL(/^(?:reset|refused|timeout)$/),
    alerts: ['EcoEgressReplicaDown'],
    healsWithin: 8,
  },
  { name: 'clock-forward', what: 'the clock of one replica jumps an hour ahead, and back', replica: ({ directory }) => withClock(directory), inject: (stage) => jump(stage, 1), heal: (stage) => jump(stage, 0), sees: {} },
  { name: 'clock-back', what: 'the clock of one replica jumps back by an hour, and ahead again', replica: ({ directory }) => withClock(directory), inject: (stage) => jump(stage, -1), heal: (stage) => jump(stage, 0), sees: {} },
  { name: 'disk-full', what: 'the disk is full that one replica writes its log to', replica: ({ directory }) => withLogOnDisk(directory), inject: async (stage) => { fillDisk(pidOf(stage), stage.directory); await stage.flood('client-4', 200); }, heal: (stage) => { freeDisk(pidOf(stage), stage.directory); }, sees: {}, page: /log/, alerts: ['EcoEgressLogLinesDropped'] },
  {
    name: 'policy-broken',
    what: 'both replicas are given a faulty file',
    inject: async (stage) => { await Promise.all(stage.nodes.map((node) => node.reloadText('version: 1\nrules: 17\n'))); },
    heal: async (stage) => { await Promise.all(stage.nodes.map((node) => node.reload(stage.configuration()))); },
    sees: {},
    page: /configuration|reload/,
    alerts: ['EcoEgressReloadRefused'],
    named: says(/^reload refused/),
  },
  {
    name: 'policy-narrowed',
    what: 'the rule for one destination is taken away',
    inject: async (stage) => { await Promise.all(stage.nodes.map((node) => node.reload({ rules: [{ clients: ['pods'], destinations: ['eco-sit'] }] }))); },
    heal: async (stage) => { await Promise.all(stage.nodes.map((node) => node.reload(stage.configuration()))); },
    sees: { parent: /^403 no-rule$/ },
    alerts: ['EcoEgressDenialsRising'],
    named: code('no-rule'),
  },

  { name: 'resolver-garbage', what: 'the resolver answers with garbage', inject: (stage) => { stage.resolver({ mode: 'garbage' }); }, heal: (stage) => { stage.resolver({ mode: 'ok' }); }, sees: {}, named: says(/resolver/) },

  // A client.
  { name: 'pod-floods', what: 'one pod asks for a thousand hosts that are denied, as fast as it can', inject: (stage) => stage.flood('client-4', 1000), heal: () => {}, lasts: 1, sees: {}, named: code('host-not-allowed') },

  // Two at once.
  {
    name: 'address-vanishes-and-resolver-silent',
    what: 'one of two addresses drops every packet, and the resolver does not answer',
    inject: async (stage) => { stage.resolver({ mode: 'silent' }); await stage.firewall('eco-a', 'drop'); },
    heal: async (stage) => { stage.resolver({ mode: 'ok' }); await stage.firewall('eco-a', 'accept'); },
    sees: DIRECT(ON_IT),
    healsWithin: 10,
  },
  {
    name: 'replica-killed-and-address-refuses',
    what: 'one replica is killed, and one of two addresses refuses connections',
    inject: async (stage) => { await stage.firewall('eco-a', 'reject with tcp reset'); await stage.nodes[0].kill(); },
    heal: async (stage) => { await stage.firewall('eco-a', 'accept'); await stage.nodes[0].start(); },
    sees: ALL(/^(?:reset|refused|timeout|502 upstream-cut)$/),
    alerts: ['EcoEgressReplicaDown'],
    healsWithin: 8,
  },
];

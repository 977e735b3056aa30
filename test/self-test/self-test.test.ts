/** The self-test of whole proxies: what it asks, what it finds, and that nobody else notices. */
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { hashPassword } from '../../src/identity/proxy-authorization.ts';
import { compilePolicy, type Policy, type PolicyConfig } from '../../src/policy/compile.ts';
import { type Draft, ECO, type Lab, type LabOptions } from '../support/lab.ts';
import { sumOf } from '../support/prometheus.ts';
import { startTlsLab, type TlsLab } from '../support/tls-lab.ts';
import { askRaw, openWire } from '../support/wire.ts';

const EVERY = '20ms';

interface Seen extends TlsLab {
  /** Names that were looked up. */
  readonly lookups: string[];
}

async function start(t: Test, { configure, ...options }: Omit<LabOptions, 'lookup' | 'files'> & { readonly listener?: Record<string, unknown>; readonly tlsServer?: Record<string, unknown> | null } = {}): Promise<Seen> {
  const lookups: string[] = [];
  const lab = await startTlsLab(t, {
    ...options,
    configure: (draft, ports) => {
      draft.selfTest = { every: EVERY };
      configure?.(draft, ports);
    },
    lookup: async (host) => {
      lookups.push(host);
      return { addresses: ['127.0.0.1'], ttl: null };
    },
  });
  return { ...lab, lookups };
}

const ready = async (lab: Lab): Promise<{ status: number; reasons: string[]; warnings: string[] }> => {
  const response = await fetch(`${lab.adminUrl}/readyz`);
  const { reasons = [], warnings = [] } = (await response.json()) as { reasons?: string[]; warnings?: string[] };
  return { status: response.status, reasons, warnings };
};

/** Asks until it fits; a test that waits for nothing runs into its own time limit. */
async function until<T>(ask: () => Promise<T>, fits: (answer: T) => boolean): Promise<T> {
  for (;;) {
    const answer = await ask();
    if (fits(answer)) return answer;
    await delay(5);
  }
}

const enforcement = async (lab: Lab): Promise<number | undefined> => (await lab.scrape()).samples.get('eco_egress_enforcement');
const settles = (lab: Lab, value: number): Promise<number | undefined> => until(() => enforcement(lab), (seen) => seen === value);
const page = async (lab: Lab): Promise<string> => (await fetch(`${lab.adminUrl}/`)).text();

/** So many more have ended. */
async function rounds(lab: Lab, count: number): Promise<void> {
  const seen = new Set<number | undefined>();
  await until(async () => seen.add((await lab.scrape()).samples.get('eco_egress_enforcement_timestamp_seconds')), ({ size }) => size > count);
}

/** Nothing of it shows where requests of clients do, and nothing has left the proxy. */
async function unnoticed(t: Test, lab: Seen): Promise<void> {
  const { samples } = await lab.scrape();
  t.strictSame([...samples].filter(([name, value]) => /requests_total|upstream_errors_total|connections_opened_total|internal_errors_total|client_connections|bytes_total/.test(name) && value !== 0), [], 'nothing is counted');
  t.strictSame(lab.log.filter(({ msg }) => msg === undefined || msg.includes('internal error')), [], 'nothing is logged');
  t.match(await (await fetch(`${lab.adminUrl}/denials`)).json(), { total: 0 }, 'nothing is remembered');
  t.strictSame(lab.lookups, [], 'nothing was looked up');
  t.equal(lab.upstream.connections, 0, 'nothing was dialled');
}

const HASH = await hashPassword('secret');

const BROKEN = {
  /** Every name is in the first destination, and each request that the policy knows is for it. */
  hosts: (config: PolicyConfig): Policy => {
    const policy = compilePolicy(config);
    return { ...policy, hosts: { ...policy.hosts, find: () => [0] }, destinations: policy.destinations.map((destination) => ({ ...destination, ports: { ...destination.ports, has: () => true } })) };
  },
  /** Everybody is the first client. */
  clients: (config: PolicyConfig): Policy => {
    const policy = compilePolicy(config);
    return { ...policy, table: { ...policy.table, find: () => 0 } };
  },
};

const SHAPES: Record<string, Parameters<typeof start>[1]> = {
  'all forms': {},
  'no TLS that ends here': { tlsServer: null },
  'a client certificate is required': { tlsServer: { clientCaFile: 'ca.pem', clientCertificate: 'require' } },
  'no form but the gateway': { configure: ({ listeners }) => void (listeners['http'] = [{ address: '127.0.0.1:0', forms: ['gateway'] }, { address: '127.0.0.1:0', forms: ['connect'] }]), listener: { forms: ['sni'] } },
  'no sni': { listener: { forms: ['connect', 'host-routed'] } },
  'a trusted peer has to name its clients': {
    configure: ({ listeners }) => void (listeners['http'] = [{ address: '127.0.0.1:0', proxyProtocol: 'from-trusted', trustedPeers: ['127.0.0.0/8'] }]),
    listener: { proxyProtocol: 'from-trusted', trustedPeers: ['127.0.0.0/8'] },
  },
  'another peer is trusted': {
    configure: ({ listeners }) => void (listeners['http'] = [{ address: '127.0.0.1:0', proxyProtocol: 'from-trusted', trustedPeers: ['10.0.0.0/8'], believe: ['x-forwarded-for'] }]),
    listener: { proxyProtocol: 'from-trusted', trustedPeers: ['10.0.0.0/8'] },
  },
  'clients far away': { configure: ({ clients }) => void (clients['pods'] = { addresses: ['10.8.0.0/14', 'fd00::/8'] }) },
  'clients by IPv6 alone, named by a trusted peer': {
    configure: ({ listeners, clients }) => {
      clients['pods'] = { addresses: ['fd00::/8'] };
      listeners['http'] = [{ address: '127.0.0.1:0', proxyProtocol: 'from-trusted', trustedPeers: ['127.0.0.0/8'] }];
    },
  },
  'clients with certificates alone': { tlsServer: { clientCaFile: 'ca.pem', clientCertificate: 'request' }, configure: ({ clients }) => void (clients['pods'] = { certificates: ['spiffe://cluster.local/ns/a/*'] }) },
  'clients with passwords': { configure: ({ clients }) => void (clients['pods'] = { addresses: ['127.0.0.0/8'], basic: [{ user: 'pod', hash: HASH }] }) },
  'everybody is a client': { configure: ({ clients }) => void (clients['pods'] = { addresses: ['0.0.0.0/0', '::/0'] }) },
  'every address of the host': { configure: ({ listeners }) => void (listeners['http'] = ['0.0.0.0:0', '[::]:0']) },
  'the destination reports': { configure: ({ destinations }) => void (destinations.eco['report'] = true) },
  'no destination': { configure: (draft) => { Object.assign(draft, { destinations: {}, rules: [] }); } },
  'an open destination': { configure: ({ destinations }) => void (destinations['open'] = { hosts: ['*.example', '*.com', '169.254.169.254'], ports: ['1-65535'] }) },
};

t.test('it passes, whatever the listeners accept, and leaves no trace', async (t) => {
  for (const [shape, options] of Object.entries(SHAPES)) {
    await t.test(shape, async (t) => {
      const lab = await start(t, options);
      await until(() => page(lab), (text) => /Allowlist<\/th><td>(?!not run yet)/.test(text));
      t.match(await page(lab), /the allowlist is in force, as of \d{4}-/);
      t.equal(await enforcement(lab), 1);
      t.match(await ready(lab), { status: 200, reasons: { length: 0 } });
      await unnoticed(t, lab);
    });
  }
});

t.test('a policy that admits what it must refuse: found in each form, and nothing is dialled', async (t) => {
  const cases = [
    { name: 'hosts', broken: BROKEN.hosts, options: {}, says: /connect on 127\.0\.0\.1:\d+ was admitted for self-test-[0-9a-f]{16}\.invalid, and \d+ more/ },
    { name: 'hosts, steered TLS alone', broken: BROKEN.hosts, options: { tlsServer: null, configure: ({ listeners }: Draft) => void (listeners['http'] = [{ address: '127.0.0.1:0', forms: ['gateway'] }]) }, says: /sni on 127\.0\.0\.1:\d+ was admitted/ },
    { name: 'hosts, forward alone', broken: BROKEN.hosts, options: { listener: { forms: ['connect'] }, tlsServer: null, configure: ({ listeners }: Draft) => void (listeners['http'] = [{ address: '127.0.0.1:0', forms: ['forward'] }]) }, says: /forward on .* was admitted/ },
    { name: 'hosts, steered alone', broken: BROKEN.hosts, options: { listener: { forms: ['connect'] }, tlsServer: null, configure: ({ listeners }: Draft) => void (listeners['http'] = [{ address: '127.0.0.1:0', forms: ['host-routed'] }]) }, says: /host-routed on .* was admitted/ },
    { name: 'hosts, in TLS alone', broken: BROKEN.hosts, options: { listener: { forms: ['connect'] }, configure: ({ listeners }: Draft) => void (listeners['http'] = [{ address: '127.0.0.1:0', forms: ['gateway'] }]) }, says: /connect in TLS on .* was admitted/ },
    { name: 'clients', broken: BROKEN.clients, options: {}, says: /gateway on .* was admitted for eco-sit\.telus\.internal/ },
  ];
  for (const { name, broken, options, says } of cases) {
    await t.test(name, async (t) => {
      const lab = await start(t, { ...options, compile: broken });
      await settles(lab, 0);
      const { status, reasons } = await ready(lab);
      t.equal(status, 503);
      t.match(reasons[0], says);
      t.match(reasons[0], /^The allowlist is not in force: .*\.$/);
      t.match(await page(lab), /the allowlist is NOT in force: /);
      t.match(await lab.logged(({ msg }) => msg === 'self-test: the allowlist is NOT in force'), { level: 'error', reason: says });
      await rounds(lab, 3);
      t.equal(lab.log.filter(({ msg }) => msg?.startsWith('self-test')).length, 1, 'told once');
      await unnoticed(t, lab);
    });
  }
});

t.test('report mode and off: nothing is asked, and back', async (t) => {
  const lab = await start(t);
  await settles(lab, 1);
  for (const [words, change] of [
    ['report mode lets pass', (draft: Draft) => void (draft.mode = 'report')],
    ['off', (draft: Draft) => void (draft.selfTest = { every: 'off' })],
  ] as const) {
    await lab.reload(change);
    t.equal(await enforcement(lab), undefined, words);
    t.match(await page(lab), new RegExp(`Allowlist</th><td>${words}`));
    t.match(await ready(lab), { status: 200, reasons: { length: 0 } });
    await lab.logged(({ msg }) => msg?.startsWith(`self-test: ${words}`) === true);
    await lab.reload((draft) => void (draft.selfTest = { every: EVERY }));
    await settles(lab, 1);
  }
  t.equal(lab.log.filter(({ msg }) => msg === 'self-test: the allowlist is in force').length, 2, 'told when it is tested again');
  await unnoticed(t, lab);
});

t.test('a policy that is whole again is found to be at the reload', async (t) => {
  let whole = false;
  const lab = await start(t, { compile: (config) => (whole ? compilePolicy(config) : BROKEN.clients(config)), configure: (draft) => void (draft.selfTest = { every: '1h' }) });
  await settles(lab, 0);
  whole = true;
  await lab.reload((draft) => void (draft.selfTest = { every: '1h' }));
  await settles(lab, 1);
  t.match(await ready(lab), { status: 200, reasons: { length: 0 } });
  t.match(await lab.logged(({ msg }) => msg === 'self-test: the allowlist is in force'), { level: 'info' });
});

t.test('a reload during a round: the next one has its connections for itself', async (t) => {
  let whole = false;
  const once = (draft: Draft): void => void (draft.selfTest = { every: '1h' });
  const lab = await start(t, { compile: (config) => (whole ? compilePolicy(config) : BROKEN.clients(config)), configure: once });
  await settles(lab, 0);
  whole = true;
  await Promise.all([once, once, (draft: Draft) => void (draft.selfTest = { every: 'off' }), once, once].map((change) => lab.reload(change)));
  await settles(lab, 1);
  t.match(await ready(lab), { status: 200, reasons: { length: 0 }, warnings: { length: 0 } });
  await unnoticed(t, lab);
});

t.test('who imitates it is a client like any other', async (t) => {
  const lab = await start(t);
  await settles(lab, 1);
  const name = 'self-test-0123456789abcdef.invalid';
  t.match(await askRaw(t, lab.port, `CONNECT ${name}:443 HTTP/1.1\r\nHost: ${name}:443\r\n\r\n`), /403 Egress denied: host-not-allowed/);
  t.match(await lab.logged(({ host }) => host === name), { code: 'host-not-allowed', client: 'pods' });
  t.equal(sumOf(await lab.scrape(), 'eco_egress_requests_total', { code: 'host-not-allowed' }), 1);
  t.match(await (await fetch(`${lab.adminUrl}/denials`)).json(), { total: 1 });
});

t.test('limits that are reached do not concern it, and it takes no place', async (t) => {
  const lab = await start(t, { configure: ({ limits }) => Object.assign(limits, { connections: 1, connectionsPerClient: 1, tunnels: 1, tunnelsPerClient: 1 }) });
  const wire = await openWire(t, lab.port);
  const { https } = { https: lab.upstream.httpsPort };
  wire.send(`CONNECT ${ECO}:${https} HTTP/1.1\r\nHost: x\r\n\r\n`);
  await wire.until('200 Connection Established');
  await rounds(lab, 3);
  t.equal(await enforcement(lab), 1);
  t.match(await ready(lab), { warnings: { length: 0 } });
  const { samples } = await lab.scrape();
  t.equal(samples.get('eco_egress_client_connections'), 1);
});

t.test('names that the policy permits below the reserved domain: the result is not known', async (t) => {
  const lab = await start(t, { configure: ({ destinations, rules }) => { destinations['odd'] = { hosts: ['*.invalid'], ports: [443] }; rules.push({ clients: ['pods'], destinations: ['odd'] }); } });
  t.match(await until(() => ready(lab), ({ warnings }) => warnings.length > 0), { status: 200, warnings: [/is not known: a destination has the hosts \*\.invalid/] });
  t.equal(await enforcement(lab), undefined);
  await lab.logged(({ msg }) => msg === 'self-test: whether the allowlist is in force is not known');
});

t.test('a drain ends it, and so does the end', async (t) => {
  const lab = await start(t, { configure: ({ timeouts }) => void (timeouts['drainDelay'] = '1h') });
  await settles(lab, 1);
  const at = async (): Promise<number | undefined> => (await lab.scrape()).samples.get('eco_egress_enforcement_timestamp_seconds');
  void lab.service.drain();
  await until(() => ready(lab), ({ status }) => status === 503);
  const stopped = await at();
  for (let i = 0; i < 10; i += 1) t.equal(await at(), stopped, 'no more rounds');
  t.match((await ready(lab)).reasons, ['The proxy is draining.']);
  await lab.service.close();
  t.strictSame(lab.log.filter(({ msg }) => msg?.startsWith('self-test') === true), []);
});

/** What an explanation says of a request is what the request gets: verdict, code, client, destination and rule, in every form. */
import t, { type Test } from 'tap';
import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { ExplainRequest } from '../../src/explain/explainer.ts';
import type { Lookup } from '../../src/dial/lookup.ts';
import { hashPassword } from '../../src/identity/proxy-authorization.ts';
import { ECO, type Draft, type Lab, type LogLine, startLab } from '../support/lab.ts';
import { OWN, startTlsLab } from '../support/tls-lab.ts';
import { askRaw } from '../support/wire.ts';

const PASSWORD = 'correct horse battery';
const POD = '127.0.0.1';
const BATCH = '127.0.0.2';
const STRANGER = '127.0.0.3';
const SEALED = '127.0.0.4';

/** ECO is where the test's upstream is; nobody answers at the others. */
const ADDRESSES: Record<string, readonly string[]> = {
  [ECO]: ['127.0.0.1'],
  'inside.telus.internal': ['10.99.0.1', '100.64.0.1'],
  'half.telus.internal': ['10.99.0.1', '127.0.0.1'],
  'metadata.telus.internal': ['169.254.169.254'],
  'moved.telus.internal': ['192.0.43.8'],
  'public.example': ['127.0.0.1'],
};

const lookup: Lookup = async (host) => {
  const addresses = ADDRESSES[host];
  if (addresses === undefined) throw Object.assign(new Error('no such name'), { code: 'ENOTFOUND' });
  return { addresses, ttl: null };
};

const hash = await hashPassword(PASSWORD);

function configure(draft: Draft, { https, http }: { https: number; http: number }): void {
  Object.assign(draft.clients, {
    pods: { addresses: [`${POD}/32`] },
    batch: { addresses: [`${BATCH}/32`], basic: [{ user: 'nightly', hash }] },
    sealed: { addresses: [`${SEALED}/32`], certificates: ['DNS:pod.example'] },
  });
  Object.assign(draft.destinations, {
    others: { hosts: ['*.telus.internal'], ports: [https, http], addresses: ['127.0.0.0/8'] },
    narrow: { hosts: ['narrow.example', ECO], ports: [9], forms: ['forward'], addresses: ['127.0.0.0/8'] },
    unused: { hosts: ['unused.example'], ports: [http] },
    reading: { hosts: ['reading.telus.internal'], ports: [http], http: { methods: ['GET'], paths: ['/api/*'] }, addresses: ['127.0.0.0/8'] },
  });
  draft.rules[0] = { clients: ['pods', 'batch', 'sealed'], destinations: ['eco'] };
  draft.rules.push(
    { clients: ['pods'], destinations: ['others', 'narrow', 'reading'] },
    { clients: ['batch'], destinations: ['others'], methods: ['GET'] },
    { clients: ['batch'], destinations: ['narrow'], until: '2020-01-01T00:00:00Z' },
  );
}

interface Row {
  readonly method: string;
  readonly target: string;
  readonly host?: string;
  readonly from?: string;
  readonly user?: string;
}

/** Every row is asked, and explained. */
function rows({ upstream: { httpPort: http, httpsPort: https } }: Lab): Row[] {
  return [
    // Each form, and each way to be let through.
    { method: 'CONNECT', target: `${ECO}:${http}` },
    { method: 'CONNECT', target: `${ECO.toUpperCase()}.:${http}` },
    { method: 'GET', target: `http://${ECO}:${http}/x?token=1` },
    { method: 'GET', target: `https://${ECO}:${https}/x` },
    { method: 'GET', target: '/eco/x?y=1', host: 'proxy' },
    { method: 'GET', target: '/eco', host: 'proxy' },
    { method: 'GET', target: '/x', host: `${ECO}:${http}` },
    { method: 'GET', target: '/eco/x', host: `${ECO}:${http}` },
    { method: 'CONNECT', target: `half.telus.internal:${http}` },
    // Who.
    { method: 'CONNECT', target: `${ECO}:${http}`, from: STRANGER },
    { method: 'GET', target: `http://${ECO}:${http}/`, from: STRANGER },
    { method: 'GET', target: '/eco/x', host: 'proxy', from: STRANGER },
    { method: 'GET', target: '/x', host: `${ECO}:${http}`, from: STRANGER },
    { method: 'CONNECT', target: `${ECO}:${http}`, from: BATCH },
    { method: 'CONNECT', target: `${ECO}:${http}`, from: BATCH, user: 'nightly' },
    { method: 'GET', target: `http://${ECO}:${http}/`, from: BATCH, user: 'nightly' },
    { method: 'GET', target: '/eco/x', host: 'proxy', from: BATCH },
    { method: 'GET', target: '/eco/x', host: 'proxy', from: BATCH, user: 'nightly' },
    // Where to.
    { method: 'CONNECT', target: 'evil.example:443' },
    { method: 'GET', target: 'http://evil.example/' },
    { method: 'GET', target: '/x', host: 'evil.example' },
    { method: 'GET', target: '/ecox', host: 'proxy' },
    { method: 'GET', target: '/x', host: 'evil.example', from: STRANGER },
    { method: 'CONNECT', target: 'telus.internal:443' },
    { method: 'CONNECT', target: '169.254.169.254:80' },
    { method: 'CONNECT', target: '2130706433:80' },
    { method: 'CONNECT', target: `${ECO}:22` },
    { method: 'GET', target: `http://${ECO}:22/` },
    { method: 'CONNECT', target: 'narrow.example:9' },
    { method: 'GET', target: '/x', host: 'narrow.example:9' },
    { method: 'GET', target: `http://unused.example:${http}/` },
    // Rules and what they list.
    { method: 'GET', target: `http://x.telus.internal:${http}/`, from: BATCH, user: 'nightly' },
    { method: 'POST', target: `http://x.telus.internal:${http}/`, from: BATCH, user: 'nightly' },
    { method: 'CONNECT', target: `x.telus.internal:${http}`, from: BATCH, user: 'nightly' },
    { method: 'GET', target: 'http://narrow.example:9/', from: BATCH, user: 'nightly' },
    { method: 'GET', target: `http://reading.telus.internal:${http}/api/x` },
    { method: 'GET', target: `http://reading.telus.internal:${http}/other` },
    { method: 'PUT', target: '/api/x', host: `reading.telus.internal:${http}` },
    { method: 'GET', target: `http://reading.telus.internal:${http}/api/%2e%2e/x` },
    // What the name comes to.
    { method: 'CONNECT', target: `inside.telus.internal:${http}` },
    { method: 'GET', target: `http://inside.telus.internal:${http}/` },
    { method: 'CONNECT', target: `metadata.telus.internal:${http}` },
    { method: 'CONNECT', target: `moved.telus.internal:${http}` },
    { method: 'CONNECT', target: `nowhere.telus.internal:${http}` },
    // What is no proper target.
    { method: 'CONNECT', target: ECO },
    { method: 'CONNECT', target: `http://${ECO}/` },
    { method: 'CONNECT', target: `user@${ECO}:443` },
    { method: 'CONNECT', target: `${ECO}..:443` },
    { method: 'CONNECT', target: `${ECO}:0` },
    { method: 'GET', target: 'ftp://evil.example/' },
    { method: 'GET', target: `http://[${ECO}]/` },
    { method: 'GET', target: `http://${ECO}/`, host: 'evil.example' },
    { method: 'GET', target: '/x', host: 'a b' },
    { method: 'GET', target: '/eco/%2e%2e/x', host: 'proxy' },
    { method: 'GET', target: '/eco//evil.example/', host: 'proxy' },
    { method: 'GET', target: '/eco/..\\admin', host: 'proxy' },
    { method: 'GET', target: '/eco/a%2fb', host: 'proxy' },
    { method: 'OPTIONS', target: `http://${ECO}:${http}` },
    { method: 'OPTIONS', target: '*', host: `${ECO}:${http}` },
    { method: 'OPTIONS', target: '*', host: `${ECO}:22` },
    { method: 'GET', target: '*', host: `${ECO}:${http}` },
    // RFC 9112 §3.2.2: the target decides, and not the Host field.
    { method: 'GET', target: `http://${ECO}:${http}/`, host: 'proxy' },
  ];
}

/** The Host that a client would send by itself. */
function hostOf({ target, host }: Row): string {
  return host ?? target.replace(/^[a-z]+:\/\//, '').replace(/\/.*$/, '').replace(/^.*@/, '');
}

async function send(t: Test, lab: Lab, row: Row): Promise<LogLine> {
  const { method, target, from = POD, user } = row;
  const credentials = user === undefined ? '' : `Proxy-Authorization: Basic ${btoa(`${user}:${PASSWORD}`)}\r\n`;
  const host = method === 'CONNECT' ? 'proxy' : hostOf(row);
  // Behind a CONNECT comes what goes through the tunnel, so that it ends by itself.
  const inside = method === 'CONNECT' ? 'GET / HTTP/1.1\r\nHost: eco\r\nConnection: close\r\n\r\n' : '';
  const before = lab.log.length;
  await askRaw(t, lab.port, `${method} ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n${credentials}\r\n${inside}`, from);
  return lab.logged((line) => 'requestId' in line && lab.log.indexOf(line) >= before);
}

function question({ method, target, host, from = POD, user }: Row): ExplainRequest {
  return { client: from, user: user ?? null, subject: null, sans: [], method, target, host: host ?? null, resolve: true };
}

/** What the log says a request got, in the words of an explanation. */
function outcome(line: LogLine): { verdict: unknown; code: unknown; status: unknown } {
  const { verdict, code, status, wouldDeny } = line;
  if (code === 'ok' && verdict === 'report') return { verdict, code: wouldDeny, status: null };
  if (code === 'ok') return { verdict: 'allow', code, status: null };
  // A name that does not resolve was not denied.
  return { verdict: code === 'name-not-found' ? verdict : 'deny', code, status };
}

const NAME = (value: unknown): string => (typeof value === 'string' && value !== '-' ? value : 'none');

async function agree(t: Test, lab: Lab, cases: readonly Row[]): Promise<Map<string, number>> {
  const seen = new Map<string, number>();
  for (const row of cases) {
    const name = [row.method, row.target, row.host ?? '', row.from ?? '', row.user ?? ''].join(' ').trim();
    const answer = await lab.service.explainer.explain(question(row));
    if (typeof answer === 'string') throw new Error(`${name}: ${answer}`);
    const connections = lab.upstream.connections;
    const line = await send(t, lab, row);
    const { verdict, code, status } = answer;
    t.strictSame({ verdict, code, status }, outcome(line), name);
    if (answer.target !== null) {
      t.strictSame([answer.target.form, answer.target.host, answer.target.port], [line['form'], line['host'], line['port']], `${name}: target`);
      t.strictSame([answer.client, answer.destination, answer.rule].map(NAME), [line['client'], line['destination'], line['rule']].map(NAME), `${name}: client, destination, rule`);
    }
    if (verdict === 'deny') t.equal(lab.upstream.connections, connections, `${name}: nothing was dialled`);
    seen.set(code, (seen.get(code) ?? 0) + 1);
  }
  return seen;
}

t.test('enforced', async (t) => {
  const lab = await startLab(t, { lookup, configure });
  const seen = await agree(t, lab, rows(lab));
  for (const code of ['ok', 'client-not-allowed', 'credentials-missing', 'host-not-allowed', 'port-not-allowed', 'form-not-allowed', 'no-rule', 'rule-expired', 'method-not-allowed', 'path-not-allowed', 'path-ambiguous', 'address-not-allowed', 'name-not-found', 'target-malformed', 'request-malformed', 'scheme-not-supported']) {
    t.ok(seen.has(code), `the table has a ${code}`);
  }
});

t.test('in report mode, of the whole policy and of a destination', async (t) => {
  for (const [name, change] of [
    ['mode', (draft: Draft) => Object.assign(draft, { mode: 'report' })],
    ['destination', (draft: Draft) => Object.assign(draft.destinations.eco, { report: true })],
  ] as const) {
    const lab = await startLab(t, {
      lookup,
      configure(draft, ports) {
        configure(draft, ports);
        change(draft);
        draft.timeouts['connect'] = '300ms';
      },
    });
    // What passes is dialled: only the test's upstream answers there.
    const reachable = rows(lab).filter(({ target, host = '' }) => !/:(?:22|9)\b/.test(target + host) && !/(?:evil|moved|narrow|unused|reading)\./.test(target + host));
    await agree(t, lab, reachable);
    t.comment(name);
  }
});

t.test('where the listener takes some forms only', async (t) => {
  const lab = await startLab(t, {
    lookup,
    configure(draft, ports) {
      configure(draft, ports);
      draft.listeners['http'] = [{ address: '127.0.0.1:0', forms: ['gateway', 'forward'] }];
    },
  });
  const seen = await agree(t, lab, rows(lab));
  t.ok((seen.get('form-not-allowed') ?? 0) > 10);
});

t.test('our own listeners', async (t) => {
  const lab = await startLab(t);
  // The port is known only now.
  const { result } = await lab.reload((draft) => {
    draft.destinations.eco['ports'] = [lab.upstream.httpsPort, lab.port];
  });
  t.equal(result, 'applied');
  const seen = await agree(t, lab, [
    { method: 'CONNECT', target: `${ECO}:${lab.port}` },
    { method: 'GET', target: `http://${ECO}:${lab.port}/` },
    { method: 'GET', target: '/', host: `${ECO}:${lab.port}` },
  ]);
  t.strictSame([...seen], [['loop', 3]]);
});

t.test('raw TLS on a TLS listener', async (t) => {
  const lab = await startTlsLab(t, { lookup, configure });
  const { explainer } = lab.service;
  const seen = new Set<unknown>();
  for (const [host, from] of [
    [ECO, POD],
    [ECO.toUpperCase(), POD],
    [ECO, STRANGER],
    [ECO, BATCH],
    // What the question says was shown cannot be shown here.
    [ECO, SEALED],
    ['evil.example', POD],
    ['narrow.example', POD],
    ['unused.example', POD],
    ['x.telus.internal', POD],
    ['inside.telus.internal', POD],
    ['metadata.telus.internal', POD],
  ] as const) {
    const answer = await explainer.explain({ ...question({ method: 'TLS', target: host, from, user: 'nightly' }), sans: ['DNS:pod.example'] });
    if (typeof answer === 'string') throw new Error(answer);
    const before = lab.log.length;
    const socket = connectTls({ socket: connect({ host: '127.0.0.1', port: lab.tlsPort, localAddress: from }), servername: host, rejectUnauthorized: false });
    socket.on('error', () => {});
    socket.once('secureConnect', () => socket.end('GET / HTTP/1.1\r\nHost: eco\r\nConnection: close\r\n\r\n'));
    socket.resume();
    await new Promise((resolve) => socket.once('close', resolve));
    const line = await lab.logged((candidate) => 'requestId' in candidate && lab.log.indexOf(candidate) >= before);
    const name = `${host} ${from}`;
    t.strictSame({ verdict: answer.verdict, code: answer.code }, { verdict: outcome(line).verdict, code: line.code }, name);
    t.strictSame([answer.target?.form, answer.target?.host, answer.target?.port], [line['form'], line['host'], line['port']], `${name}: target`);
    t.strictSame([answer.client, answer.destination, answer.rule].map(NAME), [line['client'], line['destination'], line['rule']].map(NAME), `${name}: client, destination, rule`);
    seen.add(answer.code);
  }
  for (const code of ['ok', 'client-not-allowed', 'host-not-allowed', 'form-not-allowed', 'no-rule', 'address-not-allowed']) t.ok(seen.has(code), `the table has a ${code}`);
  t.match(await explainer.explain({ ...question({ method: 'TLS', target: ECO }), sans: ['DNS:pod.example'] }), { peer: { sans: { length: 0 } }, notes: [/^Of the listeners, /, /^A ClientHello shows no credentials, and names no port; \d+ is the one that the policy means\.$/] });
  t.match(await explainer.explain(question({ method: 'TLS', target: `${ECO}:443` })), { verdict: 'deny', code: 'target-malformed', remedy: 'write TLS and a host, without a port' });
  t.equal(await explainer.explain(question({ method: 'TLS', target: OWN })), `${OWN} is a name of this proxy: TLS for it ends here, so ask about the request inside.`);
});

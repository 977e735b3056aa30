/** What an answer holds, what it does not, and what becomes of a denial that is recalled. */
import t, { type Test } from 'tap';
import type { ExplainAnswer } from '../../src/explain/answer.ts';
import type { ExplainRequest } from '../../src/explain/explainer.ts';
import type { Lookup } from '../../src/dial/lookup.ts';
import { ECO, type Lab, startLab } from '../support/lab.ts';
import { askRaw } from '../support/wire.ts';

async function explain(lab: Lab, more: Partial<ExplainRequest>): Promise<ExplainAnswer> {
  const answer = await lab.service.explainer.explain({ client: null, user: null, subject: null, sans: [], method: 'CONNECT', target: `${ECO}:${lab.upstream.httpPort}`, host: null, resolve: true, ...more });
  if (typeof answer === 'string') throw new Error(answer);
  return answer;
}

/** An answer to the look-up for each name; a name without one does not exist. */
function resolving(addresses: Record<string, readonly string[]>): Lookup {
  return async (host) => {
    const found = addresses[host];
    if (found === undefined) throw Object.assign(new Error('no'), { code: 'ENOTFOUND' });
    return { addresses: found, ttl: null };
  };
}

async function deny(t: Test, lab: Lab, target: string): Promise<string> {
  const answer = await askRaw(t, lab.port, `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`);
  return /X-Request-Id: (\S+)/.exec(answer)?.[1] ?? '';
}

t.test('an allowed request, whole', async (t) => {
  const lab = await startLab(t, { lookup: resolving({ [ECO]: ['127.0.0.1', '10.0.0.1'] }) });
  const { httpPort } = lab.upstream;
  const answer = await explain(lab, { method: 'GET', target: `http://${ECO.toUpperCase()}.:${httpPort}/%61?token=secret`, client: 'pods' });
  t.match(answer, {
    verdict: 'allow',
    code: 'ok',
    status: null,
    why: 'rules[0] lets pods use eco',
    remedy: null,
    change: null,
    report: null,
    mode: 'enforce',
    configHash: /^[0-9a-f]{16}$/,
    asked: { method: 'GET', host: null },
    peer: { address: '127.0.0.0' },
    target: { form: 'forward', method: 'GET', host: ECO, port: httpPort, path: '/a', kind: 'name' },
    client: 'pods',
    destination: 'eco',
    rule: 'rules[0]',
    clients: [{ name: 'pods', matches: true, chosen: true, kinds: [{ detail: '127.0.0.0 is in 127.0.0.0/8' }] }],
    clientsLeftOut: 0,
    addresses: [
      { address: '127.0.0.1', class: 'loopback', reference: 'RFC 1122', via: null, verdict: 'allow', code: null, detail: null },
      { address: '10.0.0.1', class: 'private', verdict: 'deny', code: 'address-not-allowed', detail: /outside the ranges/ },
    ],
    notes: ['1 of 2 addresses is never dialled.'],
  });
  t.notMatch(JSON.stringify(answer), 'secret');
  t.equal(lab.upstream.connections, 0, 'nothing was dialled');
});

t.test('addresses that are not permitted come with the change that would permit them, where a partner could be', async (t) => {
  const lab = await startLab(t, {
    lookup: resolving({ 'inside.example': ['10.0.0.1'], 'six.example': ['2001:db8:1::1'], 'ula.example': ['fd00::1'], 'metadata.example': ['169.254.169.254'], [ECO]: ['192.0.43.8'] }),
    configure(draft, { http }) {
      draft.destinations['public'] = { hosts: ['*.example'], ports: [http] };
      draft.rules.push({ clients: ['pods'], destinations: ['public'] });
    },
  });
  const changeFor = async (host: string): Promise<unknown> => {
    const { verdict, code, change } = await explain(lab, { target: `${host}:${lab.upstream.httpPort}` });
    t.match({ verdict, code }, { verdict: 'deny', code: 'address-not-allowed' }, host);
    return change;
  };
  t.match(await changeFor('inside.example'), { text: /^list all ranges .* 10\.0\.0\.1\/32 among them: from then on no other address/, yaml: null });
  t.match(await changeFor('ula.example'), { text: /fd00::1\/128 among them/, yaml: null });
  t.strictSame(await changeFor(ECO), { text: 'add 192.0.43.8/32 to destinations.eco.addresses, for all of its hosts and clients', yaml: 'destinations:\n  eco:\n    addresses: ["127.0.0.0/8", "192.0.43.8/32"]\n' });
  t.equal(await changeFor('metadata.example'), null);
  t.equal(await changeFor('six.example'), null, 'documentation');
});

t.test('report mode dials public addresses outside the ranges, and is reported', async (t) => {
  const lab = await startLab(t, {
    lookup: resolving({ [ECO]: ['192.0.43.8', '10.0.0.1'] }),
    configure: (draft) => {
      draft.destinations.eco['report'] = true;
    },
  });
  const answer = await explain(lab, {});
  t.match(answer, { verdict: 'report', code: 'address-not-allowed', status: null, addresses: [{ verdict: 'report' }, { verdict: 'deny' }] });
  t.match(await explain(lab, { client: '203.0.113.9' }), { verdict: 'report', code: 'client-not-allowed', status: null, addresses: [{ verdict: 'report' }, { verdict: 'deny' }] }, 'what comes first is what the log says');
});

t.test('a name is looked up only where it would come to that', async (t) => {
  const asked: string[] = [];
  const lab = await startLab(t, {
    lookup: async (host) => {
      asked.push(host);
      return { addresses: ['127.0.0.1'], ttl: null };
    },
  });
  t.equal((await explain(lab, { target: 'evil.example:443' })).addresses, null);
  t.match(await explain(lab, { resolve: false }), { verdict: 'allow', addresses: null, notes: [/^No client/, 'The name was not looked up, so its addresses are not checked.'] });
  t.strictSame(asked, []);
  await explain(lab, {});
  t.strictSame(asked, [ECO]);
});

t.test('a resolver that fails denies nothing', async (t) => {
  const lab = await startLab(t, { lookup: resolving({}) });
  t.match(await explain(lab, {}), { verdict: 'allow', code: 'name-not-found', status: 502, addresses: null });
});

t.test('a client that another one hides', async (t) => {
  const lab = await startLab(t, {
    configure: (draft) => {
      Object.assign(draft.clients, { hidden: { addresses: ['127.0.0.1/32'] }, partly: { addresses: ['127.9.0.0/16', '192.0.2.0/24'] } });
      draft.rules[0] = { clients: ['pods', 'partly'], destinations: ['eco'] };
    },
  });
  t.match(await explain(lab, { client: 'hidden' }), { client: 'pods', notes: ['127.0.0.1 matches pods, which comes before hidden in the file.'] });
  t.match(await explain(lab, { client: 'partly' }), { client: 'partly', peer: { address: '192.0.2.0' }, notes: { length: 0 } }, 'an address that is its own is taken');
});

t.test('what needs another look is said', async (t) => {
  const lab = await startLab(t, {
    configure: (draft) => {
      draft.destinations.eco['tunnelSni'] = 'require';
      draft.listeners['http'] = ['127.0.0.1:0', { address: '127.0.0.1:0', forms: ['gateway'] }];
    },
  });
  const { notes } = await explain(lab, { client: 'pods' });
  t.match(notes, [/^Of the listeners, 127\.0\.0\.1:0 alone can take connect requests\.$/, new RegExp(`^The TLS inside the tunnel has to ask for ${ECO} \\(tunnelSni: require\\)\\.$`)]);
  await lab.reload((draft) => {
    draft.destinations.eco['tunnelSni'] = 'require';
    draft.rules[0] = { ...draft.rules[0], report: true };
  });
  t.match((await explain(lab, { client: 'pods' })).notes.at(-1), /\(tunnelSni: require\), and is reported when it does not\.$/);
});

t.test('answers stay small whatever the size of policy and DNS answer', async (t) => {
  const lab = await startLab(t, {
    lookup: async () => ({ addresses: Array.from({ length: 500 }, (_, i) => `127.0.${i >> 8}.${i & 255}`), ttl: null }),
    configure: (draft) => {
      for (let i = 0; i < 300; i += 1) Object.assign(draft.clients, { [`c${i}`]: { addresses: ['127.0.0.0/8', `10.0.${i % 256}.0/24`] } });
    },
  });
  const answer = await explain(lab, { client: '127.0.0.1' });
  t.equal(answer.clients.length, 20);
  t.equal(answer.clientsLeftOut, 281);
  t.equal(answer.addresses?.length, 32);
  t.match(answer.notes, ['96 further addresses are not shown.'], 'of the 128 that are used');
  t.ok(JSON.stringify(answer).length < 20_000);
});

t.test('a path below no prefix, with a Host that may be the proxy: the words of the refusal, and no destination for it', async (t) => {
  const lab = await startLab(t);
  const body = JSON.parse(await askRaw(t, lab.port, 'GET /four/x HTTP/1.1\r\nHost: proxy.example\r\nConnection: close\r\n\r\n').then((heard) => heard.slice(heard.indexOf('\r\n\r\n')))) as Record<string, string>;
  const answer = await fetch(`${lab.adminUrl}/explain?client=127.0.0.1&method=GET&target=/four/x&host=proxy.example`).then((response) => response.json());
  t.match(answer, { verdict: 'deny', code: body['code'], why: body['detail'], remedy: body['remedy'], change: null, target: { form: 'host-routed' } });
  t.match(body['remedy'], /^ask below a gateway prefix/);
});

t.test('questions that mean nothing', async (t) => {
  const { explainer } = (await startLab(t)).service;
  const ask = (more: Partial<ExplainRequest>): Promise<ExplainAnswer | string> => explainer.explain({ client: null, user: null, subject: null, sans: [], method: 'GET', target: '/', host: null, resolve: true, ...more });
  t.equal(await ask({ method: 'get' }), 'Methods are written in capitals: GET.');
  t.equal(await ask({ method: 'F\u001bOO' }), '"F\\u001bOO" is not an HTTP method. Write the method first, such as GET, then the target.');
  t.match(await ask({ client: 'nobody' }), 'nobody is neither an IP address nor a client; the clients are pods.');
  t.match(await ask({}), { verdict: 'deny', code: 'host-not-allowed', remedy: 'name the destination in a Host field, or ask below a gateway prefix' });
});

t.test('a denial is recalled with what the policy in force says now', async (t) => {
  const lab = await startLab(t);
  const { explainer } = lab.service;
  const target = `${ECO}:${lab.upstream.httpPort - 1}`;
  const requestId = await deny(t, lab, target);
  t.match(await explainer.recall(requestId, true), { requestId, verdict: 'deny', code: 'port-not-allowed', form: 'connect', client: 'pods', host: ECO, status: 403, detail: String, remedy: String, now: { verdict: 'deny', code: 'port-not-allowed', asked: { method: 'CONNECT', target } } });
  const { result } = await lab.reload((draft) => {
    draft.destinations.eco['ports'] = [lab.upstream.httpPort - 1, lab.upstream.httpPort, lab.upstream.httpsPort];
  });
  t.equal(result, 'applied');
  t.match(await explainer.recall(requestId, true), { code: 'port-not-allowed', now: { verdict: 'allow', code: 'ok' } });
  t.equal(await explainer.recall('unknown', true), null);
});

t.test('a path that has to be quoted is quoted with its host', async (t) => {
  const lab = await startLab(t);
  await askRaw(t, lab.port, 'GET http://evil.example/a%20b HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n');
  const { requestId } = await lab.logged(({ host }) => host === 'evil.example');
  t.match(await lab.service.explainer.recall(String(requestId), true), { now: { asked: { method: 'GET', target: '"evil.example:80/a%20b"' } } });
});

t.test('so is what the policy was never asked, and what only the addresses stopped', async (t) => {
  const lab = await startLab(t, { lookup: resolving({ [ECO]: ['10.0.0.1'] }) });
  const { explainer } = lab.service;
  t.match(await explainer.recall(await deny(t, lab, `${ECO}:0`), true), { code: 'target-malformed', now: null });
  t.match(await explainer.recall(await deny(t, lab, `${ECO}:${lab.upstream.httpPort}`), true), { code: 'address-not-allowed', now: { verdict: 'deny', code: 'address-not-allowed', addresses: [{ address: '10.0.0.1' }] } });
  const { total, latest, frequent } = explainer.denials.view(10, 10);
  t.equal(total, 2);
  t.strictSame(latest.map(({ code }) => code), ['address-not-allowed', 'target-malformed']);
  t.strictSame(frequent.map(({ client, count }) => [client, count]), [['pods', 1], ['pods', 1]]);
});

t.test('report mode fills the memory without refusing', async (t) => {
  const lab = await startLab(t, { configure: (draft) => Object.assign(draft, { mode: 'report', rules: [] }) });
  const authority = `${ECO}:${lab.upstream.httpPort}`;
  await askRaw(t, lab.port, `GET http://${authority}/x HTTP/1.1\r\nHost: ${authority}\r\nConnection: close\r\n\r\n`);
  const line = await lab.logged(({ wouldDeny }) => wouldDeny === 'no-rule');
  t.match(await lab.service.explainer.recall(String(line['requestId']), true), { verdict: 'report', code: 'no-rule', status: 200, now: { verdict: 'report', code: 'no-rule', report: /because of mode: report/ } });
});

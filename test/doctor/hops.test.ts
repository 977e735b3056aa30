/** The doctor asks each parent proxy by itself, and says which of them fails, and how. */
import t, { type Test } from 'tap';
import { ECO, examine, faultsOf, findingsOf, type Patient, startPartner, wordsOf } from '../support/doctor-lab.ts';
import { goBy } from '../support/hop-lab.ts';
import { startFullListener } from '../support/full-listener.ts';
import { type ParentOptions, startParent } from '../support/parents.ts';

/** The partner's TLS by a hop; the plain one is left out, and the probe goes directly. */
async function byHop(t: Test, hop: object, patient: Patient = {}) {
  const lab = await startPartner(t);
  const report = await examine(lab, {
    ...patient,
    configure: (draft) => {
      delete draft.destinations['plain'];
      draft.rules[0] = { clients: ['pods'], destinations: ['eco'] };
      delete draft.sourceIp;
      goBy(draft, { gate: hop });
    },
  });
  return { lab, report };
}

t.test('by a parent all is well, and TCP is its business', async (t) => {
  for (const scheme of ['http', 'socks5'] as const) {
    const parent = await startParent(t, { scheme });
    const url = `${scheme}://gate.test:${parent.port}`;
    const { lab, report } = await byHop(t, { url });
    t.strictSame(faultsOf(report), [], scheme);
    t.match(findingsOf(report, 'tcp'), [{ state: 'skipped', seen: 'by gate: see hops' }]);
    t.match(findingsOf(report, 'hops'), [{ state: 'ok', subject: `gate ${url}`, seen: new RegExp(`^connects us to ${ECO}:${lab.https} in `) }]);
    t.match(findingsOf(report, 'tls'), [{ state: 'ok' }]);
    t.match(findingsOf(report, 'forms').find(({ subject }) => subject.startsWith('connect')), { state: 'ok' });
  }
});

t.test('what a parent does wrong', async (t) => {
  const cases: readonly [string, ParentOptions, RegExp][] = [
    ['hop-refused', { refuse: () => 'HTTP/1.1 403 Forbidden\r\n\r\n' }, /Have the parent permit CONNECT/],
    ['hop-credentials', { refuse: () => 'HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n' }, /hops\.gate\.credentialsFile/],
    ['hop-upstream-failed', { refuse: () => 'HTTP/1.1 502 Bad Gateway\r\n\r\n' }, /from the parent to/],
    ['hop-failed', { refuse: () => 'SSH-2.0-x\r\n' }, /an HTTP proxy listens there/],
  ];
  for (const [code, options, words] of cases) {
    const parent = await startParent(t, options);
    const url = `http://gate.test:${parent.port}`;
    const { report } = await byHop(t, { url });
    t.strictSame(faultsOf(report), [`hops ${code} gate ${url}`], code);
    t.match(wordsOf(report), words, code);
  }
});

t.test('a parent that reaches nothing at the first port of a range has no fault', async (t) => {
  const lab = await startPartner(t);
  const parent = await startParent(t, { refuse: () => 'HTTP/1.1 502 Bad Gateway\r\n\r\n' });
  const report = await examine(lab, {
    only: ['hops', 'tls'],
    configure: (draft) => {
      delete draft.destinations['plain'];
      draft.rules[0] = { clients: ['pods'], destinations: ['eco'] };
      Object.assign(draft.destinations.eco, { ports: ['9000-9999'], gateway: undefined });
      delete draft.sourceIp;
      goBy(draft, { gate: { url: `http://gate.test:${parent.port}` } });
    },
  });
  t.strictSame(faultsOf(report), []);
  t.match(findingsOf(report, 'hops'), [{ state: 'skipped', seen: 'hop-upstream-failed; which ports of the range are in use is not known' }]);
});

t.test('a parent that is silent, unknown, or where none may be', async (t) => {
  const url = `http://gate.test:${await startFullListener(t)}`;
  t.strictSame(faultsOf((await byHop(t, { url }, { timeout: 3000 })).report), [`hops hop-timeout gate ${url}`]);
  t.strictSame(faultsOf((await byHop(t, { url }, { names: { 'gate.test': 'ENOTFOUND' } })).report), ['names name-not-found gate.test', `hops hop-failed gate ${url}`]);
});

t.test('of two parents, the broken one is named, and the way is well', async (t) => {
  const good = await startParent(t);
  const bad = await startParent(t, { refuse: () => 'HTTP/1.1 503 Busy\r\n\r\n' });
  const { report } = await byHop(t, { url: [`http://bad.test:${bad.port}`, `http://good.test:${good.port}`] });
  t.strictSame(faultsOf(report), [`hops hop-failed gate http://bad.test:${bad.port}`]);
  t.match(findingsOf(report, 'http'), [{ state: 'ok' }]);
});

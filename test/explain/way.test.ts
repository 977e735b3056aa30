/** What an answer says of the parents on the way. */
import t from 'tap';
import { type ExplainAnswer, formatAnswer } from '../../src/explain/answer.ts';
import { startHopLab } from '../support/hop-lab.ts';
import { ECO, type Lab } from '../support/lab.ts';

async function explain(lab: Lab, resolve = true): Promise<ExplainAnswer> {
  const answer = await lab.service.explainer.explain({ client: null, user: null, subject: null, sans: [], method: 'CONNECT', target: `${ECO}:${lab.upstream.httpPort}`, host: null, resolve });
  if (typeof answer === 'string') throw new Error(answer);
  return answer;
}

const NAMES: Record<string, string[]> = { 'one.test': ['10.60.0.5', '169.254.169.254'], 'two.test': ['10.60.0.6'], [ECO]: ['127.0.0.1'] };
const lookup = async (host: string): Promise<{ addresses: string[]; ttl: null }> => {
  const addresses = NAMES[host];
  if (addresses === undefined) throw Object.assign(new Error('no'), { code: 'ENOTFOUND' });
  return { addresses, ttl: null };
};

const hops = { near: { url: ['http://one.test:3128', 'socks5://none.test'], addresses: ['10.60.0.0/24'] }, far: { url: 'https://two.test:8443' } };

t.test('each parent, its addresses and their class; the far ones are not looked up here', async (t) => {
  const lab = await startHopLab(t, { hops, lookup });
  const answer = await explain(lab);
  t.match(answer, {
    verdict: 'allow',
    code: 'ok',
    addresses: [{ address: '127.0.0.1', verdict: 'allow' }],
    way: [
      {
        hop: 'near',
        parents: [
          { url: 'http://one.test:3128', addresses: [{ address: '10.60.0.5', class: 'private', verdict: 'allow' }, { address: '169.254.169.254', class: 'metadata', verdict: 'deny', code: 'hop-failed' }], detail: null },
          { url: 'socks5://none.test:1080', addresses: null, detail: /DNS has no address/ },
        ],
      },
      { hop: 'far', parents: [{ url: 'https://two.test:8443', addresses: null, detail: null }] },
    ],
  });
  t.match(formatAnswer(answer), /by way of +near {2}http:\/\/one\.test:3128\n +✓ 10\.60\.0\.5 +private, RFC 1918\n +✗ 169\.254\.169\.254 +metadata[^\n]*\n[^\n]*hop near: 169[^]*✗ none\.test: DNS has[^\n]*\n +far {2}https:\/\/two\.test:8443\n/);
  t.match(await explain(lab, false), { way: [{ parents: [{ addresses: null, detail: null }, { addresses: null }] }, {}] });
});

t.test('a way that leads nowhere is what would become of it', async (t) => {
  const lab = await startHopLab(t, { hops: { near: { url: ['http://one.test:3128', 'socks5://none.test'], addresses: ['10.99.0.0/24'] } }, lookup });
  t.match(await explain(lab), { verdict: 'allow', code: 'hop-failed', status: 502, why: /outside the ranges listed in hops\.near\.addresses/, remedy: /hops\.near\.addresses/ });
});

t.test('a name that a parent resolves is not looked up here', async (t) => {
  const lab = await startHopLab(t, { hops, lookup, configure: (draft) => Object.assign(draft.destinations.eco, { resolve: 'parent', addresses: undefined }) });
  const answer = await explain(lab);
  t.match(answer, { verdict: 'allow', code: 'ok', addresses: null, notes: [/^No client/, 'The last parent on the way resolves the name, so its addresses are not checked here.'] });
  t.equal(answer.way.length, 2);
});

t.test('a denied request has no way', async (t) => {
  const lab = await startHopLab(t, { hops, lookup, configure: (draft) => draft.rules.pop() });
  t.strictSame((await explain(lab)).way, []);
});

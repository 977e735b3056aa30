/** By which names the admin port may be asked, and from where. */
import t from 'tap';
import { refuseCaller } from '../../src/admin/callers.ts';

const HOSTS = ['egress.example.com'];

t.test('names and addresses', async (t) => {
  for (const [host, answered] of [
    ['127.0.0.1:9090', true],
    ['10.8.3.17', true],
    ['[::1]:9090', true],
    ['[2001:db8::1]', true],
    ['localhost', true],
    ['LOCALHOST:9090', true],
    ['proxy.localhost', true],
    ['eco-egress', true],
    ['eco-egress:9090', true],
    ['eco-egress.eco-egress.svc', true],
    ['eco-egress.eco-egress.svc:9090', true],
    ['eco-egress.eco-egress.svc.cluster.local:9090', true],
    ['eco-egress.eco-egress.svc.cluster.local.', true],
    ['egress.example.com', true],
    ['Egress.Example.Com:9090', true],
    [undefined, true],
    ['example.com', false],
    ['evil.example:9090', false],
    ['a.egress.example.com', false],
    ['egress.example.com.evil.example', false],
    ['10.8.3.17.evil.example', false],
    ['svc.evil.example', false],
    ['evilsvc.example', false],
    ['localhost.evil.example', false],
    ['127.0.0.1.nip.io', false],
    ['svc', true],
    ['.svc', true],
    ['', false],
    ['[127.0.0.1]', false],
    ['[::1', false],
    ['::1', false],
    ['user@127.0.0.1', false],
    ['127.0.0.1:9090:1', false],
    ['127.0.0.1, evil.example', false],
    ['10.8.3.999', false],
  ] as const) {
    t.equal(refuseCaller(host === undefined ? {} : { host }, HOSTS)?.status ?? null, answered ? null : 421, String(host));
  }
});

t.test('what a browser says of where a request comes from', async (t) => {
  const host = '127.0.0.1:9090';
  for (const [what, headers, answered] of [
    ['a program', {}, true],
    ['typed', { 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }, true],
    ['from the page itself', { 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'cors' }, true],
    ['a link of another site', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }, true],
    ['a frame of another site', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'iframe' }, false],
    ['an image of another site', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'image' }, false],
    ['a script of another site', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'cors' }, false],
    ['nothing but that', { 'sec-fetch-site': 'cross-site' }, false],
    ['another port of this host', { 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'cors' }, false],
    ['a word of tomorrow', { 'sec-fetch-site': 'elsewhere' }, false],
    ['its own origin', { origin: `http://${host}` }, true],
    ['its own origin, by way of an Ingress with TLS', { origin: `https://${host}` }, true],
    ['another origin with TLS', { origin: 'https://evil.example' }, false],
    ['another origin', { origin: 'http://evil.example' }, false],
    ['another port', { origin: 'http://127.0.0.1:8080' }, false],
    ['an origin that is not told', { origin: 'null' }, false],
  ] as const) {
    t.equal(refuseCaller({ host, ...headers }, HOSTS)?.status ?? null, answered ? null : 403, what);
  }
});

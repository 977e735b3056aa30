/** Which form a request has: by its request line and Host, in the order of docs/architecture.md. */
import t from 'tap';
import { Fault } from '../../src/errors.ts';
import { chooseForm, judgedAs, namesNoDestination, type RequestLine } from '../../src/listeners/choose-form.ts';

const ECO = 'eco-sit.telus.internal';
/** Knows ECO alone, and takes requests that are steered to its port 80 to 443, over TLS. */
const policy = {
  hasHost: (host: string) => host === ECO,
  steered: <Origin extends { scheme: 'http' | 'https'; host: string; port: number }>(origin: Origin): Origin => (origin.port === 80 ? { ...origin, scheme: 'https' as const, port: 443 } : origin),
};
const get = (target: string, host: string | null = 'proxy.example'): RequestLine => ({ method: 'GET', target, hosts: host === null ? [] : [host], version: host === null ? '1.0' : '1.1' });
const eco = (scheme: 'http' | 'https', port: number): object => ({ scheme, host: ECO, port });

t.test('each form', async (t) => {
  const table: readonly (readonly [string, RequestLine, 'http' | 'https', object])[] = [
    ['CONNECT', { method: 'CONNECT', target: `${ECO}:443`, hosts: ['x'], version: '1.1' }, 'http', { form: 'connect', host: ECO, port: 443 }],
    ['a URL', get(`http://${ECO}/a?b`, ECO), 'http', { form: 'forward', origin: eco('http', 80), target: '/a?b', otherHost: null }],
    ['a URL and another Host', get(`http://${ECO}/a`, 'other:8080'), 'http', { form: 'forward', origin: eco('http', 80), target: '/a', otherHost: { host: 'other', port: 8080 } }],
    ['a URL of a path that a prefix has', get(`http://${ECO}/eco/a`, ECO), 'http', { form: 'forward', origin: eco('http', 80), target: '/eco/a', otherHost: null }],
    ['Host of a destination', get('/a', ECO), 'http', { form: 'host-routed', origin: eco('https', 443), target: '/a' }],
    ['Host of a destination with a port', get('/a', `${ECO}:8080`), 'http', { form: 'host-routed', origin: eco('http', 8080), target: '/a' }],
    ['Host of a destination, in TLS', get('/a', ECO), 'https', { form: 'host-routed', origin: eco('https', 443), target: '/a' }],
    ['Host of a destination before any prefix', get('/eco/a', ECO), 'http', { form: 'host-routed', origin: eco('https', 443), target: '/eco/a' }],
    ['another Host', get('/eco/a'), 'http', { form: 'gateway', authority: { host: 'proxy.example', port: 80 }, target: '/eco/a' }],
    ['no Host', get('/eco/a', null), 'http', { form: 'gateway', authority: null, target: '/eco/a' }],
    ['OPTIONS of a whole server', { method: 'OPTIONS', target: '*', hosts: [ECO], version: '1.1' }, 'http', { form: 'host-routed', origin: eco('https', 443), target: '*' }],
  ];
  for (const [what, line, scheme, choice] of table) t.strictSame(chooseForm(line, scheme, policy), choice, what);
  t.throws(() => chooseForm(get('a'), 'http', policy), Fault, 'what is no target is refused');
});

t.test('a path that no prefix covers', async (t) => {
  const named = chooseForm(get('/a', 'other.example:81'), 'http', policy);
  const unnamed = chooseForm(get('/metrics', null), 'http', policy);
  if (named.form !== 'gateway' || unnamed.form !== 'gateway') throw new Error('both are paths');
  t.strictSame(judgedAs(named, 'https'), { scheme: 'https', host: 'other.example', port: 81 });
  t.equal(judgedAs(unnamed, 'http'), null);
  t.match(namesNoDestination(named, ['/eco']), { code: 'host-not-allowed', message: 'Host names other.example, which matches no destination, and the path is not below /eco' });
  t.match(namesNoDestination(named, Array.from({ length: 50 }, (_, i) => `/partner-${i}`)).message, / and the path is not below any of the 50 gateway prefixes$/);
  t.match(namesNoDestination(unnamed, []), { message: 'There is no Host field, and there is no gateway prefix', remedy: '/metrics is served on the admin listener' });
});

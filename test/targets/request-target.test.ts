import fc from 'fast-check';
import t from 'tap';
import { Fault, type FaultCode } from '../../src/errors.ts';
import { parseRequestTarget, type RequestTarget } from '../../src/targets/request-target.ts';

const ECO = 'eco-sit.telus.internal';

function faultOf(method: string, url: string, hosts: readonly string[], version = '1.1'): Fault | RequestTarget {
  try {
    return parseRequestTarget(method, url, hosts, version);
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
}

t.test('what is asked for', async (t) => {
  const table: [method: string, url: string, host: string | null, expected: RequestTarget, version?: string][] = [
    ['CONNECT', `${ECO}:443`, `${ECO}:443`, { kind: 'connect', host: ECO, port: 443 }],
    ['CONNECT', 'ECO-SIT.TELUS.INTERNAL.:443', ECO, { kind: 'connect', host: ECO, port: 443 }],
    ['CONNECT', '[::1]:80', '[::1]:80', { kind: 'connect', host: '::1', port: 80 }],
    ['CONNECT', '2130706433:80', 'x', { kind: 'connect', host: '127.0.0.1', port: 80 }],
    ['CONNECT', `${ECO}:443`, null, { kind: 'connect', host: ECO, port: 443 }, '1.0'],
    ['CONNECT', `${ECO}:443`, null, { kind: 'connect', host: ECO, port: 443 }],
    // The Host of a CONNECT decides nothing.
    ['CONNECT', `${ECO}:443`, 'proxy.example:3128', { kind: 'connect', host: ECO, port: 443 }],

    ['GET', `http://${ECO}/x?y=1`, ECO, { kind: 'absolute', scheme: 'http', host: ECO, port: 80, target: '/x?y=1', otherHost: null }],
    ['GET', `HTTP://${ECO.toUpperCase()}.:80/`, ECO, { kind: 'absolute', scheme: 'http', host: ECO, port: 80, target: '/', otherHost: null }],
    ['GET', `https://${ECO}`, `${ECO}:443`, { kind: 'absolute', scheme: 'https', host: ECO, port: 443, target: '/', otherHost: null }],
    ['GET', `http://${ECO}:8080?q`, `${ECO}:8080`, { kind: 'absolute', scheme: 'http', host: ECO, port: 8080, target: '/?q', otherHost: null }],
    ['GET', `http://${ECO}:/`, `${ECO}:`, { kind: 'absolute', scheme: 'http', host: ECO, port: 80, target: '/', otherHost: null }],
    ['GET', `http://${ECO}//a/../%2f\\;?http://evil.example/`, ECO, { kind: 'absolute', scheme: 'http', host: ECO, port: 80, target: '//a/../%2f\\;?http://evil.example/', otherHost: null }],
    ['GET', 'http://[::FFFF:1.2.3.4]/', '[::ffff:102:304]', { kind: 'absolute', scheme: 'http', host: '::ffff:102:304', port: 80, target: '/', otherHost: null }],
    ['GET', `http://${ECO}/`, null, { kind: 'absolute', scheme: 'http', host: ECO, port: 80, target: '/', otherHost: null }, '1.0'],
    // RFC 9112 §3.2.4: only OPTIONS, and only without path and query.
    ['OPTIONS', `http://${ECO}`, ECO, { kind: 'absolute', scheme: 'http', host: ECO, port: 80, target: '*', otherHost: null }],
    ['OPTIONS', `http://${ECO}/`, ECO, { kind: 'absolute', scheme: 'http', host: ECO, port: 80, target: '/', otherHost: null }],
    ['OPTIONS', `http://${ECO}?x`, ECO, { kind: 'absolute', scheme: 'http', host: ECO, port: 80, target: '/?x', otherHost: null }],

    // RFC 9112 §3.2.2: the target decides, and a Host that says otherwise is replaced.
    ['GET', `http://${ECO}/`, 'evil.example', { kind: 'absolute', scheme: 'http', host: ECO, port: 80, target: '/', otherHost: { host: 'evil.example', port: 80 } }],
    ['GET', `http://${ECO}/`, `${ECO}:8080`, { kind: 'absolute', scheme: 'http', host: ECO, port: 80, target: '/', otherHost: { host: ECO, port: 8080 } }],
    ['GET', `http://${ECO}:8080/`, ECO, { kind: 'absolute', scheme: 'http', host: ECO, port: 8080, target: '/', otherHost: { host: ECO, port: 80 } }],
    ['GET', `https://${ECO}/`, `${ECO}:80`, { kind: 'absolute', scheme: 'https', host: ECO, port: 443, target: '/', otherHost: { host: ECO, port: 80 } }],
    ['GET', `https://${ECO}/`, ECO, { kind: 'absolute', scheme: 'https', host: ECO, port: 443, target: '/', otherHost: null }],
    ['GET', 'http://[::1]/', '[::2]', { kind: 'absolute', scheme: 'http', host: '::1', port: 80, target: '/', otherHost: { host: '::2', port: 80 } }],
    ['GET', `http://${ECO}/`, 'evil.example', { kind: 'absolute', scheme: 'http', host: ECO, port: 80, target: '/', otherHost: { host: 'evil.example', port: 80 } }, '1.0'],

    // RFC 9112 §3.2.4: of the whole server.
    ['OPTIONS', '*', ECO, { kind: 'origin', authority: { host: ECO, port: 80 }, target: '*' }],
    ['OPTIONS', '*', null, { kind: 'origin', authority: null, target: '*' }, '1.0'],

    ['GET', '/eco/x?y', 'Eco-Egress:8080', { kind: 'origin', authority: { host: 'eco-egress', port: 8080 }, target: '/eco/x?y' }],
    ['GET', '/', ECO, { kind: 'origin', authority: { host: ECO, port: 80 }, target: '/' }],
    ['GET', '//evil.example/', ECO, { kind: 'origin', authority: { host: ECO, port: 80 }, target: '//evil.example/' }],
    ['GET', '/http://evil.example/', ECO, { kind: 'origin', authority: { host: ECO, port: 80 }, target: '/http://evil.example/' }],
    ['GET', '/', null, { kind: 'origin', authority: null, target: '/' }, '1.0'],
  ];
  for (const [method, url, host, expected, version] of table) {
    t.same(faultOf(method, url, host === null ? [] : [host], version), expected, `${method} ${url}`);
  }
});

t.test('what is refused, and what to write instead', async (t) => {
  const table: [method: string, url: string, hosts: string[], code: FaultCode, message: RegExp, remedy?: RegExp | undefined, version?: string][] = [
    // CONNECT takes host:port and nothing else
    ['CONNECT', ECO, [ECO], 'target-malformed', /has no port/, /^write CONNECT eco-sit\.telus\.internal:443$/],
    ['CONNECT', `${ECO}:`, [ECO], 'target-malformed', /has no port/],
    ['CONNECT', `https://${ECO}/`, [ECO], 'target-malformed', /has a scheme/, /^write CONNECT eco-sit\.telus\.internal:443$/],
    ['CONNECT', `http://${ECO}`, [ECO], 'target-malformed', /has a scheme/, /^write CONNECT eco-sit\.telus\.internal:80$/],
    ['CONNECT', `${ECO}:443/x`, [ECO], 'target-malformed', /has a path/, /^write CONNECT eco-sit\.telus\.internal:443$/],
    ['CONNECT', '/x', [ECO], 'target-malformed', /has a path/, /^write CONNECT host:port$/],
    ['CONNECT', '*', [ECO], 'target-malformed', /not a valid name/],
    ['CONNECT', `${ECO}:0`, [ECO], 'target-malformed', /1 to 65535/],
    ['CONNECT', `${ECO}:65536`, [ECO], 'target-malformed', /1 to 65535/],
    ['CONNECT', 'fd40::9:443', [ECO], 'target-malformed', /an IPv6 address needs brackets/],
    ['CONNECT', `${ECO}:+443`, [ECO], 'target-malformed', /1 to 65535/],
    ['CONNECT', `${ECO}:0x1bb`, [ECO], 'target-malformed', /1 to 65535/],
    ['CONNECT', `${ECO}:443@evil.example:443`, [ECO], 'target-malformed', /user information/],
    ['CONNECT', '[[h]]:443', [ECO], 'target-malformed', /brackets/],
    ['CONNECT', `[${ECO}]:443`, [ECO], 'target-malformed', /brackets/],
    ['CONNECT', `${ECO}..:443`, [ECO], 'target-malformed', /empty label/],
    ['CONNECT', 'evil.example\0.telus.internal:443', [ECO], 'target-malformed', /control.*position 12/],
    ['CONNECT', 'evil.example%00.telus.internal:443', [ECO], 'target-malformed', /not a valid name/],
    ['CONNECT', 'eco-sit\u3002telus.internal:443', [ECO], 'target-malformed', /non-ASCII/],
    ['CONNECT', `${ECO}:443`, ['a b'], 'request-malformed', /Host field/],

    // absolute-form
    ['GET', `http://[${ECO}]/`, [ECO], 'target-malformed', /brackets/],
    ['GET', `http://${ECO}@evil.example/`, [ECO], 'target-malformed', /user information/, /^write http:\/\/host.*, and send user and password in the Authorization field$/],
    ['GET', `http://user:password@${ECO}/`, [ECO], 'target-malformed', /user information/, /Authorization field$/],
    ['GET', `http://${ECO}:x/@`, [ECO], 'target-malformed', /1 to 65535/, /:port\/path$/],
    ['GET', `http://${ECO}\\@evil.example/`, [ECO], 'target-malformed', /user information/],
    ['GET', `http://${ECO}\\.evil.example/`, [ECO], 'target-malformed', /not a valid name/],
    ['GET', 'http://', [ECO], 'target-malformed', /is empty/],
    ['GET', 'http:///x', [ECO], 'target-malformed', /is empty/],
    ['GET', 'http://?x', [ECO], 'target-malformed', /is empty/],
    ['GET', 'http://evil.example.1/', [ECO], 'target-malformed', /not a valid name/],
    ['GET', `http://${ECO}:443x/`, [ECO], 'target-malformed', /1 to 65535/],
    ['GET', `http:/${ECO}/`, [ECO], 'target-malformed', /neither a path nor a whole URL/],
    ['GET', `http:${ECO}`, [ECO], 'target-malformed', /neither a path nor a whole URL/],
    ['GET', `${ECO}/x`, [ECO], 'target-malformed', /neither/, /http:\/\/host\/path/],
    ['GET', `${ECO}:443`, [ECO], 'target-malformed', /CONNECT only/, /CONNECT eco-sit\.telus\.internal:443/],
    ['GET', '*', [ECO], 'target-malformed', /names no path/],
    ['GET', '*', [ECO], 'target-malformed', /names no path/, /http:\/\/eco-sit\.telus\.internal:80\/$/],
    ['GET', '*', ['a"b'], 'target-malformed', /names no path/, /http:\/\/host\/$/],
    ['OPTIONS', '*', ['a"b'], 'request-malformed', /Host field/],
    ['OPTIONS', '**', [ECO], 'target-malformed', /neither/],
    ['OPTIONS', '*/', [ECO], 'target-malformed', /neither/],
    ['options', '*', [ECO], 'target-malformed', /names no path/],
    ['GET', '', [ECO], 'target-malformed', /empty/],
    ['GET', '?x', [ECO], 'target-malformed', /neither/],
    ['GET', `ftp://${ECO}/`, [ECO], 'scheme-not-supported', /ftp/],
    ['GET', `gopher://${ECO}/`, [ECO], 'scheme-not-supported', /gopher/],
    ['GET', 'file:///etc/passwd', [ECO], 'scheme-not-supported', /file/],
    ['GET', `httpx://${ECO}/`, [ECO], 'scheme-not-supported', /httpx/],
    ['GET', `wss://${ECO}/`, [ECO], 'scheme-not-supported', /wss/],
    ['GET', 'javascript:alert(1)', [ECO], 'scheme-not-supported', /javascript/],

    // Host
    ['GET', '/', [], 'request-malformed', /no Host/],
    ['GET', `http://${ECO}/`, [], 'request-malformed', /no Host/],
    ['CONNECT', `${ECO}:443`, [ECO, ECO], 'request-malformed', /2 Host fields/],
    ['GET', '/', [ECO, ECO], 'request-malformed', /2 Host fields/],
    ['GET', '/', [ECO, 'evil.example'], 'request-malformed', /2 Host fields/, undefined, '1.0'],
    ['GET', `http://${ECO}/`, [ECO, ECO], 'request-malformed', /2 Host fields/],
    ['GET', '/', [''], 'request-malformed', /is empty/],
    ['GET', '/', [`${ECO}, evil.example`], 'request-malformed', /Host field/],
    ['GET', '/', [`${ECO}@evil.example`], 'request-malformed', /user information/],
    ['GET', '/', [`http://${ECO}`], 'request-malformed', /Host field/],
    ['GET', '/', [`${ECO}/x`], 'request-malformed', /Host field/],
    ['GET', '/', [`${ECO}:0`], 'request-malformed', /1 to 65535/],
    ['GET', 'http://[fd40::9]/', ['fd40::9'], 'request-malformed', /an IPv6 address needs brackets/],

    // characters
    ['GET', '/a#b', [ECO], 'target-malformed', /fragment.*position 2/, /%23/],
    ['GET', `http://${ECO}#@evil.example/`, [ECO], 'target-malformed', /fragment/],
    ['GET', '/a b', [ECO], 'target-malformed', /space/],
    ['GET', '/a\r\nX: y', [ECO], 'target-malformed', /control/],
    ['GET', '/\u010d\u010a', [ECO], 'target-malformed', /non-ASCII.*position 1/],
    ['GET', '/\x7f', [ECO], 'target-malformed', /control/],
    ['GET', '/\xe9', [ECO], 'target-malformed', /non-ASCII/],
  ];
  for (const [method, url, hosts, code, message, remedy, version] of table) {
    const fault = faultOf(method, url, hosts, version);
    const title = `${method} ${JSON.stringify(url)} ${hosts.join(' | ')}`;
    if (!(fault instanceof Fault)) {
      t.fail(`${title}: was accepted`);
      continue;
    }
    t.equal(fault.code, code, title);
    t.match(fault.message, message, title);
    t.notMatch(fault.message, /[^\x20-\x7e]/, `${title}: printable`);
    t.ok(fault.remedy, `${title}: says what to write`);
    if (remedy !== undefined) t.match(fault.remedy, remedy, title);
  }
});

t.test('a hostile target makes a short message', async (t) => {
  const fault = faultOf('GET', `ftp://${'x'.repeat(100_000)}`, [ECO]);
  t.ok(fault instanceof Fault && fault.message.length < 400);
});

t.test('no string makes it throw anything but a Fault, or read another authority than URL', async (t) => {
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string({ unit: fc.constantFrom('http', 'https', ':', '/', '//', '@', '?', '#', '\\', '[', ']', '%2f', 'eco', '.', '443', ' ', '*') }),
    fc.webUrl({ withQueryParameters: true, withFragments: true }),
  );
  const hosts = fc.array(text, { maxLength: 2 });
  fc.assert(
    fc.property(fc.constantFrom('GET', 'CONNECT', 'OPTIONS', ''), text, hosts, fc.constantFrom('1.0', '1.1', ''), (method, url, list, version) => {
      const read = faultOf(method, url, list, version);
      if (read instanceof Fault) {
        if (/[^\x20-\x7e]/.test(read.message) || read.message.length > 800) throw new Error(`not fit to print: ${read.message}`);
        return;
      }
      if (read.kind !== 'absolute') return;
      const seen = URL.parse(url);
      const port = seen?.port || (seen?.protocol === 'https:' ? '443' : '80');
      if (seen?.hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '') !== read.host || Number(port) !== read.port) {
        throw new Error(`URL reads ${String(seen?.host)}, we read ${read.host}:${read.port}`);
      }
    }),
    { numRuns: 5_000 },
  );
  t.pass('held in 5000 cases');
});

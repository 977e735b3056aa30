/** Hops, the proof of the source address and the NAT: read as written, and every contradiction told with what to write. */
import t from 'tap';
import { loadConfig } from '../../src/config/load.ts';
import { MINIMAL } from '../support/load-text.ts';

const ODD_CREDENTIALS = ['Authorization: Bearer x', 'Bearer: x', 'http://user:pw@gate', '"user:pw"', 'user:pw ', ' user:pw', 'user:p\ufffd'];

const FILES: Record<string, string> = {
  ...Object.fromEntries(ODD_CREDENTIALS.map((text, index) => [`/etc/odd-${index}`, text])),
  '/etc/basic': 'door:se:cret\n',
  '/etc/bearer': 'Bearer abc.def-ghi_~+/==\n',
  '/etc/none': 'just words\n',
  '/etc/utf16': Buffer.from('door:secret\r\n', 'utf16le').toString(),
  '/etc/two-lines': 'a:b\nc:d\n',
  '/etc/long': `${'u'.repeat(256)}:p`,
};

function load(more: string, destination = '') {
  const text = MINIMAL.replace('    ports: [443]\n', `    ports: [443]\n${destination}`) + more;
  const readFile = (path: string): string => {
    if (path === '/etc/egress.yaml') return text;
    const content = FILES[path];
    if (content === undefined) throw Object.assign(new Error('no such file'), { code: 'ENOENT' });
    return content;
  };
  return loadConfig({ file: '/etc/egress.yaml', env: {}, readFile });
}

const HOPS = 'hops:\n  gate: { url: "http://gate.example" }\n  next: { url: ["https://a.example", "https://b.example:8443"], credentialsFile: basic, connect: 2s, coolDown: 0s }\n';

t.test('a way is read with its defaults, and a hop of one name is one object', async (t) => {
  const result = load(HOPS, '    via: gate, next\n    resolve: parent\n    proxyProtocol: v2\n');
  if (!result.ok) throw new Error(JSON.stringify(result.faults));
  const { hops, destinations } = result.config;
  t.match(hops, [
    { name: 'gate', parents: [{ scheme: 'http', host: 'gate.example', port: 3128 }], addresses: null, credentials: null, connect: 5000, coolDown: 30_000 },
    {
      name: 'next',
      parents: [{ scheme: 'https', host: 'a.example', port: 443 }, { scheme: 'https', host: 'b.example', port: 8443 }],
      credentials: { kind: 'basic', user: 'door', password: 'se:cret' },
      connect: 2000,
      coolDown: 0,
    },
  ]);
  t.equal(destinations[0]?.via[0], hops[0]);
  t.equal(destinations[0]?.via[1], hops[1]);
  t.match(destinations[0], { resolve: 'parent', proxyProtocol: 'v2' });
  t.match(load('hops: { h: { url: "socks5://p.example", credentialsFile: basic } }\n'), { ok: true, config: { hops: [{ parents: [{ scheme: 'socks5', port: 1080 }] }] } });
  t.match(load('hops: { h: { url: "http://p.example", credentialsFile: bearer } }\n'), { ok: true, config: { hops: [{ credentials: { kind: 'bearer', token: 'abc.def-ghi_~+/==' } }] } });
});

t.test('the proof and the NAT', async (t) => {
  t.match(load(''), { ok: true, config: { sourceIp: null, hops: { length: 0 }, nat: { ports: null, replicasPerNode: 1, timeWait: 120_000, whenExhausted: 'refuse', queueFor: 5000 } } });
  t.match(load('sourceIp: { gateReadiness: false, probe: { every: 5s } }\n'), { ok: true, config: { sourceIp: null } });
  const full = load('sourceIp: { expected: "34.123.45.67, 2001:DB8::1", probe: { url: "https://echo.example/ip?x=1", field: client.ip }, gateReadiness: true }\nnat: { ports: 8192, replicasPerNode: 2 }\n');
  t.match(full, {
    ok: true,
    warnings: { length: 0 },
    config: {
      sourceIp: {
        expected: ['34.123.45.67', '2001:db8::1'],
        probe: { scheme: 'https', host: 'echo.example', port: 443, path: '/ip?x=1', every: 60_000, timeout: 10_000, field: 'client.ip', via: { length: 0 }, addresses: null },
        gateReadiness: true,
      },
      nat: { ports: 8192, replicasPerNode: 2 },
    },
  });
  t.match(load('sourceIp: { expected: 34.123.45.67 }\n'), { ok: true, warnings: [{ path: 'sourceIp.expected', problem: /^No probe is configured/ }] });
  const gate = 'hops: { gate: { url: "http://gate.example:3128" } }\n';
  const another = { path: 'sourceIp.probe', problem: /another route than every destination/ };
  t.match(load(`${gate}sourceIp: { expected: 34.123.45.67, probe: { url: "http://echo.example", via: gate } }\n`), { ok: true, warnings: [another] });
  t.match(load(`${gate}sourceIp: { expected: 34.123.45.67, probe: { url: "http://echo.example" } }\n`, '    via: gate\n'), { ok: true, warnings: [another] });
  const same = load(`${gate}sourceIp: { expected: 34.123.45.67, probe: { url: "http://echo.example", via: gate } }\n`, '    via: gate\n');
  t.ok(same.ok && same.warnings.length === 0);
  t.match(load('sourceIp: { probe: { url: "https://https://echo.example" } }\n'), { ok: false, faults: [{ path: 'sourceIp.probe.url', problem: /is not an http or https URL/ }] });
  t.match(load('sourceIp: { probe: { url: "http://echo.example" } }\n'), { ok: true, warnings: [{ path: 'sourceIp.probe', problem: /compared with nothing/ }], config: { sourceIp: { probe: { path: '/' } } } });
});

t.test('faults', async (t) => {
  const hop = (text: string): string => `hops: { gate: { ${text} } }\n`;
  const table: [what: string, more: string, destination: string, path: string, problem: RegExp][] = [
    ['no such hop', HOPS, '    via: gates\n', 'destinations.eco.via', /no entry "gates" under hops/],
    ['no hops at all', '', '    via: gate\n', 'destinations.eco.via', /no entry "gate"/],
    ['a circle', HOPS, '    via: [gate, next, gate]\n', 'destinations.eco.via[2]', /through "gate" twice/],
    ['nobody resolves', '', '    resolve: parent\n', 'destinations.eco.resolve', /no parent to resolve/],
    ['nobody judges', HOPS, '    via: gate\n    resolve: parent\n    addresses: 10.0.0.0/8\n', 'destinations.eco.addresses', /cannot be checked/],
    ['hop of the probe', 'sourceIp: { probe: { url: "http://e.example", via: gate } }\n', '', 'sourceIp.probe.via', /no entry "gate"/],
    ['a name that is none', 'hops: { Gate: { url: "http://g.example" } }\n', '', 'hops.Gate', /is not a name/],
    ['no url', 'hops: { gate: {} }\n', '', 'hops.gate', /url is missing/],
    ['another scheme', hop('url: "ftp://g.example"'), '', 'hops.gate.url', /neither http, https nor socks5/],
    ['credentials in it', hop('url: "http://u:p@g.example"'), '', 'hops.gate.url', /^The URL holds credentials/],
    ['a path', hop('url: "http://g.example/x"'), '', 'hops.gate.url', /is not the URL of a parent proxy/],
    ['not a host', hop('url: "http://[g.example]"'), '', 'hops.gate.url', /What follows :\/\/ in .* has brackets around something/],
    ['TLS without TLS', hop('url: "http://g.example", tls: { serverName: x.example }'), '', 'hops.gate.tls', /None of the parents/],
    ['no such file', hop('url: "http://g.example", credentialsFile: absent'), '', 'hops.gate.credentialsFile', /no such file/],
    ['no credentials', hop('url: "http://g.example", credentialsFile: none'), '', 'hops.gate.credentialsFile', /"\/etc\/none" holds no credentials/],
    ...ODD_CREDENTIALS.map((text, index): [string, string, string, string, RegExp] => [text, hop(`url: "http://g.example", credentialsFile: odd-${index}`), '', 'hops.gate.credentialsFile', /holds no credentials/]),
    ['two lines', hop('url: "http://g.example", credentialsFile: two-lines'), '', 'hops.gate.credentialsFile', /holds no credentials/],
    ['a token for SOCKS', hop('url: "socks5://g.example", credentialsFile: bearer'), '', 'hops.gate.credentialsFile', /takes no token/],
    ['too long for SOCKS', hop('url: "socks5://g.example", credentialsFile: long'), '', 'hops.gate.credentialsFile', /255 bytes/],
    ['a range', 'sourceIp: { expected: 34.123.45.0/24 }\n', '', 'sourceIp.expected', /is not an address/],
    ['not an address', 'sourceIp: { expected: eco.example }\n', '', 'sourceIp.expected', /is not an address/],
    ['credentials for the endpoint', 'sourceIp: { probe: { url: "http://u:p@e.example/ip" } }\n', '', 'sourceIp.probe.url', /^The URL holds credentials/],
    ['a fragment', 'sourceIp: { probe: { url: "http://e.example/#x" } }\n', '', 'sourceIp.probe.url', /has a fragment/],
    ['not a URL', 'sourceIp: { probe: { url: e.example } }\n', '', 'sourceIp.probe.url', /not an http or https URL/],
    ['not a member', 'sourceIp: { probe: { url: "http://e.example", field: "a b" } }\n', '', 'sourceIp.probe.field', /not a member/],
    ['gate without proof', 'sourceIp: { expected: 34.123.45.67, gateReadiness: true }\n', '', 'sourceIp.gateReadiness', /not checked/],
    ['gate without expectation', 'sourceIp: { probe: { url: "http://e.example" }, gateReadiness: true }\n', '', 'sourceIp.gateReadiness', /not checked/],
    ['too many ports', 'nat: { ports: 64513 }\n', '', 'nat.ports', /from 1 to 64512|not possible/],
  ];
  // What PowerShell writes with >.
  t.match(load(hop('url: "http://g.example", credentialsFile: utf16')), { ok: false, faults: [{ instead: /one line of UTF-8 text/ }] });
  for (const [what, more, destination, path, problem] of table) {
    const result = load(more, destination);
    t.match(result, { ok: false, faults: [{ path, problem }] }, what);
    if (!result.ok) t.notMatch(JSON.stringify(result.faults), /just words|"u:p"/, `${what}: nothing secret is quoted`);
  }
});

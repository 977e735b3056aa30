import { isIP, isIPv4, isIPv6 } from 'node:net';
import fc from 'fast-check';
import t from 'tap';
import { formatAuthority, parseAuthority, parseConfigHost, parseHost, parseHostPattern } from '../../src/targets/host.ts';

const label63 = 'a'.repeat(63);
const name253 = `${label63}.${label63}.${label63}.${'a'.repeat(61)}`;

t.test('a host has one canonical form, or none', async (t) => {
  const table: [text: string, canonical: string | null][] = [
    // case and one final dot
    ['eco-sit.telus.internal', 'eco-sit.telus.internal'],
    ['ECO-SIT.TELUS.INTERNAL.', 'eco-sit.telus.internal'],
    ['eco-sit.telus.internal..', null],
    ['eco-sit..telus.internal', null],
    ['.eco-sit.telus.internal', null],
    ['.', null],
    ['', null],
    // lengths
    [label63, label63],
    [`${label63}a`, null],
    [name253, name253],
    [`${name253}.`, name253],
    [`${name253}a`, null],
    // characters
    ['_dmarc.a_b.example', '_dmarc.a_b.example'],
    ['-a.example', null],
    ['a-.example', null],
    ['a.-', null],
    ['r3---sn.example', 'r3---sn.example'],
    ['evil.example\0.telus.internal', null],
    ['eco sit', null],
    [' eco', null],
    ['eco\t', null],
    ['eco%2dsit', null],
    ['eco%00', null],
    ['eco@evil', null],
    ['eco\\evil', null],
    ['eco/evil', null],
    ['eco:443', null],
    ['eco?', null],
    ['eco#', null],
    ['*.telus.internal', null],
    ['eco,evil', null],
    ['eco。telus', null],
    ['еco.internal', null],
    ['\u0130.example', null],
    ['\u212a.example', null],
    // A-labels
    ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
    ['XN--BCHER-KVA.example', 'xn--bcher-kva.example'],
    ['a.xn--ls8h', 'a.xn--ls8h'],
    ['xn--a.example', null],
    ['xn--.example', null],
    ['xn--xn---epa.example', null],
    ['xn--a-ecp.example', null],
    // IPv4 in every spelling
    ['1.2.3.4', '1.2.3.4'],
    ['1.2.3.4.', '1.2.3.4'],
    ['2130706433', '127.0.0.1'],
    ['4294967295', '255.255.255.255'],
    ['4294967296', null],
    ['0x7f.1', '127.0.0.1'],
    ['0X7F.0.0.1', '127.0.0.1'],
    ['0177.0.0.1', '127.0.0.1'],
    ['0', '0.0.0.0'],
    ['0x', '0.0.0.0'],
    ['1.2.3', '1.2.0.3'],
    ['1.2.3.256', null],
    ['1.2.3.4.5', null],
    ['1.2.3.08', null],
    ['example.1', null],
    ['example.0x1', null],
    ['example.0x1g', 'example.0x1g'],
    ['example.1a', 'example.1a'],
    ['1.2.3.4.example', '1.2.3.4.example'],
    // IPv6, in brackets and nothing else in brackets (CVE-2022-29188)
    ['[::]', '::'],
    ['[::ffff:a9fe:a9fe]', '::ffff:a9fe:a9fe'],
    ['[::FFFF:169.254.169.254]', '::ffff:a9fe:a9fe'],
    ['[64:ff9b::a9fe:a9fe]', '64:ff9b::a9fe:a9fe'],
    ['[2001:0DB8:0:0:0:0:0:1]', '2001:db8::1'],
    ['[1:0:0:2:0:0:0:3]', '1:0:0:2::3'],
    ['[1:0:2:3:4:5:6:7]', '1:0:2:3:4:5:6:7'],
    ['::1', null],
    ['[::1', null],
    ['[::1]]', null],
    ['[[::1]]', null],
    ['[::1].', null],
    ['[]', null],
    ['[', null],
    ['[eco-sit.telus.internal]', null],
    ['[1.2.3.4]', null],
    ['[v1.x]', null],
    ['[fe80::1%eth0]', null],
    ['[fe80::1%25eth0]', null],
    ['[::1.2.3.04]', null],
  ];
  for (const [text, canonical] of table) t.equal(parseHost(text), canonical, JSON.stringify(text));
});

t.test('a configuration file may also write Unicode names and bare IPv6', async (t) => {
  const table: [text: string, canonical: string | null][] = [
    ['bücher.example', 'xn--bcher-kva.example'],
    ['“eco.example”', null],
    ['‘eco.example’', null],
    ['„eco.example', null],
    ['«eco.example»', null],
    ['eco–sit.example', null],
    ['Bücher.Example.', 'xn--bcher-kva.example'],
    ['faß.example', 'xn--fa-hia.example'],
    ['ａ。example', 'a.example'],
    ['::1', '::1'],
    ['[::1]', '::1'],
    ['::FFFF:1.2.3.4', '::ffff:102:304'],
    ['fe80::1%eth0', null],
    ['é%41.example', null],
    ['é/x', null],
    ['é:80', null],
    ['é@x', null],
    ['é x', null],
    ['é\0x', null],
    ['eco-sit.telus.internal', 'eco-sit.telus.internal'],
  ];
  for (const [text, canonical] of table) t.equal(parseConfigHost(text), canonical, JSON.stringify(text));
});

t.test('a pattern is a host, or a star for the names below a suffix', async (t) => {
  const table: [text: string, canonical: string | null][] = [
    ['*.Telus.Internal.', '*.telus.internal'],
    ['*.bücher.example', '*.xn--bcher-kva.example'],
    ['*.internal', '*.internal'],
    ['eco.internal', 'eco.internal'],
    ['*', null],
    ['*.', null],
    ['*.*.internal', null],
    ['a.*.internal', null],
    ['a*.internal', null],
    ['*internal', null],
    ['*.2.3.4', null],
    ['*.1.2.3.4', null],
    ['*.[::1]', null],
    ['*.::1', null],
  ];
  for (const [text, canonical] of table) t.equal(parseHostPattern(text), canonical, JSON.stringify(text));
});

t.test('an authority is a host and a port and nothing more', async (t) => {
  const table: [text: string, host: string, port: number][] = [
    ['eco:443', 'eco', 443],
    ['ECO.:1', 'eco', 1],
    ['eco:65535', 'eco', 65_535],
    ['[::1]:443', '::1', 443],
    ['2130706433:80', '127.0.0.1', 80],
  ];
  for (const [text, host, port] of table) {
    t.same(parseAuthority(text, null), { host, port }, text);
    t.same(parseAuthority(text, 8080), { host, port }, text);
  }
  for (const text of ['eco', 'eco:', '[::1]', '[::1]:']) {
    t.equal(parseAuthority(text, null), 'has no port', text);
    t.match(parseAuthority(text, 8080), { port: 8080 }, `${text} with a default port`);
  }

  const refused: [text: string, reason: RegExp][] = [
    ['', /is empty/],
    [':443', /no host/],
    ['eco:0', /not a number from 1 to 65535/],
    ['eco:65536', /not a number from 1 to 65535/],
    ['eco:99999', /not a number from 1 to 65535/],
    ['eco:100000', /not a number from 1 to 65535/],
    ['eco:+443', /not a number from 1 to 65535/],
    ['eco:-443', /not a number from 1 to 65535/],
    ['eco:0x1bb', /not a number from 1 to 65535/],
    ['eco:0443', /not a number from 1 to 65535/],
    ['eco:443 ', /not a number from 1 to 65535/],
    ['eco: 443', /not a number from 1 to 65535/],
    ['eco:４４３', /not a number from 1 to 65535/],
    ['eco:443:', /more than one colon/],
    ['eco:443@evil.example:443', /user information/],
    ['eco@evil.example', /user information/],
    ['@evil.example:443', /user information/],
    ['[[h]]:443', /brackets around something/],
    ['[eco]:443', /brackets around something/],
    ['[::1', /without its closing one/],
    ['[::1]443', /something other than a port/],
    ['[::1].:443', /something other than a port/],
    ['::1', /needs brackets/],
    ['::1:443', /needs brackets/],
    ['eco..:443', /empty label/],
    ['.eco:443', /empty label/],
    ['evil.example\0.telus.internal:443', /control/],
    ['eco。:443', /xn--/],
    ['1.2.3.256:443', /valid IPv4/],
    ['-eco:443', /not a valid name/],
  ];
  for (const [text, reason] of refused) {
    for (const defaultPort of [null, 80]) t.match(parseAuthority(text, defaultPort), reason, JSON.stringify(text));
  }
  t.equal(formatAuthority('::1', 443), '[::1]:443');
  t.equal(formatAuthority('eco', 443), 'eco:443');
});

/** A short string of these characters. */
const spelledWith = (characters: string, maxLength: number) => fc.string({ unit: fc.constantFrom(...Array.from(characters)), maxLength });

/** Strings near enough to hosts that many of them are. */
const hostLike = fc.oneof(
  spelledWith('aZ09-_.:[]x%@\\/ \0é。fF*', 24),
  spelledWith('0123456789.xa', 16),
  fc.domain(),
  fc.ipV4Extended(),
  fc.ipV6().map((address) => `[${address}]`),
  fc.string({ unit: 'binary' }),
);

t.test('properties of hosts', async (t) => {
  fc.assert(
    fc.property(hostLike, (text) => {
      const host = parseHost(text);
      if (host === null) return;
      const again = parseHost(isIPv6(host) ? `[${host}]` : host);
      if (again !== host) throw new Error(`not idempotent: ${host} became ${String(again)}`);
      if (parseConfigHost(host) !== host) throw new Error(`a configuration reads ${host} differently`);
      const read = URL.parse(`http://${text}/`)?.hostname;
      if (read === undefined) throw new Error('accepted what URL refuses');
      if (read.replace(/^\[|\]$/g, '').replace(/\.$/, '') !== host) throw new Error(`URL reads ${read}, we read ${host}`);
      // What the resolver would take for an address has to be one in the only spelling that is judged.
      if (/^[0-9.]+$/.test(host) && !isIPv4(host)) throw new Error(`${host} looks like an address and is none`);
      if (isIP(host) === 0 && !/^[a-z0-9_-]+(?:\.[a-z0-9_-]+)*$/.test(host)) throw new Error(`${host} is no canonical name`);
    }),
    { numRuns: 10_000 },
  );
  fc.assert(
    fc.property(hostLike, hostLike, spelledWith('0123456789+-x:@ ', 7), (before, host, port) => {
      for (const text of [`${host}:${port}`, `${before}@${host}:${port}`, before + host]) {
        const authority = parseAuthority(text, 80);
        if (typeof authority === 'string') continue;
        const url = URL.parse(`http://${text}/`);
        const urlHost = url?.hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
        if (urlHost !== authority.host || Number(url?.port || 80) !== authority.port) throw new Error(`URL reads ${url?.host ?? 'nothing'}`);
        if (url?.username !== '' || url.password !== '') throw new Error('accepted user information');
      }
    }),
    { numRuns: 3_000 },
  );
  t.pass('held in 13000 cases');
});

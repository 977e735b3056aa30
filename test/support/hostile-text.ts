/** Random texts near what the parsers take: pieces of real hosts, authorities, paths and fields with what has fooled parsers before. */
import fc from 'fast-check';

export const ECO = 'eco-sit.telus.internal';

const spelled = (pieces: readonly string[], maxLength: number): fc.Arbitrary<string> => fc.array(fc.constantFrom(...pieces), { maxLength }).map((parts) => parts.join(''));

const HOST_PIECES = [ECO, 'api', 'evil', 'partner', 'example', 'telus', 'xn--', 'xn--bcher-kva', '.', '..', '-', '_', '*', '@', ':', '[', ']', '::', 'ffff', '%', '%2e', '%00', '\0', '/', '\\', '\u3002', '\uff0e', '\u00ad', ' ', '\t', '0x', '0x7f', '0177', '127', '1', '0', '255', '256', '2130706433', '08', '1e3', 'a', 'A', '\u0131', '\u212a'];
const PATH_PIECES = ['/', '//', '.', '..', ';', ';x', '\\', 'api', 'API', 'admin', 'v1', 'x', '%2e', '%2E', '%2f', '%2F', '%5c', '%25', '%252e', '%252f', '%00', '%0d%0a', '%c0%ae', '%ef%bc%8f', '%3f', '%23', '%61pi', '%', '*', '?', '?q=', '#', '\u010d\u010a', ' ', 'é', '%u002e', '|', '{'];

/** Addresses in every spelling that some reader takes. */
const numeric = fc.oneof(
  fc.ipV4(),
  fc.ipV4Extended(),
  fc.ipV6().map((address) => `[${address}]`),
  fc.ipV6(),
  fc.integer({ min: 0, max: 0xffff_ffff }).map(String),
  fc.integer({ min: 0, max: 0xffff_ffff }).map((number) => `0x${number.toString(16)}`),
  fc.array(fc.oneof(fc.nat(300).map(String), fc.nat(300).map((part) => `0${part.toString(8)}`), fc.nat(300).map((part) => `0x${part.toString(16)}`)), { minLength: 1, maxLength: 5 }).map((parts) => parts.join('.')),
);

export const hostLike: fc.Arbitrary<string> = fc.oneof(fc.constant(ECO), fc.domain(), numeric, spelled(HOST_PIECES, 8), fc.string({ unit: 'binary', maxLength: 30 }), fc.webAuthority({ withUserInfo: true, withPort: true }));

const port = fc.oneof(fc.constantFrom('', ':443', ':80', ':', ':0', ':65536', ':+443', ':0x1bb', ':0443', ':443 ', ':4\u00433'), fc.nat(70_000).map((number) => `:${number}`));
const userInfo = fc.oneof({ weight: 4, arbitrary: fc.constant('') }, fc.constantFrom('u@', 'u:p@', `${ECO}:443@`, '@', '%40'));

export const authorityLike: fc.Arbitrary<string> = fc.tuple(userInfo, hostLike, port).map((parts) => parts.join(''));

export const pathLike: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom('/api/x', '/api/', '/v1/x/y', '/', '/admin'),
  spelled(PATH_PIECES, 9).map((path) => `/${path}`),
  spelled(PATH_PIECES, 6).map((path) => `/api/${path}`),
  fc.webPath(),
  fc.string({ unit: 'binary', maxLength: 30 }),
);

/** Targets that are right, but for at most one character put in, taken out or changed. */
const almostRight: fc.Arbitrary<string> = fc
  .tuple(
    fc.constantFrom('http://', 'https://', ''),
    fc.constantFrom(ECO, ECO.toUpperCase(), `${ECO}.`, '192.0.2.1', '0xc0.0.2.1', '3221225985', '[2001:db8::1]', '[2001:DB8:0::1]', 'a.partner.example', 'a.b.Partner.example', 'partner.example', 'xpartner.example', `a.${ECO}`, `a${ECO}`, `${ECO}.evil.example`, '192.0.2.2', '127.0.0.1', '169.254.169.254', '[::ffff:192.0.2.1]'),
    fc.constantFrom(':443', ':80', ''),
    fc.oneof(fc.constantFrom('', '/', '/api/x', '/%61pi/x', '/v1/x/y', '/public/a'), pathLike),
    fc.option(fc.tuple(fc.nat(40), fc.nat(1), fc.constantFrom('.', ':', '/', '@', '%', '\\', '[', ']', '?', '#', ';', '*', '-', '_', '0', 'a', 'A', ' ', '\0', '\u3002', '..', '%2e', '%2f', '')), { freq: 2 }),
  )
  .map(([scheme, host, written, path, change]) => {
    const text = `${scheme}${host}${written}${path}`;
    return change === null ? text : text.slice(0, change[0]) + change[2] + text.slice(change[0] + change[1]);
  });

export const urlLike: fc.Arbitrary<string> = fc.oneof(
  { weight: 5, arbitrary: almostRight },
  fc.tuple(fc.constantFrom('http', 'https', 'HTTP', 'ftp', 'ws', 'file', 'javascript', ''), fc.constantFrom('://', ':', ':/', ':///', ':\\\\', '//'), authorityLike, pathLike).map((parts) => parts.join('')),
  fc.webUrl({ withQueryParameters: true, withFragments: true }),
  authorityLike,
  pathLike,
);

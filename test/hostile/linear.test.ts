/**
 * Every reader of what others send is linear: an input sixteen times as long
 * takes some sixteen times the CPU, whatever it is made of. Both measurements
 * read the same number of characters (sixteen short texts, one long one), so a
 * linear reader needs the same CPU for both, and a quadratic one sixteen times
 * as much for the long one. CPU time decides, so that a busy machine cannot
 * fail the test.
 */
import t from 'tap';
import { interpolate } from '../../src/config/read-tree.ts';
import { readAddress, readCidr, readDnsServer, readField, readHostPattern, readListenAddress, readParentUrl, readProbeUrl, readServerName } from '../../src/config/read-address.ts';
import { readCertificateName, readClaim, readGatewayUrl, readJwksUrl, readMethod, readPasswordHash, readPathPattern, readPrefix, readSubject, readUser } from '../../src/config/read-sections.ts';
import { readDuration, readInteger, readMoment, readName, readPort, readSize, readText } from '../../src/config/read-scalar.ts';
import { adviseSyntax } from '../../src/config/read-yaml.ts';
import { hideInUrl } from '../../src/config/settings.ts';
import { readCertificates } from '../../src/config/tls-files.ts';
import { createConnectRequest } from '../../src/dial/connect-request.ts';
import { createSocks5 } from '../../src/dial/socks5.ts';
import { Fault } from '../../src/errors.ts';
import { createGatewayRouter } from '../../src/gateway/router.ts';
import { BodyReader, CHUNKED } from '../../src/http1/body-reader.ts';
import { listHas, trimBlanks } from '../../src/http1/fields.ts';
import { HeadReader, MessageError } from '../../src/http1/head-reader.ts';
import { readRequestHead } from '../../src/http1/request-head.ts';
import { isConnectionAuth, readResponseHead } from '../../src/http1/response-head.ts';
import { readAltNames, sanOf } from '../../src/identity/certificate.ts';
import { clientFromForwardedFor, lastOfXfcc } from '../../src/identity/forwarded.ts';
import { readPhc, readProxyAuthorization } from '../../src/identity/proxy-authorization.ts';
import { readProxyHeader } from '../../src/listeners/proxy-protocol.ts';
import { createPeerReader } from '../../src/listeners/trusted-peers.ts';
import { recogniseMistake } from '../../src/listeners/wrong-protocol.ts';
import { classifyAddress } from '../../src/policy/address-class.ts';
import { buildCertificateNames } from '../../src/policy/client-table.ts';
import { buildCidrTable } from '../../src/policy/tables.ts';
import { buildPatternTable, compilePaths, matchesPath, matchWildcard, NAME_STOPS } from '../../src/policy/patterns.ts';
import { forwardRequestHeaders, forwardRequestTrailers, forwardResponseHeaders, forwardTrailers, type MapField, nominatedBy, viaNames } from '../../src/relay/headers.ts';
import { readAnswer } from '../../src/source-ip/ask-endpoint.ts';
import { ClientHelloReader, ServerAnswerReader, TlsOpening } from '../../src/targets/client-hello.ts';
import { detach } from '../../src/policy/own-ask.ts';
import { quote, quoteTarget, show, showTarget } from '../../src/targets/quote.ts';
import { readHelloMessage } from '../../src/targets/hello-message.ts';
import { parseAuthority, parseConfigHost, parseHost, parseHostPattern } from '../../src/targets/host.ts';
import { canonicalPath, findAmbiguity, pathOf } from '../../src/targets/path.ts';
import { parseRequestTarget } from '../../src/targets/request-target.ts';
import { bound, escapeText, escapeUnsafe, jsonText } from '../../src/telemetry/safe-text.ts';
import { formatTextLine } from '../../src/telemetry/logger.ts';
import { readTraceparent } from '../../src/telemetry/access-record.ts';

/** Characters of the short text: together with the long one, what the limits of header sections and of the formats allow. */
const SHORT = 2_048;
const TIMES = 16;
/** Rounds to find what looks slow, and to be sure of it. */
const [FEW, MANY] = [2, 6];
/** One long text against sixteen short ones: 1 for a linear reader, 16 for a quadratic one. */
const MOST = 6;
/** Below this, ms, 32 KB are read in linear time: one step for each pair of characters would take a thousand times as long. */
const NOTHING = 1;
/** What decides is measured for this long, ms. */
const LONG_ENOUGH = 50;

/** What the filling is made of, again and again: blanks, separators, quotes, escapes, digits, and pieces that readers go back over. */
const PIECES = [
  'a', 'A', '0', '1', '25', ' ', '\t', ' \t', ',', ', ', ' ,', ';', ':', '::', '.', '..', '1.', 'a.', '.a', '/', '//', '/a', '/.', '/..', '\\', '\\"', '"', '"a', '=', 'a=', 'a=,', 'a="",', '-', '--', '-a',
  '_', '@', 'a@', '[', ']', '[]', '{', '}', '${', '${A}', '$${', '*', '**', '/*', '/**', '*a', '#', '?', '&', 'a&', 'a=1&', '%', '%2', '%25', '%2e', '%2f', '%00', '%c3%a9', '\r', '\n', '\r\n', '\0', 'é', '\u0301', '\u3002', 'ß',
  'xn--', 'xn--a.', '127.0.0.1,', '10.0.0.1, ', '::1,', '1.1 a,', 'http://', '://', 'By=', 'URI=a;', 'DNS=a,', 'DNS:a, ', 'ff', '0x', 'PROXY ', '-----BEGIN CERTIFICATE-----', '-----END CERTIFICATE-----', '- ', ': ', 'a: ', '"a": ', '[{,',
];

/** Field lines taken: so many that none is refused for their number. */
const MOST_FIELDS = 1 << 20;

/** What stands around the filling, so that a reader comes as far as the filling before it says no. */
type Frame = (filling: string) => string;
const plain: Frame = (filling) => filling;
const FRAMES: Readonly<Record<string, readonly Frame[]>> = {
  field: [plain],
  text: [plain, (filling) => `a${filling}`, (filling) => `${filling}\0`],
  address: [plain, (filling) => `192.0.2.1${filling}x`, (filling) => `${filling}192.0.2.1`, (filling) => `[${filling}]:1`, (filling) => `x, 10.0.0.1${filling},10.0.0.1`],
  url: [plain, (filling) => `http://${filling}`, (filling) => `http://a.example${filling}`, (filling) => `http://a.example/${filling}`, (filling) => `/${filling}`, (filling) => `http://a@${filling} `],
  names: [plain, (filling) => `DNS:${filling}`, (filling) => `URI:spiffe://a/${filling}`, (filling) => `URI:"${filling}`, (filling) => `DNS:a, ${filling}`],
  xfcc: [plain, (filling) => `URI=${filling}`, (filling) => `Subject="${filling}`, (filling) => `Subject="${filling}";URI=a`, (filling) => `URI=a,${filling}`],
  credentials: [plain, (filling) => `Basic ${filling}`, (filling) => `Basic ${filling}!`, (filling) => `Bearer ${filling}`, (filling) => `Bearer a.${filling}.`],
  hash: [plain, (filling) => `$scrypt$ln=15,r=8,p=1$${filling}$a`, (filling) => `$scrypt$ln=15,r=8,p=1$aaaa$${filling}`],
  trace: [plain, (filling) => `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01-${filling}`, (filling) => `01-${'a'.repeat(32)}-${'b'.repeat(16)}-01-${filling}\n`],
  head: [plain, (filling) => `HTTP/1.1 200 ${filling}`, (filling) => `HTTP/1.1 503 a\r\nProxy-Status: ${filling}\r\n\r\n`, (filling) => `HTTP/1.1 407 a\r\nProxy-Authenticate: ${filling}\r\n\r\n`, (filling) => `HTTP/1.1 100 a\r\n\r\n${filling}`],
  request: [(filling) => `GET ${filling} HTTP/1.1`, (filling) => `GET / HTTP/1.1\r\n${filling}`, (filling) => `GET / HTTP/1.1\r\nA:${filling}`, (filling) => `GET / HTTP/1.1\r\nConnection:${filling}x`],
  json: [(filling) => `{"level":"info","time":"x","msg":${JSON.stringify(filling)}}`, (filling) => `{"level":"info","time":"x","durationMs":1,"host":${JSON.stringify(filling)}}`],
};

/** Never throws what the reader throws of a text that it does not take. */
function quietly(read: (text: string) => unknown): (text: string) => void {
  return (text) => {
    try {
      read(text);
    } catch (error) {
      if (!(error instanceof Fault || error instanceof MessageError || error instanceof SyntaxError || error instanceof TypeError)) throw error;
    }
  };
}

/** One field that holds the text, the text in many fields, and many fields that the text names. */
function fields(read: (raw: string[]) => unknown): (text: string) => void {
  return quietly((text) => {
    for (const name of ['Via', 'Connection', 'X-Forwarded-For', 'Host', 'Location', 'Transfer-Encoding', 'X_Real_IP']) read([name, text]);
    const parts = text.match(/[^]{1,32}/g) ?? [];
    read(parts.flatMap((part) => ['Via', part]));
    read(parts.flatMap((part) => ['Connection', part]));
    read(['Connection', parts.join(), ...parts.flatMap((part) => [part, 'a'])]);
  });
}

/** The text as the bytes of a stream, in one piece and in pieces of which each is read as it comes. */
function stream(start: Buffer, open: () => (chunk: Buffer) => unknown, pieces: readonly number[]): (text: string) => void {
  return (text) => {
    const bytes = Buffer.concat([start, Buffer.from(text, 'latin1')]);
    for (const size of pieces) {
      const receive = open();
      for (let at = 0; at < bytes.length; at += size) receive(bytes.subarray(at, at + size));
    }
  };
}

const trusted = (address: string): boolean => address.startsWith('10.') || address.startsWith('::');
const names = buildCertificateNames([['DNS:*.a', 'URI:spiffe://a/*/b/*', 'URI:a*a*a*b']]);
const patterns = buildPatternTable([[0, ['a*a*b', '*.a', '/*/a']]], NAME_STOPS);
const cidrs = buildCidrTable([['10.0.0.0/8', '::/0']]);
const paths = compilePaths(['/a/**/b', '/a*a*b', '/**/a/**/a/*.b', '/x*']);
const peers = createPeerReader({ trustedPeers: ['127.0.0.1', '10.0.0.0/8'], believe: ['x-forwarded-for', 'x-forwarded-client-cert'] });
const neighbour = { address: '127.0.0.1', port: 1, sans: [] };
const complaints = { complain: (): void => {}, warn: (): void => {}, directory: '/', readFile: (): string => '' };
const rewrite = { name: 'eco-egress', headers: { via: true, forwarded: 'append', xForwarded: 'append', drop: ['x-corp-*'], keep: [] }, authority: 'a.example', httpVersion: '1.1', clientAddress: '10.0.0.1', clientScheme: 'http', clientHost: 'a', chunked: true, expectsContinue: true, maxForwards: 1, trace: null } as const;
const RECORD = Buffer.from([22, 3, 1, 0x40, 0, 1, 0, 0x7f, 0xff, 3, 3]);
const V2 = Buffer.from('\r\n\r\n\0\r\nQUIT\n\x21\x11\x0f\xf0', 'latin1');

interface Reader {
  readonly name: string;
  readonly frames: readonly Frame[];
  readonly read: (text: string) => void;
}

const reader = (frames: keyof typeof FRAMES, named: Readonly<Record<string, (text: string) => unknown>>): Reader[] =>
  Object.entries(named).map(([name, read]) => ({ name, frames: FRAMES[frames] ?? [], read: quietly(read) }));

const router = await createGatewayRouter([
  { name: 'a', gateway: { prefix: '/a', scheme: 'https', host: 'a.example', port: 443, basePath: '/b', rewrite: ['locations', 'cookies'], encodedSlashes: 'refuse' } },
]);
t.teardown(() => router.close());
let mapField: MapField = (_name, value) => value;
const routed = (url: string): void => {
  try {
    mapField = router.route(url)?.mapFields(true) ?? mapField;
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
  }
};
routed('/a/x');

const READERS: readonly Reader[] = [
  ...reader('text', { quote, quoteTarget, show, showTarget, detach, escapeText, escapeUnsafe, jsonText, bound: (text) => bound(text, 100), recogniseMistake: (text) => recogniseMistake(Buffer.from(text, 'latin1'), { peer: neighbour, proxyHeaderLength: 0, secure: false }, 'off') }),
  ...reader('text', { readName, readText, readMethod, readPort, readUser, readClaim, readSubject, readMoment, readField, interpolate: (text) => interpolate(text, { A: 'a' }), adviseSyntax: (text) => adviseSyntax({ code: 'MISSING_CHAR' }, text), readInteger: readInteger(0, 9), readDuration: readDuration('zero'), readSize: readSize(1, 2) }),
  ...reader('text', { trimBlanks, isConnectionAuth, listHas: (text) => listHas(text, 'close'), readAnswer: (text) => readAnswer(text, null), readMember: (text) => readAnswer(text, 'a.b'), matchWildcard: (text) => matchWildcard('a*a*0*b', text, NAME_STOPS) }),
  ...reader('address', {
    clientFromForwardedFor: (text) => clientFromForwardedFor(text, trusted),
    peerFromForwardedFor: (text) => peers.read(neighbour, ['X-Forwarded-For', text]),
    peerFromFields: (text) => peers.read(neighbour, text.match(/[^]{1,32}/g)?.flatMap((part) => ['X-Forwarded-For', part]) ?? []),
    classifyAddress, readCidr, readAddress, readListenAddress, readDnsServer, cidrTable: (text) => cidrs.find(text),
  }),
  ...reader('url', {
    hideInUrl,
    parseHost, parseConfigHost, parseHostPattern, readHostPattern, readServerName, readJwksUrl, readPathPattern, readPrefix, readGatewayUrl, readParentUrl, readProbeUrl, pathOf, findAmbiguity, canonicalPath,
    parseAuthority: (text) => parseAuthority(text, 80),
    parseConnect: (text) => parseRequestTarget('CONNECT', text, ['a'], '1.1'),
    parseTarget: (text) => parseRequestTarget('GET', text, ['a'], '1.1'),
    parseHostField: (text) => parseRequestTarget('GET', '/', [text], '1.1'),
    matchesPath: (text) => matchesPath(paths, text),
    patternTable: (text) => patterns.find(text),
    gateway: (text) => { routed(`/a${text}`); },
    mapLocation: (text) => mapField('location', text),
    mapRefresh: (text) => mapField('refresh', text),
    mapLink: (text) => mapField('link', text),
    mapCookie: (text) => mapField('set-cookie', text),
  }),
  ...reader('names', { readAltNames, sanOfUri: (text) => sanOf('URI', text), sanOfDns: (text) => sanOf('DNS', text), sanOfMail: (text) => sanOf('email', text), readCertificateName, certificateNames: (text) => names.find(text) }),
  ...reader('xfcc', { lastOfXfcc, peerFromXfcc: (text) => peers.read(neighbour, ['X-Forwarded-Client-Cert', text]) }),
  ...reader('credentials', { readProxyAuthorization }),
  ...reader('hash', { readPhc, readPasswordHash }),
  ...reader('trace', { readTraceparent }),
  ...reader('json', { formatTextLine: (text) => formatTextLine(text, false) }),
  ...reader('text', { readCertificates: (text) => readCertificates(text, [], complaints.complain) }),
  ...reader('field', {
    nominatedBy: fields(nominatedBy),
    forwardRequestHeaders: fields((raw) => forwardRequestHeaders(raw, rewrite)),
    forwardedHost: (text) => forwardRequestHeaders([], { ...rewrite, clientHost: text }),
    forwardResponseHeaders: fields((raw) => forwardResponseHeaders({ status: 200, reason: '', version: '1.1', fields: raw, framing: CHUNKED, keepAlive: true, idleTimeout: null, mostExchanges: null, upgrade: '', authenticatesConnection: false }, { viaName: 'eco-egress', mapField, trailers: true })),
    forwardTrailers: fields((raw) => forwardTrailers(raw, nominatedBy(raw))),
    forwardRequestTrailers: fields((raw) => forwardRequestTrailers(raw, nominatedBy(raw), rewrite.headers)),
    viaNames: (text) => viaNames([text], 'eco-egress'),
  }),
  ...reader('request', { requestHead: (text) => readRequestHead(text, MOST_FIELDS) }),
  ...reader('head', {
    responseHead: (text) => readResponseHead(text, 'GET', MOST_FIELDS),
    headSection: stream(Buffer.alloc(0), () => {
      const heads = new HeadReader({ limit: 1 << 20, lenient: true, startLine: true });
      return (chunk) => {
        for (let at = 0; at < chunk.length; ) at = heads.read(chunk, at)?.next ?? chunk.length;
      };
    }, [1 << 20, 16]),
    chunks: stream(Buffer.from('1\r\na\r\n'), () => {
      const body = new BodyReader({ trailerBytes: 1 << 20, trailerFields: MOST_FIELDS, lenient: true });
      body.begin(CHUNKED);
      return (chunk) => body.read(chunk, 0, () => {});
    }, [1 << 20, 16]),
    connectAnswer: stream(Buffer.alloc(0), () => {
      const handshake = createConnectRequest({ host: 'a.example', port: 443, credentials: { kind: 'basic', user: 'aaaa', password: 'aaaa' }, via: null });
      let over = false;
      return (chunk) => {
        if (!over) over = handshake.receive(chunk).step !== 'more';
      };
    }, [1 << 20, 16]),
  }),
  ...reader('text', {
    socksAnswer: stream(Buffer.from([5, 0, 5, 0, 0, 3, 255]), () => {
      const handshake = createSocks5({ host: 'a.example', port: 443, credentials: null });
      let over = false;
      return (chunk) => {
        if (!over) over = handshake.receive(chunk).step !== 'more';
      };
    }, [1 << 20, 16]),
    clientHello: stream(RECORD, () => {
      const hello = new ClientHelloReader();
      return (chunk) => hello.push(chunk);
    }, [1 << 20, 16]),
    serverAnswer: stream(Buffer.from([22, 3, 3, 0x40, 0, 11, 0x7f, 0xff, 0xff]), () => {
      const answer = new ServerAnswerReader();
      return (chunk) => answer.push(chunk);
    }, [1 << 20, 16]),
    tlsOpening: stream(RECORD, () => {
      const opening = new TlsOpening();
      return (chunk) => opening.fromClient(chunk);
    }, [1 << 20, 16]),
    helloMessage: (text) => readHelloMessage(Buffer.concat([Buffer.alloc(34, 3), Buffer.from([0, 0, 2, 19, 1, 1, 0]), Buffer.from([text.length >> 8, text.length & 0xff]), Buffer.from(text, 'latin1')])),
    proxyLine: (text) => readProxyHeader(Buffer.from(`PROXY ${text}`, 'latin1')),
    proxyBinary: (text) => readProxyHeader(Buffer.concat([V2, Buffer.alloc(12), Buffer.from(text, 'latin1')])),
  }),
];

/** Ms of CPU, of all threads: what waits for a busy machine does not count. */
function cpu(work: () => void): number {
  const began = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(began);
  return (user + system) / 1_000;
}

const fill = (piece: string, length: number): string => piece.repeat(Math.ceil(length / piece.length)).slice(0, length);

/** How many times the CPU of the short texts the long one takes; 0: so little that it does not matter. */
function compare(read: (text: string) => void, short: string, long: string): number {
  const readShort = (): void => {
    for (let i = 0; i < TIMES; i += 1) read(short);
  };
  const readLong = (): void => {
    read(long);
  };
  // What runs first is not compiled yet, and would make everything after it look quick.
  readShort();
  if (cpu(readLong) < NOTHING) return 0;
  const [ofShort, ofLong] = measure(readShort, readLong, 1, FEW);
  if (ofLong < MOST * ofShort) return 0;
  // Looks slow: once more, for so long that neither the compiler nor the garbage of one of them decides. Where the system
  // counts CPU time coarsely, the short ones may seem to have taken none.
  const [ofMany, ofManyLong] = measure(readShort, readLong, Math.ceil(LONG_ENOUGH / Math.max(ofShort, NOTHING / TIMES)), MANY);
  return ofManyLong / ofMany;
}

/** The least CPU of each in several rounds: whatever else happens in a round only adds to it. */
function measure(one: () => void, other: () => void, repeats: number, rounds: number): [number, number] {
  const repeated = (work: () => void) => (): void => {
    for (let i = 0; i < repeats; i += 1) work();
  };
  let [ofOne, ofOther] = [Infinity, Infinity];
  for (let round = 0; round < rounds; round += 1) {
    ofOne = Math.min(ofOne, cpu(repeated(one)));
    ofOther = Math.min(ofOther, cpu(repeated(other)));
  }
  return [ofOne, ofOther];
}

t.setTimeout(300_000);

t.test('each reader, with each filling', async (t) => {
  for (const { name, frames, read } of READERS) {
    const slow: string[] = [];
    for (const [index, frame] of frames.entries()) {
      for (const piece of PIECES) {
        const ratio = compare(read, frame(fill(piece, SHORT)), frame(fill(piece, SHORT * TIMES)));
        if (ratio > MOST) slow.push(`${JSON.stringify(piece)} in frame ${index}: ${ratio.toFixed(1)}`);
      }
    }
    t.strictSame(slow, [], name);
  }
});

t.test('a quadratic reader is found', async (t) => {
  const blanks = (length: number): string => `${' '.repeat(length)}x`;
  t.ok(compare((text) => text.replace(/ +$/, ''), blanks(SHORT / 4), blanks(SHORT * TIMES / 4)) > MOST);
  const copies = (text: string): void => {
    let list: string[] = [];
    for (const character of text) list = [...list, character];
  };
  t.ok(compare(copies, 'a'.repeat(SHORT / 8), 'a'.repeat(SHORT * TIMES / 8)) > MOST);
  t.notOk(compare((text) => text.trim(), blanks(SHORT), blanks(SHORT * TIMES)) > MOST, 'a linear one is not');
});

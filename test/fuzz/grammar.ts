/**
 * Messages as a grammar makes them and then spoils them: HTTP requests and
 * answers, CONNECT and SOCKS answers, PROXY headers, ClientHellos. Each is a
 * function of its random numbers alone, so that a number makes it again.
 */
import { makeHelloCase } from '../support/hello-mutations.ts';
import { binary, block4, line, LOCAL, PROXY, TCP4 } from '../support/proxy-header.ts';
import { between, bytes } from '../support/random.ts';

export type Random = () => number;

export function pick<const T extends readonly [unknown, ...unknown[]]>(random: Random, of: T): T[number] {
  // The numbers are below 1.
  return of[Math.floor(random() * of.length)];
}

const chance = (random: Random, part: number): boolean => random() < part;

/** Where requests may be sent; `host` is with its port. */
export interface Targets {
  readonly host: string;
  readonly others: readonly string[];
  /** Behind which the gateway is. */
  readonly prefix: string;
  /** By which the partner knows which case it has to do with. */
  readonly path: string;
}

const METHODS = ['GET', 'GET', 'POST', 'POST', 'PUT', 'HEAD', 'DELETE', 'OPTIONS', 'TRACE', 'PATCH', 'CONNECT', 'PRI', 'get', 'M-SEARCH', ''] as const;
const VERSIONS = ['HTTP/1.1', 'HTTP/1.1', 'HTTP/1.1', 'HTTP/1.1', 'HTTP/1.0', 'HTTP/1.2', 'HTTP/2.0', 'http/1.1', 'HTTP/1.1 ', 'HTTP/0.9', ''] as const;
const LENGTHS = ['0', '5', '5', '5', '6', '4', '05', '+5', '-5', '0x5', '5, 5', '5,6', '5 ', ' 5', '', '5\t', '99999999999999999999', '5;q=1'] as const;
const CODINGS = ['chunked', 'chunked', 'chunked', 'Chunked', 'CHUNKED', ' chunked', 'chunked ', 'chunked, chunked', 'gzip, chunked', 'chunked, gzip', 'identity', 'xchunked', 'chunked,', '"chunked"', 'chunked;a=b', '\tchunked', 'chun\x0bked', ''] as const;
const SIZES = ['5', '5', '5', '05', '0x5', '+5', '-5', '5 ', ' 5', '5;ext', '5;ext="a;b"', '5 ;ext', 'FFFFFFFFFFFFFFFF5', '6', '4', 'Z', ''] as const;
const ENDS = ['\r\n', '\r\n', '\r\n', '\r\n', '\r\n', '\r\n', '\r\n', '\n', '\r', '\r\r\n', '\n\r\n'] as const;
const FIELDS = [
  'Connection: close', 'Connection: keep-alive', 'Connection: Upgrade', 'Connection: close, X-Hop', 'Connection: Host', 'Connection: Content-Length', 'Upgrade: websocket', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAAQAAP__',
  'Expect: 100-continue', 'Expect: x', 'TE: trailers', 'Trailer: X-Sum', 'X-Hop: 1', 'Max-Forwards: 0', 'Max-Forwards: -1', 'Via: 1.1 eco-egress', 'Proxy-Authorization: Basic eDp5', 'Proxy-Connection: close', 'Keep-Alive: timeout=1',
  'X-Forwarded-For: 1.2.3.4', 'Forwarded: for=1.2.3.4', 'Cookie: a=b', 'Range: bytes=0-1', 'If-None-Match: *', 'Accept-Encoding: gzip', 'X: \x00', 'X: \x7f', 'X: \xff\xfe', 'X : y', ' X: y', 'X:y', 'X', ': y', 'X\ty: z', 'X: a\r b', '\x0bX: y', 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==', 'Sec-WebSocket-Version: 13', 'X-Long: ' + 'a'.repeat(3000),
] as const;

/** The content behind a head: as the framing says, or nearly. */
function content(random: Random, framing: 'none' | 'length' | 'chunked'): string {
  if (framing === 'none') return chance(random, 0.1) ? 'stray' : '';
  if (framing === 'length') return pick(random, ['hello', 'hello', 'hello', 'hell', 'helloo', '']);
  let text = '';
  for (let i = between(random, 0, 2); i > 0; i -= 1) text += `${pick(random, SIZES)}${pick(random, ENDS)}hello${pick(random, ENDS)}`;
  if (chance(random, 0.9)) text += `${pick(random, ['0', '0', '0', '00', '0;a', '-0'])}${pick(random, ENDS)}`;
  if (chance(random, 0.2)) text += `${pick(random, ['X-Sum: 1', 'Content-Length: 5', 'Host: x', 'X', 'Transfer-Encoding: chunked'])}${pick(random, ENDS)}`;
  return chance(random, 0.9) ? `${text}${pick(random, ENDS)}` : text;
}

/** Fields of the framing, mostly one of them. */
function framingOf(random: Random): { fields: string[]; framing: 'none' | 'length' | 'chunked' } {
  const framing = pick(random, ['none', 'none', 'length', 'chunked']);
  const fields: string[] = [];
  const odd = chance(random, 0.35);
  if (framing === 'length' || (odd && chance(random, 0.3))) fields.push(`Content-Length: ${odd ? pick(random, LENGTHS) : '5'}`);
  if (framing === 'chunked' || (odd && chance(random, 0.3))) fields.push(`Transfer-Encoding: ${odd ? pick(random, CODINGS) : 'chunked'}`);
  if (odd && chance(random, 0.15)) fields.push(`Content-Length: ${pick(random, LENGTHS)}`);
  if (odd && chance(random, 0.1)) fields.push(`Transfer-Encoding: ${pick(random, CODINGS)}`);
  return { fields, framing };
}

export function request(random: Random, { host, others, prefix, path }: Targets): string {
  const other = others.length > 0 && chance(random, 0.15) ? (others[Math.floor(random() * others.length)] ?? host) : host;
  const method = chance(random, 0.75) ? pick(random, ['GET', 'GET', 'POST', 'HEAD', 'PUT', 'OPTIONS', 'DELETE']) : pick(random, METHODS);
  const target =
    method === 'CONNECT' || chance(random, 0.08)
      ? pick(random, [other, other, other.split(':')[0] ?? '', `[${other}]`, `user@${other}`, `${other}0`])
      : pick(random, [`http://${other}${path}`, `http://${other}${path}`, `${prefix}${path}`, `${prefix}${path}`, path, `HTTP://${other.toUpperCase()}${path}`, `http://${other}`, `http://u:p@${other}${path}`, `https://${other}${path}`, `${prefix}/..${path}`, `//${other}${path}`, '*', '', `${path}#x`, `${path}?${'q'.repeat(between(random, 0, 2000))}`]);
  const { fields, framing } = framingOf(random);
  const hosts = chance(random, 0.9) ? [`Host: ${other}`] : pick(random, [[], ['Host: '], ['Host: evil.example'], [`Host: ${other}`, `Host: ${other}`], ['Host: a b'], [`host:${other}`]]);
  const all = [...hosts, ...fields, `X-Case: ${/\d+$/.exec(path)?.[0] ?? ''}`];
  for (let i = pick(random, [0, 0, 0, 0, 1, 2, 3]); i > 0; i -= 1) all.splice(between(random, 0, all.length), 0, pick(random, FIELDS));
  if (chance(random, 0.02)) for (let i = 0; i < 600; i += 1) all.push('a:');
  const end = (): string => (chance(random, 0.97) ? '\r\n' : pick(random, ENDS));
  const version = chance(random, 0.9) ? 'HTTP/1.1' : pick(random, VERSIONS);
  return `${method} ${target} ${version}${end()}${all.map((field) => field + end()).join('')}${end()}${content(random, framing)}`;
}

type Spoiler = (it: string) => string;

/** Some of the bytes are no longer what they were. */
export function spoil(random: Random, text: string): string {
  let spoiled = text;
  for (let i = between(random, 1, 3); i > 0 && spoiled !== ''; i -= 1) {
    const at = between(random, 0, spoiled.length - 1);
    const length = between(random, 1, 8);
    spoiled = pick<readonly [Spoiler, ...Spoiler[]]>(random, [
      (it) => it.slice(0, at) + String.fromCharCode(between(random, 0, 255)) + it.slice(at + 1),
      (it) => it.slice(0, at) + bytes(random, length).toString('latin1') + it.slice(at),
      (it) => it.slice(0, at) + it.slice(at + length),
      (it) => it.slice(0, at + length) + it.slice(at),
      (it) => it.slice(0, at),
      (it) => it.replace('\r\n', pick(random, ENDS)),
    ])(spoiled);
  }
  return spoiled;
}

/** All that a client says on one connection. */
export function conversation(random: Random, targets: Targets): string {
  let text = '';
  for (let i = pick(random, [1, 1, 1, 1, 2, 3, 8]); i > 0; i -= 1) text += request(random, targets);
  return chance(random, 0.3) ? spoil(random, text) : text;
}

export function hello(random: Random): string {
  const { stream } = makeHelloCase(between(random, 0, 1_000_000), between(random, 0, 1_000_000));
  return stream.subarray(0, 40_000).toString('latin1');
}

export function proxyHeader(random: Random): string {
  const good = pick<readonly [() => Buffer, ...(() => Buffer)[]]>(random, [
    () => line('TCP4 10.0.0.1 10.0.0.2 1000 80'),
    () => line('UNKNOWN'),
    () => binary(PROXY, TCP4, block4('127.0.0.1')),
    () => binary(LOCAL, 0, Buffer.alloc(0)),
    () => binary(PROXY, TCP4, block4('127.0.0.1'), between(random, 0, 70_000) & 0xffff),
    () => binary(PROXY, between(random, 0, 255), block4('127.0.0.1')),
    () => Buffer.from('PROXY '),
  ])().toString('latin1');
  return chance(random, 0.4) ? spoil(random, good) : good;
}

const STATUSES = ['200 OK', '200 OK', '200 OK', '204 No Content', '304 Not Modified', '404 Not Found', '101 Switching Protocols', '100 Continue', '103 Early Hints', '401 Unauthorized', '301 Moved', '999 Odd', '1000 Odd', '20 OK', '', '200'] as const;

/** What a partner says to one request. */
export function response(random: Random): string {
  let text = '';
  for (let i = chance(random, 0.15) ? between(random, 1, 5) : 0; i > 0; i -= 1) text += `HTTP/1.1 ${pick(random, ['100 Continue', '102 Processing', '103 Early Hints', '199 Odd'])}\r\n${chance(random, 0.2) ? 'Content-Length: 5\r\n' : ''}\r\n`;
  const { fields, framing } = framingOf(random);
  const all = [...fields];
  for (let i = between(random, 0, 2); i > 0; i -= 1) all.push(pick(random, ['Connection: close', 'Connection: Upgrade', 'Upgrade: websocket', 'Keep-Alive: timeout=1', 'Location: http://x/', 'Set-Cookie: a=b; Path=/', 'Refresh: 0;url=/', 'X: a\rb', 'X', 'Trailer: X', 'WWW-Authenticate: NTLM', 'Proxy-Authenticate: Basic', 'Via: 1.1 eco-egress', 'Content-Encoding: gzip']));
  const end = (): string => (chance(random, 0.97) ? '\r\n' : pick(random, ENDS));
  text += `${pick(random, ['HTTP/1.1', 'HTTP/1.1', 'HTTP/1.1', 'HTTP/1.1', 'HTTP/1.0', 'HTTP/2', 'ICY'])} ${pick(random, STATUSES)}${end()}${all.map((field) => field + end()).join('')}${end()}${content(random, framing)}`;
  return chance(random, 0.3) ? spoil(random, text) : text;
}

/** What a parent says to CONNECT, or in the course of SOCKS5. */
export function parentAnswer(random: Random, scheme: 'http' | 'socks5'): string {
  const text =
    scheme === 'http'
      ? pick(random, ['HTTP/1.1 200 OK\r\n\r\n', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello', 'HTTP/1.0 200\r\n\r\n', 'HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic\r\n\r\n', 'HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno', 'HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n', 'HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n', `HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(5000)}\r\n`, '\x05\x00'])
      : pick(random, ['\x05\x00', '\x05\x02', '\x05\xff', '\x04\x00', '\x05', '\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00', '\x05\x00\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00', '\x05\x00\x05\x00\x00\x03\xff', 'HTTP/1.1 400 Bad\r\n\r\n', '\x05\x00\x05\x00\x00\x07\x00\x00']);
  return (chance(random, 0.4) ? spoil(random, text) : text) + (chance(random, 0.5) ? response(random) : '');
}

/** In as many pieces as a network might make of it. */
export function pieces(random: Random, text: string): string[] {
  if (chance(random, 0.6)) return [text];
  const out: string[] = [];
  for (let rest = text; rest !== '' && out.length < 20; ) {
    const length = chance(random, 0.3) ? 1 : between(random, 1, Math.max(1, rest.length));
    out.push(rest.slice(0, length));
    rest = rest.slice(length);
    if (out.length === 20) out.push(rest);
  }
  return out;
}

/**
 * Requests a connection from a SOCKS5 parent (RFC 1928), with user and password
 * if it requires them (RFC 1929). Pure.
 */
import ipaddr from 'ipaddr.js';
import { parseIp } from '../targets/ip-address.ts';
import { formatAuthority } from '../targets/host.ts';
import type { HandshakeFailure } from './hop-fault.ts';
import type { HopHandshake, HandshakeStep } from './handshake.ts';

/** The request to a SOCKS5 parent. */
export interface Socks5Options {
  /** Name of at most 255 bytes, or IP literal without brackets. */
  readonly host: string;
  readonly port: number;
  /** Each of at most 255 bytes; null: no credentials. */
  readonly credentials: { readonly user: string; readonly password: string } | null;
}

const SOCKS_VERSION = 5;
const CONNECT_COMMAND = 1;
const NO_AUTHENTICATION = 0;
const USER_PASSWORD = 2;
const NONE_ACCEPTABLE = 0xff;
const LOGIN_VERSION = 1;
const IPV4 = 1;
const DOMAIN = 3;
const IPV6 = 4;
/** RFC 1928 §6: the part before the address, and the port after it. */
const REPLY_START = 4;
const PORT_LENGTH = 2;

type SocksRefusal = Omit<HandshakeFailure, 'detail'> & { readonly words: string };

const reply = (code: SocksRefusal['code'], about: SocksRefusal['about'], words: string, remedy: string): SocksRefusal => ({
  code,
  about,
  words,
  remedy,
});
const beyond = (words: string): SocksRefusal =>
  reply('hop-upstream-failed', 'beyond', words, 'Check name, routes and firewalls from the parent to the upstream.');

const CHECK_SOCKS = 'Check that a SOCKS5 server listens there: the scheme and the port of the parent.';
const GIVE_CREDENTIALS = 'Put user:password into a file of one line, and name it in hops.<name>.credentialsFile.';
const CHECK_CREDENTIALS = 'Check the file in hops.<name>.credentialsFile: the parent does not accept its content.';

/** RFC 1928 §6. */
const REPLIES: Readonly<Record<number, SocksRefusal>> = {
  1: reply('hop-failed', 'either', 'general SOCKS server failure', 'Check the log of the parent: it may not reach the upstream.'),
  2: reply('hop-refused', 'beyond', 'connection not allowed by ruleset', 'Have the parent permit this host and port from here.'),
  3: beyond('network unreachable'),
  4: beyond('host unreachable'),
  5: beyond('connection refused'),
  6: beyond('TTL expired'),
  7: reply('hop-failed', 'parent', 'command not supported', 'Use a parent that supports the SOCKS command CONNECT.'),
  8: reply('hop-failed', 'either', 'address type not supported', 'Use a parent that supports this kind of address.'),
};

/** A handshake that requests a connection by SOCKS5, once. Sends a password only if the parent asks for one. */
export function createSocks5({ host, port, credentials }: Socks5Options): HopHandshake {
  const asked = `SOCKS CONNECT ${formatAuthority(host, port)}`;
  const failed = ({ words, ...refusal }: SocksRefusal): HandshakeStep => ({ step: 'failed', ...refusal, detail: words });
  const garbage = (words: string): HandshakeStep =>
    failed(reply('hop-failed', 'parent', `${words} instead of a SOCKS5 answer to ${asked}`, CHECK_SOCKS));
  const denied = (words: string): HandshakeStep =>
    failed(reply('hop-credentials', 'parent', words, credentials === null ? GIVE_CREDENTIALS : CHECK_CREDENTIALS));
  const more = (send: Buffer | null): HandshakeStep => ({ step: 'more', send });

  let held: Buffer = Buffer.alloc(0);
  const take = (length: number): void => {
    held = held.subarray(length);
  };

  /** RFC 1928 §3. */
  const readMethod = (): HandshakeStep => {
    if (held[0] !== SOCKS_VERSION) return garbage('sent something else');
    if (held.length < 2) return more(null);
    const method = held[1];
    take(2);
    if (method === NO_AUTHENTICATION) {
      read = readReply;
      return more(connectRequest(host, port));
    }
    if (method === USER_PASSWORD && credentials !== null) {
      read = readLogin;
      return more(login(credentials));
    }
    if (method === NONE_ACCEPTABLE)
      return denied(credentials === null ? 'asks for credentials' : 'accepts neither username/password nor anonymous access');
    return garbage(`chose the method ${method}, which was not offered,`);
  };

  /** RFC 1929 §2. */
  const readLogin = (): HandshakeStep => {
    if (held[0] !== LOGIN_VERSION) return garbage('sent something else');
    if (held.length < 2) return more(null);
    if (held[1] !== 0) return denied('does not accept the user and password');
    take(2);
    read = readReply;
    return more(connectRequest(host, port));
  };

  /** RFC 1928 §6. */
  const readReply = (): HandshakeStep => {
    if (held.length > 0 && held[0] !== SOCKS_VERSION) return garbage('sent something else');
    const [, code] = held;
    if (code === undefined) return more(null);
    if (code !== 0) {
      const refusal = REPLIES[code];
      return refusal === undefined
        ? garbage(`sent the unknown reply ${code}`)
        : failed({ ...refusal, words: `answered "${refusal.words}" (${code}) to ${asked}` });
    }
    const length = replyLength();
    if (length === -1) return garbage(`sent the unknown address type ${held[3]}`);
    if (length === null || held.length < length) return more(null);
    return { step: 'done', rest: held.subarray(length) };
  };

  /** Length of the address that the parent dials from, which is not used; null: not known yet. */
  const replyLength = (): number | null => {
    const [, , , type, domainLength] = held;
    switch (type) {
      case undefined:
        return null;
      case IPV4:
        return REPLY_START + 4 + PORT_LENGTH;
      case IPV6:
        return REPLY_START + 16 + PORT_LENGTH;
      case DOMAIN:
        return domainLength === undefined ? null : REPLY_START + 1 + domainLength + PORT_LENGTH;
      default:
        return -1;
    }
  };

  let read = readMethod;
  return {
    // No credentials are offered too, even if we have some: a parent may know us by our address.
    opening: Buffer.of(SOCKS_VERSION, ...(credentials === null ? [1, NO_AUTHENTICATION] : [2, NO_AUTHENTICATION, USER_PASSWORD])),
    get asked() {
      return read === readMethod ? 'the SOCKS greeting' : read === readLogin ? 'the SOCKS login' : asked;
    },
    get about() {
      return read === readReply ? 'either' : 'parent';
    },
    receive: (chunk) => {
      held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
      return read();
    },
  };
}

function login({ user, password }: { readonly user: string; readonly password: string }): Buffer {
  const [name, secret] = [Buffer.from(user), Buffer.from(password)];
  return Buffer.concat([Buffer.of(LOGIN_VERSION, name.length), name, Buffer.of(secret.length), secret]);
}

/** RFC 1928 §4. */
function connectRequest(host: string, port: number): Buffer {
  return Buffer.concat([Buffer.of(SOCKS_VERSION, CONNECT_COMMAND, 0), addressOf(host), Buffer.of(port >> 8, port & 0xff)]);
}

/** RFC 1928 §5. */
function addressOf(host: string): Buffer {
  const address = parseIp(host);
  if (address !== null) return Buffer.of(address instanceof ipaddr.IPv4 ? IPV4 : IPV6, ...address.toByteArray());
  const name = Buffer.from(host, 'latin1');
  return Buffer.concat([Buffer.of(DOMAIN, name.length), name]);
}

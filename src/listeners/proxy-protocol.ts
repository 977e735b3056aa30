/**
 * The PROXY protocol, versions 1 and 2, with which a load balancer names the
 * client at the start of a connection
 * (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt): reads the
 * header, and waits for it on a connection.
 */
import { isIPv4, isIPv6, type Socket } from 'node:net';
import { Fault } from '../errors.ts';
import { CR, LF } from '../http1/head-reader.ts';
import { canonicalIp } from '../targets/ip-address.ts';
import { quote } from '../targets/quote.ts';
import { receiveFirstBytes } from './first-bytes.ts';

/** The content of a PROXY header. */
export interface ProxyHeader {
  /** The client's address, canonical; null where the peer is itself the client (LOCAL, UNKNOWN, UNSPEC). */
  readonly address: string | null;
  /** The client's port; 0 where there is none, or the header does not say. */
  readonly port: number;
  /** Length of the header, bytes; what follows belongs to the connection. */
  readonly length: number;
}

/** §2.1: the longest line, with its CRLF. */
export const LONGEST_V1 = 107;

/** Version 2, TLVs included. The format allows 64 KiB; load balancers send far less. */
export const LONGEST_V2 = 4096;

const V1_START = Buffer.from('PROXY ');
/** §2.2: no text protocol can begin with this. */
const V2_SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
const V2_FIXED = 16;

/** The two accepted address blocks, by family and protocol byte: TCP over IPv4 and over IPv6. */
const TCP4_BLOCK = { byte: 0x11, width: 4, size: 12 };
const TCP6_BLOCK = { byte: 0x21, width: 16, size: 36 };
/** Other values assigned in §2.2, none of which can occur on a TCP port. */
const OTHER_FAMILIES: ReadonlyMap<number, string> = new Map([
  [0x12, 'UDP over IPv4'],
  [0x22, 'UDP over IPv6'],
  [0x31, 'a UNIX stream'],
  [0x32, 'a UNIX datagram'],
]);
const TLV_HEAD = 3;

const REMEDY = "make the load balancer send PROXY protocol v1 or v2 over TCP, or set the listener's proxyProtocol to off";

/**
 * Parses from the first byte of a connection. Strict: anything that the
 * specification does not allow is a Fault, as early as it can be seen. The
 * lengths of TLVs are checked, then they are skipped, CRC32C included.
 *
 * @param bytes all bytes received so far
 * @returns null while the header is not complete. Never throws.
 */
export function readProxyHeader(bytes: Buffer): ProxyHeader | Fault | null {
  if (startsLike(bytes, V1_START)) return bytes.length < V1_START.length ? null : readLine(bytes);
  if (startsLike(bytes, V2_SIGNATURE)) return bytes.length < V2_SIGNATURE.length ? null : readBinary(bytes);
  return malformedHeader(`the connection begins with ${quote(bytes.toString('latin1', 0, 16))}, which is not a PROXY protocol header`);
}

/** Whether a connection where none was expected begins with a PROXY header. */
export function isProxyHeader(bytes: Buffer): boolean {
  return bytes.length >= V1_START.length && (startsLike(bytes, V1_START) || startsLike(bytes, V2_SIGNATURE));
}

function startsLike(bytes: Buffer, start: Buffer): boolean {
  const length = Math.min(bytes.length, start.length);
  return bytes.compare(start, 0, length, 0, length) === 0;
}

/** §2.1. */
function readLine(bytes: Buffer): ProxyHeader | Fault | null {
  const end = bytes.indexOf(CR, V1_START.length);
  const lineFeed = bytes.indexOf(LF, V1_START.length);
  if (lineFeed !== -1 && lineFeed !== end + 1) return malformedHeader('the line of the PROXY header does not end in CR LF');
  if (end === -1 ? bytes.length > LONGEST_V1 - 2 : end > LONGEST_V1 - 2)
    return malformedHeader(`the line of the PROXY header is longer than ${LONGEST_V1} bytes`);
  if (end === -1 || bytes.length === end + 1) return null;
  if (bytes[end + 1] !== LF) return malformedHeader('the line of the PROXY header does not end in CR LF');
  const line = bytes.toString('latin1', V1_START.length, end);
  const length = end + 2;
  // Anything after UNKNOWN is to be ignored.
  if (line === 'UNKNOWN' || line.startsWith('UNKNOWN ')) return { address: null, port: 0, length };
  const [family, source = '', destination = '', ...ports] = line.split(' ');
  const isAddress = family === 'TCP4' ? isIPv4 : family === 'TCP6' ? isUnscopedIPv6 : null;
  if (isAddress === null)
    return malformedHeader(`the PROXY header names the protocol ${quote(family ?? '')}; TCP4, TCP6 and UNKNOWN are taken`);
  if (!isAddress(source) || !isAddress(destination))
    return malformedHeader(`the PROXY header ${quote(line)} does not hold two ${family} addresses`);
  if (ports.length !== 2 || !ports.every(isPort)) return malformedHeader(`the PROXY header ${quote(line)} does not end in two ports`);
  return { address: canonicalIp(source) ?? source, port: Number(ports[0]), length };
}

/** §2.2. */
function readBinary(bytes: Buffer): ProxyHeader | Fault | null {
  const version = bytes[12];
  const family = bytes[13];
  if (version === undefined) return null;
  if (version >> 4 !== 2) return malformedHeader(`the PROXY header has version ${version >> 4}`);
  const command = version & 0x0f;
  if (command > 1) return malformedHeader(`the PROXY header has the command ${command}; LOCAL and PROXY are taken`);
  if (family === undefined) return null;
  // UNSPEC and everything under LOCAL is skipped unread: the peer is itself the client.
  const block =
    command === 0 || family === 0 ? null : family === TCP4_BLOCK.byte ? TCP4_BLOCK : family === TCP6_BLOCK.byte ? TCP6_BLOCK : undefined;
  if (block === undefined)
    return malformedHeader(
      `the PROXY header is for ${OTHER_FAMILIES.get(family) ?? `the unassigned family 0x${family.toString(16).padStart(2, '0')}`}, not for TCP`,
    );
  if (bytes.length < V2_FIXED) return null;
  const length = V2_FIXED + bytes.readUInt16BE(14);
  if (length > LONGEST_V2) return malformedHeader(`the PROXY header is ${length} bytes long, ${LONGEST_V2} are taken`);
  if (block !== null && length < V2_FIXED + block.size)
    return malformedHeader(`the PROXY header is ${length} bytes long, too short for its addresses`);
  if (bytes.length < length) return null;
  if (block === null) return { address: null, port: 0, length };
  if (!areTlvs(bytes.subarray(V2_FIXED + block.size, length))) return malformedHeader('the TLVs of the PROXY header do not fill it');
  const bytesOf = bytes.subarray(V2_FIXED, V2_FIXED + block.width);
  const source = block === TCP4_BLOCK ? bytesOf.join('.') : groups(bytesOf);
  const port = bytes.readUInt16BE(V2_FIXED + 2 * block.width);
  return { address: canonicalIp(source) ?? source, port, length };
}

/** §2.2.7: a type, a length of two bytes, a value; repeated up to the end. */
function areTlvs(bytes: Buffer): boolean {
  let at = 0;
  while (at + TLV_HEAD <= bytes.length) at += TLV_HEAD + bytes.readUInt16BE(at + 1);
  return at === bytes.length;
}

function groups(address: Buffer): string {
  return Array.from({ length: 8 }, (_, i) => address.readUInt16BE(i * 2).toString(16)).join(':');
}

/** A zone is meaningful on its own host only (RFC 4007 §11.2). */
function isUnscopedIPv6(text: string): boolean {
  return isIPv6(text) && !text.includes('%');
}

function isPort(text: string): boolean {
  return /^(?:0|[1-9][0-9]{0,4})$/.test(text) && Number(text) <= 65_535;
}

function malformedHeader(what: string): Fault {
  return new Fault('proxy-protocol-malformed', what, { remedy: REMEDY });
}

// Waits for the PROXY header of a connection that must have one, bounded in
// bytes and time, and returns the socket with every byte after the header still
// to be read. What follows may be HTTP or TLS.

interface ProxiedSocketOptions {
  /** Time limit for a complete header, ms. */
  readonly timeout: number;
  /** The header has been read: the socket is the caller's again, without listeners. */
  readonly onHeader: (header: ProxyHeader) => void;
  /** There will be no header: the caller answers and closes the socket. */
  readonly onFault: (fault: Fault) => void;
  /** The client has reset the connection: no header follows, and no answer can be sent. */
  readonly onReset: () => void;
}

/** A socket that never sent anything is not reported: see first-bytes.ts. */
export function receiveProxyHeader(socket: Socket, { timeout, onHeader, onFault, onReset }: ProxiedSocketOptions): void {
  let held: Buffer | null = null;
  receiveFirstBytes(socket, {
    timeout,
    onBytes(chunk) {
      const bytes = held === null ? chunk : Buffer.concat([held, chunk]);
      held = bytes;
      const header = readProxyHeader(bytes);
      if (header === null) return null;
      return () => {
        if (header instanceof Fault) {
          onFault(header);
          return;
        }
        if (bytes.length > header.length) socket.unshift(bytes.subarray(header.length));
        onHeader(header);
      };
    },
    onGiveUp(why) {
      if (why === 'reset') onReset();
      else
        onFault(
          why === 'late'
            ? new Fault('request-timeout', 'the PROXY header did not arrive in time')
            : new Fault('proxy-protocol-malformed', 'the connection ended in the middle of the PROXY header'),
        );
    },
  });
}

/** What node:http complains of on a client connection, in our own words: the mistake behind it, where one can be told. */
import type { Socket } from 'node:net';
import type { ListenerConfig } from '../config/config.ts';
import { Fault, type FaultCode } from '../errors.ts';
import { isProxyHeader } from './proxy-protocol.ts';
import { connectionPeer, proxyHeaderLength } from './trusted-peers.ts';
import { recognise } from './wrong-protocol.ts';

export type ParserError = NodeJS.ErrnoException & { reason?: string; rawPacket?: Buffer };

/** Faults of Node's parser that are about where the message ends, the ground of request smuggling. */
const FRAMING_ERRORS: ReadonlySet<string> = new Set([
  'HPE_INVALID_TRANSFER_ENCODING',
  'HPE_UNEXPECTED_CONTENT_LENGTH',
  'HPE_INVALID_CONTENT_LENGTH',
  'HPE_INVALID_CHUNK_SIZE',
  'HPE_CHUNK_EXTENSIONS_OVERFLOW',
  'HPE_STRICT',
]);

const NOTHING = Buffer.alloc(0);

/** @returns null where there is nobody to answer: gone, or never said anything, as a health check or a scan does */
export function parserFault(error: ParserError, socket: Socket, proxyProtocol: ListenerConfig['proxyProtocol']): Fault | null {
  const { code = '', rawPacket = NOTHING } = error;
  const spoken = socket.bytesRead - proxyHeaderLength(socket);
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return spoken === 0 ? null : new Fault('request-timeout', 'the request headers did not arrive in time', { cause: error });
  }
  if (code === 'HPE_HEADER_OVERFLOW') return new Fault('headers-too-large', 'the header section is larger than limits.headerBytes', { cause: error });
  if (code === 'HPE_INVALID_EOF_STATE' || !code.startsWith('HPE_')) return null;
  // Only what stands first on a connection can be another protocol.
  const mistake = spoken === rawPacket.length ? (recognise(rawPacket) ?? proxyHeaderMistake(rawPacket, socket, proxyProtocol)) : null;
  if (mistake !== null) return mistake;
  const kind: FaultCode = FRAMING_ERRORS.has(code) ? 'framing-forbidden' : 'request-malformed';
  return new Fault(kind, `${error.reason ?? error.message} (${code})`, { cause: error });
}

/** A PROXY header where none is taken; null where there is none. */
export function proxyHeaderMistake(bytes: Buffer, socket: Socket, proxyProtocol: ListenerConfig['proxyProtocol']): Fault | null {
  if (!isProxyHeader(bytes)) return null;
  if (proxyHeaderLength(socket) > 0) {
    return new Fault('proxy-protocol-malformed', 'a second PROXY header stands behind the first', { remedy: 'let only the load balancer next to this proxy write one' });
  }
  const { address } = connectionPeer(socket);
  return proxyProtocol === 'off'
    ? new Fault('peer-not-trusted', `${address} began with a PROXY header, which this listener does not take`, {
        remedy: "set the listener's proxyProtocol to from-trusted and list the peer in its trustedPeers, or stop the peer sending it",
      })
    : new Fault('peer-not-trusted', `${address} began with a PROXY header, and is not among the listener's trustedPeers`, {
        remedy: "list the peer in the listener's trustedPeers, or stop it sending the header",
      });
}

/**
 * The TLS alerts that we send without a TLS session of our own: the client's
 * handshake fails with a reason. docs/tls.md has the table.
 */
import type { Duplex } from 'node:stream';
import type { Fault } from '../errors.ts';
import { closeGently } from './refuse.ts';

/** RFC 8446 §5.1, §6: record type 21, the version every client of ours accepts, two bytes, fatal. */
const FATAL_ALERT = [21, 3, 3, 0, 2, 2] as const;

/** RFC 8446 §6, RFC 6066 §9. */
const ALERTS = {
  access_denied: 49,
  decode_error: 50,
  internal_error: 80,
  missing_extension: 109,
  unrecognized_name: 112,
} as const;

type Alert = keyof typeof ALERTS;

/** The alert that says so; null where there is none for it. */
export function alertFor(fault: Fault): Buffer | null {
  const name = nameFor(fault);
  return name === null ? null : Buffer.from([...FATAL_ALERT, ALERTS[name]]);
}

function nameFor({ code, kind }: Fault): Alert | null {
  switch (code) {
    case 'host-not-allowed':
    case 'sni-mismatch':
      return 'unrecognized_name';
    // RFC 8446 §9.2: what a server sends that needs a name and got none.
    case 'sni-missing':
      return 'missing_extension';
    case 'tls-hello-malformed':
      return 'decode_error';
    // Nothing the client could act on.
    case 'request-timeout':
      return null;
    // Cannot be shown in raw TLS, so this is no different from another denial.
    case 'credentials-missing':
    case 'credentials-wrong':
      return 'access_denied';
    default:
      return kind.blame === 'policy' ? 'access_denied' : 'internal_error';
  }
}

/** Answers a client that is in the middle of its TLS handshake, and closes its connection. */
export function refuseTls(socket: Duplex, fault: Fault): void {
  // The client may be gone by now; then there is nobody to tell.
  socket.on('error', () => {});
  const alert = alertFor(fault);
  if (alert === null) {
    socket.destroy();
    return;
  }
  socket.end(alert);
  closeGently(socket);
}

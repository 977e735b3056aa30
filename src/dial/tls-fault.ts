/** Turns what Node and OpenSSL say about a failed handshake into a Fault that says what to do. */
import { Fault } from '../errors.ts';
import type { UpstreamTlsConfig } from '../config/config.ts';
import { errorCode } from './lookup.ts';

/** OpenSSL's verify results under Node's names, and Node's own name check. */
const CERTIFICATE =
  /^(CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|ERROR_IN_CERT_|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_EXCEEDED|ERR_TLS_CERT_)/;
const UNKNOWN_ISSUER = /^(UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|CERT_UNTRUSTED)/;
/** What OpenSSL makes of bytes that are no TLS record. */
const NOT_TLS = /^ERR_SSL_(WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST|UNEXPECTED_MESSAGE|BAD_RECORD_TYPE)$/;
const WANTS_CERTIFICATE = /ALERT_(CERTIFICATE_REQUIRED|BAD_CERTIFICATE|UNKNOWN_CA|CERTIFICATE_UNKNOWN|CERTIFICATE_EXPIRED|UNSUPPORTED_CERTIFICATE|ACCESS_DENIED|HANDSHAKE_FAILURE)$/;

export interface TlsAttempt {
  /** `host:port` for the message. */
  readonly where: string;
  /** The name the certificate was checked for. */
  readonly name: string;
  readonly config: UpstreamTlsConfig;
  /** Where that is configured: `the destination's tls`. */
  readonly keys: string;
}

/**
 * Codes: `tls-certificate` when we refuse the upstream's certificate, `tls-failed` otherwise.
 *
 * @param error what the TLS socket emitted; in TLS 1.3 a server may refuse our
 *   certificate only after the handshake, with the first read
 */
export function tlsFault(error: Error, { where, name, config, keys }: TlsAttempt): Fault {
  const code = errorCode(error);
  const named = code || error.message;

  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return new Fault('tls-certificate', `${where}: the certificate is not for ${name} (${altNames(error)})`, {
      remedy: `Check that the right host is dialled; if its certificate bears another name, set ${keys}.serverName to it.`,
      cause: error,
    });
  }
  if (CERTIFICATE.test(code)) {
    return new Fault('tls-certificate', `${where}: ${certificateFinding(code, error)} (${code})`, {
      remedy: certificateRemedy(code, config, keys),
      cause: error,
    });
  }
  if (NOT_TLS.test(code)) {
    return new Fault('tls-failed', `${where}: what came back is not TLS (${named})`, {
      remedy: 'The upstream may speak plain HTTP on this port: use an http:// URL, or the port where it serves TLS.',
      cause: error,
    });
  }
  if (WANTS_CERTIFICATE.test(code)) {
    return new Fault('tls-failed', `${where}: the upstream refused the handshake (${named})`, {
      remedy:
        config.cert === null
          ? `If a client certificate is asked for, name it in ${keys}.certFile and ${keys}.keyFile.`
          : `Check that the client certificate in ${keys}.certFile is accepted there, and that it is still valid.`,
      cause: error,
    });
  }
  const cut = code === 'ECONNRESET' || code === 'EPIPE';
  return new Fault(
    'tls-failed',
    cut ? `${where}: the upstream closed the connection during the handshake` : `${where}: the handshake failed (${named})`,
    { remedy: 'Check that the upstream serves TLS 1.2 or later with HTTP/1.1 on this port.', cause: error },
  );
}

/** Ours where Node's words end in advice about starting Node. */
function certificateFinding(code: string, error: Error): string {
  if (UNKNOWN_ISSUER.test(code)) return 'the certificate is signed by an authority that is not trusted here';
  return error.message;
}

function certificateRemedy(code: string, config: UpstreamTlsConfig, keys: string): string {
  if (UNKNOWN_ISSUER.test(code)) {
    return config.ca === null
      ? `If it is of a private authority, put the root certificate of that into a PEM file and name it in ${keys}.caFile.`
      : `The file in ${keys}.caFile does not hold the authority of this certificate, and no other is trusted there: add its root.`;
  }
  if (code === 'CERT_HAS_EXPIRED') return 'The certificate has to be renewed there; if it is valid, check the clock here.';
  if (code === 'CERT_NOT_YET_VALID') return 'Check the clock here; the certificate is valid only from a later date.';
  return 'A certificate that is valid for a TLS server has to be installed there.';
}

function altNames(error: Error): string {
  return 'reason' in error && typeof error.reason === 'string' ? error.reason : error.message;
}

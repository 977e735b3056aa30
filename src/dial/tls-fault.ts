/** Turns Node's and OpenSSL's errors of a failed handshake into a Fault with a remedy. */
import type { X509Certificate } from 'node:crypto';
import { Fault, type FaultOptions } from '../errors.ts';
import type { UpstreamTlsConfig } from '../config/config.ts';
import { certificatesIn } from '../config/tls-context.ts';
import { errorCode } from './lookup.ts';

/** OpenSSL's verify results under Node's names (UNSPECIFIED: those that have none there), and Node's own name check. */
const CERTIFICATE_ERROR_CODE =
  /^(CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|ERROR_IN_CERT_|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_EXCEEDED|UNSPECIFIED$|ERR_TLS_CERT_)/;
const UNKNOWN_ISSUER = /^(UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|CERT_UNTRUSTED)/;
/** The chain ends at a certificate whose issuer was not sent and is not trusted here. */
const NO_ISSUER = /^UNABLE_TO_(VERIFY_LEAF_SIGNATURE|GET_ISSUER_CERT|GET_ISSUER_CERT_LOCALLY)$/;
/** OpenSSL's errors for bytes that are not a TLS record. */
const NOT_TLS = /^ERR_SSL_(WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST|UNEXPECTED_MESSAGE|BAD_RECORD_TYPE)$/;
const WANTS_CERTIFICATE =
  /ALERT_(CERTIFICATE_REQUIRED|BAD_CERTIFICATE|UNKNOWN_CA|CERTIFICATE_UNKNOWN|CERTIFICATE_EXPIRED|CERTIFICATE_REVOKED|UNSUPPORTED_CERTIFICATE|ACCESS_DENIED|HANDSHAKE_FAILURE)$/;

/** The handshake that failed, as messages describe it. */
export interface TlsAttempt {
  /** `host:port` for the message. */
  readonly where: string;
  /** The name the certificate was checked for. */
  readonly name: string;
  readonly config: UpstreamTlsConfig;
  /** Where that is configured: `the destination's tls`. */
  readonly keys: string;
  /** The upstream's own certificate, with the others that it sent; none of it has been verified. */
  readonly leaf?: X509Certificate | undefined;
  /** The upstream has sent nothing before its alert. */
  readonly atOnce?: boolean;
}

/**
 * Codes: `tls-certificate` when we refuse the upstream's certificate, `tls-failed` otherwise.
 *
 * @param error the error of the TLS socket; in TLS 1.3 a server may refuse our
 * certificate only after the handshake, with the first read
 */
export function tlsFault(error: Error, attempt: TlsAttempt): Fault {
  const { where, name, config, keys, leaf, atOnce = false } = attempt;
  const code = errorCode(error);
  const named = code || error.message;
  const fault = (kind: 'tls-certificate' | 'tls-failed', detail: string, remedy: string): Fault =>
    new Fault(kind, detail, { subject: where, remedy, cause: error, ...alertOf(error) });

  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return fault('tls-certificate', `the certificate is not for ${name} (${altNames(error)})`, otherName(keys));
  if (CERTIFICATE_ERROR_CODE.test(code)) {
    const [finding, remedy] = (leaf === undefined ? null : explainChain(code, leaf, attempt)) ?? [
      certificateFinding(code, error),
      certificateRemedy(code, config, keys),
    ];
    return fault('tls-certificate', `${finding} (${code})`, remedy);
  }
  if (NOT_TLS.test(code))
    return fault(
      'tls-failed',
      `what came back is not TLS (${named})`,
      'The upstream may speak plain HTTP on this port: use an http:// URL, or the port where it serves TLS.',
    );
  if (code.endsWith('_UNRECOGNIZED_NAME')) return fault('tls-failed', `the upstream does not serve ${name} (${named})`, otherName(keys));
  // Before its own certificate it asks for none, and has seen no more than what we offer.
  if (atOnce && code.endsWith('_HANDSHAKE_FAILURE'))
    return fault(
      'tls-failed',
      `the upstream accepts nothing that is offered (${named})`,
      `Check there which cipher suites, curves and kinds of certificates it has for ${name}; some servers answer so for a name that they do not serve.`,
    );
  if (WANTS_CERTIFICATE.test(code)) {
    const remedy =
      config.cert === null
        ? `If a client certificate is asked for, name it in ${keys}.certFile and ${keys}.keyFile.`
        : `Check that the client certificate in ${keys}.certFile is accepted there, and that it is still valid.`;
    return fault('tls-failed', `the upstream refused the handshake (${named})`, remedy);
  }
  if (code === 'ECONNRESET' || code === 'EPIPE') return new HandshakeCut(where, error);
  return fault('tls-failed', `the handshake failed (${named})`, WHAT_TLS);
}

/** The same for an error after the handshake: in TLS 1.3 the upstream checks our certificate only when its own side is done (RFC 8446 §4.4.2.4). */
export function lateTlsFault(error: Error, attempt: TlsAttempt): Fault {
  const code = errorCode(error);
  if (WANTS_CERTIFICATE.test(code)) return tlsFault(error, attempt);
  return new Fault('tls-failed', `the upstream ended TLS (${code || error.message})`, {
    subject: attempt.where,
    remedy: `Ask the operator of ${attempt.where} why, with the time of this request.`,
    cause: error,
    ...alertOf(error),
  });
}

const otherName = (keys: string): string =>
  `Check that the right host is dialled; if its certificate has another name, set ${keys}.serverName to it.`;
const WHAT_TLS = 'Check that the upstream serves TLS 1.2 or later with HTTP/1.1 on this port.';

/** The connection was closed or reset before the handshake was done: nothing was sent, and the upstream has not given a reason. */
export class HandshakeCut extends Fault {
  constructor(where: string, cause?: Error) {
    super('tls-failed', 'the upstream closed the connection during the handshake', { subject: where, remedy: WHAT_TLS, cause });
  }
}

/** What is said of the upstream's certificate where not it has expired, but what is trusted here. */
export const EXPIRED_AUTHORITY = 'the authority that is trusted here has expired';

/** Alerts that end a handshake (RFC 8446 §6), by the names that OpenSSL's codes end in. */
const ALERT_ERROR_CODE = /^ERR_SSL_(?:TLSV1|TLSV13|SSL\/TLS|SSLV3)_(?:ALERT_)?([A-Z0-9_]+)$/;
const ALERT_NUMBERS: Readonly<Record<string, number>> = {
  UNEXPECTED_MESSAGE: 10,
  BAD_RECORD_MAC: 20,
  RECORD_OVERFLOW: 22,
  HANDSHAKE_FAILURE: 40,
  BAD_CERTIFICATE: 42,
  UNSUPPORTED_CERTIFICATE: 43,
  CERTIFICATE_REVOKED: 44,
  CERTIFICATE_EXPIRED: 45,
  CERTIFICATE_UNKNOWN: 46,
  ILLEGAL_PARAMETER: 47,
  UNKNOWN_CA: 48,
  ACCESS_DENIED: 49,
  DECODE_ERROR: 50,
  DECRYPT_ERROR: 51,
  PROTOCOL_VERSION: 70,
  INSUFFICIENT_SECURITY: 71,
  INTERNAL_ERROR: 80,
  INAPPROPRIATE_FALLBACK: 86,
  USER_CANCELLED: 90,
  MISSING_EXTENSION: 109,
  UNSUPPORTED_EXTENSION: 110,
  UNRECOGNIZED_NAME: 112,
  BAD_CERTIFICATE_STATUS_RESPONSE: 113,
  UNKNOWN_PSK_IDENTITY: 115,
  CERTIFICATE_REQUIRED: 116,
  NO_APPLICATION_PROTOCOL: 120,
};

/** The alert that the upstream sent, for a Fault; empty: it sent none. */
function alertOf(error: Error): Pick<FaultOptions, 'facts'> {
  const name = ALERT_ERROR_CODE.exec(errorCode(error))?.[1] ?? '';
  const id = ALERT_NUMBERS[name];
  return id === undefined ? {} : { facts: { alert: { id, message: name.toLowerCase() } } };
}

/** A certificate may have no subject (RFC 5280 §4.1.2.6), or of an odd authority no issuer. */
const inOneLine = (name: string): string => name.replaceAll('\n', ', ') || '(no name)';

type ChainFinding = readonly [finding: string, remedy: string];
const hasNotExpired = ({ validToDate }: X509Certificate): boolean => Date.now() < validToDate.getTime();

/** What the chain that was sent says besides; null: nothing. */
function explainChain(code: string, leaf: X509Certificate, attempt: TlsAttempt): ChainFinding | null {
  if (NO_ISSUER.test(code)) return missingIssuer(leaf, attempt);
  if (code === 'CERT_SIGNATURE_FAILURE') return otherKey(leaf, attempt);
  return code === 'CERT_HAS_EXPIRED' && hasNotExpired(leaf) ? expiredIssuer(leaf, attempt) : null;
}

/**
 * The missing certificate is unknown, so there are two explanations: it is an
 * intermediate that the server should send, or an authority that should be
 * trusted here.
 */
function missingIssuer(leaf: X509Certificate, { config, keys }: TlsAttempt): ChainFinding {
  let last = leaf;
  for (let next = last.issuerCertificate; next !== undefined; next = next.issuerCertificate) if (last.checkIssued(next)) last = next;
  const issuer = inOneLine(last.issuer);
  const sent = leaf.issuerCertificate === undefined ? 'its own certificate alone' : 'an incomplete chain';
  const add =
    config.ca === null
      ? `Otherwise put that certificate into a PEM file and name it in ${keys}.caFile.`
      : `Or add that certificate to the file in ${keys}.caFile; an intermediate is accepted there.`;
  return [
    `the upstream sent ${sent}, signed by ${issuer}, whose certificate is not sent, and not trusted here`,
    `If ${issuer} is an intermediate authority, the upstream omits it and has to send its whole chain (RFC 8446 §4.4.2). ${add}`,
  ];
}

/** The certificate of an authority that was made anew, with the same name: without key identifiers, OpenSSL takes it for the one that has signed. Null: it is not one that is trusted here. */
function otherKey(leaf: X509Certificate, { config, keys }: TlsAttempt): ChainFinding | null {
  const trusted = certificatesIn(config.ca);
  for (let sent: X509Certificate | undefined = leaf; sent !== undefined; sent = sent.issuerCertificate) {
    const certificate = sent;
    const namesakes = trusted.filter((authority) => certificate.checkIssued(authority));
    if (namesakes.every((authority) => certificate.verify(authority.publicKey))) continue;
    return [
      `the certificate of ${inOneLine(sent.subject)} is signed by ${inOneLine(sent.issuer)}, but with another key than that of this name in ${keys}.caFile, so it is not trusted here`,
      `If the authority has a new key, put its current certificate into ${keys}.caFile, and take the former one out.`,
    ];
  }
  return null;
}

/** The upstream's own certificate has not expired: another one of its chain has, or the authority itself. */
function expiredIssuer(leaf: X509Certificate, { config, keys }: TlsAttempt): ChainFinding {
  let sent: X509Certificate | undefined = leaf;
  while (sent !== undefined && hasNotExpired(sent)) sent = sent.issuerCertificate;
  if (sent === undefined || config.ca?.includes(sent.toString()) === true)
    return [EXPIRED_AUTHORITY, `Put the renewed certificate of the authority into ${keys}.caFile; if there is none, check the clock here.`];
  return [
    `the certificate of ${inOneLine(sent.subject)}, which the upstream sends with its own, has expired`,
    "It has to be replaced there; the upstream's own certificate is valid. If both are, check the clock here.",
  ];
}

/** Our words where Node's end in advice about starting Node. */
function certificateFinding(code: string, error: Error): string {
  if (UNKNOWN_ISSUER.test(code)) return 'the certificate is signed by an authority that is not trusted here';
  return error.message;
}

function certificateRemedy(code: string, config: UpstreamTlsConfig, keys: string): string {
  if (UNKNOWN_ISSUER.test(code)) {
    return config.ca === null
      ? `If it is of a private authority, put the certificate of that authority into a PEM file and name it in ${keys}.caFile.`
      : `The file in ${keys}.caFile does not hold the authority of this certificate, and no other is trusted there: add its certificate.`;
  }
  if (code === 'CERT_HAS_EXPIRED') return 'The certificate has to be renewed there; if it is valid, check the clock here.';
  if (code === 'CERT_NOT_YET_VALID') return 'Check the clock here; the certificate is valid only from a later date.';
  return 'A certificate that is valid for a TLS server has to be installed there.';
}

function altNames(error: Error): string {
  return 'reason' in error && typeof error.reason === 'string' ? error.reason : error.message;
}

/** Reads the certificates that a server sends, without verification: only to report what is wrong with them, never to carry data. */
import { isIP } from 'node:net';
import type { Socket } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import type { DetailedPeerCertificate } from 'node:tls';
import { Fault } from '../errors.ts';
import { formatAuthority } from '../targets/host.ts';
import { TimeLimit } from '../time-limit.ts';

/** A certificate that a server sent; not verified. */
export interface PartnerCertificate {
  readonly subject: string;
  readonly issuer: string;
  /** Ms since the epoch; NaN: what is written there is not a time. */
  readonly validFrom: number;
  readonly validTo: number;
  /** SHA-256, hexadecimal with colons. */
  readonly fingerprint: string;
  /** `DNS:a.example, IP Address:192.0.2.1`; '' for none. */
  readonly names: string;
}

/** A connection on which to read certificates. */
export interface ChainRequest {
  /** Connected. Destroyed by the time the result is there. */
  readonly socket: Socket;
  readonly host: string;
  readonly port: number;
  /** Time limit of the handshake, ms. */
  readonly timeout: number;
}

/** Longer chains exist by mistake only. */
const MOST_CERTIFICATES = 10;

/**
 * The server's own certificate first, then its issuers as far as the server
 * sent them. The handshake verifies nothing, and the connection ends with it.
 *
 * @throws {Fault} `tls-failed` or `tls-timeout`: the handshake failed
 */
export function readPeerChain({ socket, host, port, timeout }: ChainRequest): Promise<readonly PartnerCertificate[]> {
  return new Promise((resolve, reject) => {
    const where = formatAuthority(host, port);
    const tls = tlsConnect({ socket, servername: isIP(host) === 0 ? host : '', ALPNProtocols: ['http/1.1'], rejectUnauthorized: false });
    const end = (): void => {
      limit.clear();
      tls.destroy();
    };
    const limit = new TimeLimit(timeout, () => {
      end();
      reject(new Fault('tls-timeout', `the TLS handshake did not end in ${timeout} ms`, { subject: where }));
    });
    const fail = (error?: Error): void => {
      end();
      reject(
        new Fault('tls-failed', `no TLS handshake${error === undefined ? '' : ` (${error.message})`}`, { subject: where, cause: error }),
      );
    };
    tls.on('error', fail);
    tls.on('close', () => {
      fail();
    });
    tls.once('secureConnect', () => {
      const chain = listChain(tls.getPeerCertificate(true));
      end();
      resolve(chain);
    });
  });
}

function listChain(leaf: DetailedPeerCertificate): PartnerCertificate[] {
  const chain: PartnerCertificate[] = [];
  // Node returns an empty object if there is no certificate.
  let next = Object.keys(leaf).length === 0 ? undefined : leaf;
  while (next !== undefined && chain.length < MOST_CERTIFICATES) {
    const { subject, issuer, valid_from: from, valid_to: to, fingerprint256, subjectaltname = '' } = next;
    // A self-signed certificate is its own issuer.
    if (chain.some(({ fingerprint }) => fingerprint === fingerprint256)) break;
    chain.push({
      subject: commonNameOf(subject),
      issuer: commonNameOf(issuer),
      validFrom: Date.parse(from),
      validTo: Date.parse(to),
      fingerprint: fingerprint256,
      names: subjectaltname,
    });
    next = issuerOf(next);
  }
  return chain;
}

/** Absent where the server did not send it, in spite of Node's types. */
function issuerOf({ issuerCertificate }: DetailedPeerCertificate): DetailedPeerCertificate | undefined {
  return issuerCertificate;
}

/** The common name, or the subject in another form. */
function commonNameOf(name: DetailedPeerCertificate['subject']): string {
  const parts = Object.entries(name as unknown as Record<string, string | string[] | undefined>);
  const [kind, value] = parts.find(([key]) => key === 'CN') ?? parts.at(-1) ?? ['', ''];
  return `${kind}=${Array.isArray(value) ? value.join('+') : (value ?? '')}`;
}

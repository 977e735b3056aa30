/** Reads the files of TLS towards clients, and makes sure now that a handshake can use them. */
import type { X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import type { TlsServerConfig } from './config.ts';
import type { Draft } from './draft.ts';
import { quote, type Path } from './finding.ts';
import { checkKey, parseCertificates, readPem, type TlsReading } from './tls-files.ts';

/** Null where none is configured, and where there was something to complain of. */
export function readTlsServer(keys: Draft['tlsServer'], path: Path, reading: TlsReading): TlsServerConfig | null {
  const { complain, warn } = reading;
  const { names = [], certFile, keyFile, clientCaFile, clientCertificate = 'none' } = keys;
  const cert = readPem(certFile, [...path, 'certFile'], reading);
  const key = readPem(keyFile, [...path, 'keyFile'], reading);
  const clientCa = readPem(clientCaFile, [...path, 'clientCaFile'], reading);

  if (clientCa !== null) parseCertificates(clientCa, [...path, 'clientCaFile'], reading);
  if (clientCa !== null && clientCertificate === 'none') {
    warn([...path, 'clientCaFile'], 'No client is asked for a certificate, so the authorities are of no use.', 'Add clientCertificate: request or require, or take clientCaFile out.');
  }
  const leaf = cert === null ? null : parseCertificates(cert, [...path, 'certFile'], reading);
  if (leaf !== null) warnAboutNames(names, leaf, [...path, 'names'], reading);
  const fits = key !== null && checkKey(key, leaf, [...path, 'keyFile'], complain);
  if (cert === null || leaf === null || !fits) return null;
  try {
    createSecureContext({ cert, key });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    complain([...path, 'certFile'], `TLS cannot use the certificate: ${reason}.`, 'Issue another one; RSA needs a key of 2048 bits at least.');
  }
  return { names: names.filter((name) => name !== undefined), cert, key, clientCa, clientCertificate };
}

function warnAboutNames(names: readonly (string | undefined)[], leaf: X509Certificate, path: Path, { warn }: TlsReading): void {
  names.forEach((name, index) => {
    if (name === undefined || leaf.checkHost(name) !== undefined) return;
    warn([...path, index], `The certificate in certFile is not for ${quote(name)}: clients will refuse it.`, 'Put the name into the certificate (subjectAltName), or take it out here.');
  });
}

/** Reads the files of TLS towards clients, and makes sure now that a handshake can use them. */
import type { X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { authorityNameOf, readRevocationLists } from '../identity/revocation.ts';
import type { TlsServerConfig } from './config.ts';
import type { Draft } from './draft.ts';
import { quote, type Path } from './finding.ts';
import { readCertificates } from './pem.ts';
import { tryServer } from './tls-context.ts';
import { readAuthorities, readOwnCertificate, readPem, type TlsReading, tryTls } from './tls-files.ts';

/** Null where none is configured, and where there was something to complain of. */
export function readTlsServer(keys: Draft['tlsServer'], path: Path, reading: TlsReading): TlsServerConfig | null {
  const { complain, warn } = reading;
  const { names = [], certFile, keyFile, clientCaFile, crlFile, clientCertificate = 'none' } = keys;
  const clientCa = readAuthorities(clientCaFile, [...path, 'clientCaFile'], reading);
  const crl = readPem(crlFile, [...path, 'crlFile'], reading);
  if (clientCa !== null && clientCertificate === 'none') {
    warn('no-effect', [...path, 'clientCaFile'], 'No client is asked for a certificate, so the authorities are not used.', 'Add clientCertificate: request or require, or remove clientCaFile.');
  }
  const listsFit = crl === null || checkLists(crl, clientCa, [...path, 'crlFile'], reading);
  const own = readOwnCertificate(certFile, keyFile, 'server', path, reading);
  if (own === null || !listsFit) return null;
  warnAboutNames(names, own.leaf, [...path, 'names'], reading);
  const config = { names: names.filter((name) => name !== undefined), cert: own.cert, key: own.key, clientCa, crl, clientCertificate };
  tryTls(() => { tryServer(config); }, [...path, 'certFile'], complain);
  return config;
}

function warnAboutNames(names: readonly (string | undefined)[], leaf: X509Certificate, path: Path, { warn }: TlsReading): void {
  names.forEach((name, index) => {
    if (name === undefined || leaf.checkHost(name) !== undefined) return;
    warn('files', [...path, index], `The certificate in certFile is not for ${quote(name)}: clients will refuse it.`, 'Put the name into the certificate (subjectAltName), or remove it here.');
  });
}

/**
 * OpenSSL refuses each certificate of an authority that has no list, or one that is out of date: rather say so now.
 * @returns whether there was nothing to complain of
 */
function checkLists(crl: string, clientCa: string | null, path: Path, { complain, warn, now }: TlsReading): boolean {
  const lists = readRevocationLists(crl);
  if (lists.length === 0) {
    complain(path, 'The file holds no list of revoked certificates.', 'It needs a "-----BEGIN X509 CRL-----" block; convert DER with: openssl crl -inform der.');
    return false;
  }
  try {
    createSecureContext({ crl });
  } catch (error) {
    complain(path, `TLS cannot use the lists: ${messageOf(error)}.`, 'Export the file again.');
    return false;
  }
  let fit = true;
  lists.forEach((list, index) => {
    if (list === null) {
      fit = false;
      complain(path, `List ${index + 1} of ${lists.length} in the file is damaged.`, 'Export the file again.');
    } else if (list.until !== null && list.until < now) {
      warn('expired', path, `List ${index + 1} of ${lists.length} in the file was to be replaced by ${new Date(list.until).toISOString().slice(0, 10)}: every certificate of its authority is refused.`, 'Fetch the present list from the authority.');
    }
  });
  // What is wrong with these has been complained of where they were read.
  const authorities = clientCa === null ? [] : (readCertificates(clientCa, path, () => {})?.all ?? []);
  for (const authority of authorities) {
    if (lists.some((list) => list?.issuer === authorityNameOf(authority))) continue;
    fit = false;
    complain(path, `The file has no list of the authority ${quote(authority.subject.replaceAll('\n', ', '))}: every certificate of it would be refused.`, 'Put one list for each authority of clientCaFile into the file.');
  }
  return fit;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

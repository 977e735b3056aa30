/** Reads certificate files and makes sure now that TLS will take them later. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import type { UpstreamTlsConfig } from './config.ts';
import { quote, type Complain, type Path } from './finding.ts';
import { type FileReading, type NamedFile, readNamedFile, readSecretFile } from './read-named-file.ts';

export interface TlsKeys {
  readonly caFile?: string | undefined;
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
  readonly serverName?: string | undefined;
}

export interface TlsReading extends FileReading {
  /** For expiry; ms since the epoch. */
  readonly now: number;
}

export function readTlsFiles(keys: TlsKeys, path: Path, reading: TlsReading): UpstreamTlsConfig {
  const { complain } = reading;
  const ca = readPem(keys.caFile, [...path, 'caFile'], reading);
  const cert = readPem(keys.certFile, [...path, 'certFile'], reading);
  const key = readKey(keys.keyFile, [...path, 'keyFile'], reading);

  if (ca !== null) parseCertificates(ca, [...path, 'caFile'], reading);
  const leaf = cert === null ? null : parseCertificates(cert, [...path, 'certFile'], reading);
  if (keys.certFile !== undefined && keys.keyFile === undefined) {
    complain([...path, 'certFile'], 'A client certificate is of no use without its key.', 'Add keyFile, or take certFile out.');
  }
  if (keys.keyFile !== undefined && keys.certFile === undefined) {
    complain([...path, 'keyFile'], 'A key is of no use without its client certificate.', 'Add certFile, or take keyFile out.');
  }
  if (key !== null) checkKey(key, leaf, [...path, 'keyFile'], complain);
  return { ca, cert, key, serverName: keys.serverName ?? null };
}

/** Null without a file, or after a complaint. */
export function readPem(file: string | undefined, path: Path, reading: FileReading): string | null {
  return pemIn(file === undefined ? null : readNamedFile(file, path, reading), path, reading);
}

/** The same for a private key. */
export function readKey(file: string | undefined, path: Path, reading: FileReading): string | null {
  return pemIn(file === undefined ? null : readSecretFile(file, path, reading), path, reading);
}

function pemIn(found: NamedFile | null, path: Path, reading: FileReading): string | null {
  if (found === null || found.text.includes('-----BEGIN ')) return found?.text ?? null;
  reading.complain(path, `${found.name} is not a PEM file.`, 'PEM is text with "-----BEGIN …-----" lines; convert DER with: openssl x509 -inform der.');
  return null;
}

/** Each block of a PEM text. */
export const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

/** Returns the first certificate, or null after a complaint. */
export function parseCertificates(pem: string, path: Path, { complain, warn, now }: TlsReading): X509Certificate | null {
  const blocks = pem.match(CERTIFICATE) ?? [];
  if (blocks.length === 0) {
    complain(path, 'The file holds no certificate.', 'It needs a "-----BEGIN CERTIFICATE-----" block, and its END line.');
    return null;
  }
  if (pem.split('-----BEGIN CERTIFICATE-----').length - 1 !== blocks.length) {
    complain(path, 'A certificate in the file has no end.', 'Export the file again: it seems cut off.');
    return null;
  }
  const certificates: X509Certificate[] = [];
  blocks.forEach((block, index) => {
    try {
      certificates.push(new X509Certificate(block));
    } catch (error) {
      complain(path, `Certificate ${index + 1} of ${blocks.length} in the file is damaged: ${message(error)}.`, 'Export the file again.');
    }
  });
  for (const certificate of certificates) {
    if (certificate.validToDate.getTime() < now) {
      warn(path, `The certificate of ${quote(certificate.subject.replaceAll('\n', ', '))} expired on ${certificate.validToDate.toISOString().slice(0, 10)}.`, 'Renew it: peers will refuse it.');
    }
  }
  return certificates.length === blocks.length ? (certificates[0] ?? null) : null;
}

/** PKCS#8 and the older OpenSSL form; OpenSSL's own error for them says nothing useful. */
const LOCKED = /-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED/m;

/** @returns whether there was nothing to complain of */
export function checkKey(pem: string, leaf: X509Certificate | null, path: Path, complain: Complain): boolean {
  if (LOCKED.test(pem)) {
    complain(path, 'The key is encrypted with a passphrase.', 'Store it decrypted, readable by this process only: openssl pkey -in key.pem -out plain.pem.');
    return false;
  }
  try {
    const key = createPrivateKey(pem);
    if (leaf === null || leaf.checkPrivateKey(key)) return true;
    complain(path, 'The key does not belong to the certificate in certFile.', 'Put the key here that the certificate was issued for; the first certificate of certFile must be our own.');
  } catch (error) {
    complain(path, `The file holds no private key: ${message(error)}.`, 'It needs a "-----BEGIN PRIVATE KEY-----" block.');
  }
  return false;
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

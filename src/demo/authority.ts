/**
 * A certificate authority made on the spot, for the demo and the tests; its
 * key never leaves memory. Strict verifiers (OpenSSL 3, Java, Python's
 * VERIFY_X509_STRICT) accept what it issues.
 */
// @peculiar/x509 builds on tsyringe, which needs this polyfill loaded before it.
import 'reflect-metadata';
import { randomBytes, webcrypto } from 'node:crypto';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';

export interface IssueOptions {
  /** DNS names, `*.` wildcards included. */
  readonly names: readonly string[];
  /** IP literals without brackets. */
  readonly addresses?: readonly string[];
  /** Such as `spiffe://cluster.local/ns/dynatrace-sit/sa/default`. */
  readonly uris?: readonly string[];
  /** Default: an hour ago. */
  readonly notBefore?: Date;
  /** Default: in a year. */
  readonly notAfter?: Date;
  /** For a client to show, instead of a server. */
  readonly clientAuth?: boolean;
}

export interface IssuedCertificate {
  readonly certPem: string;
  /** PKCS#8, not encrypted. */
  readonly keyPem: string;
}

export interface Authority {
  /** Its own certificate; of a root, what the other side has to trust. */
  readonly certPem: string;
  issue(options: IssueOptions): Promise<IssuedCertificate>;
  /** An intermediate authority that this one vouches for. */
  issueAuthority(commonName: string): Promise<Authority>;
}

const KEY_ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256' } as const;
const SIGNING_ALGORITHM = { name: 'ECDSA', hash: 'SHA-256' } as const;
const HOUR = 3_600_000;
const YEAR = 365 * 24 * HOUR;

/** A fresh root. Rejects only if the system has no randomness or no P-256. */
export async function createAuthority(commonName = 'eco-egress test authority'): Promise<Authority> {
  const keys = await generateKeys();
  return authorityOf(await signAuthority(commonName, keys, null), keys);
}

interface Signer {
  readonly name: string;
  readonly keys: webcrypto.CryptoKeyPair;
}

/** @param signer null: itself */
async function signAuthority(commonName: string, keys: webcrypto.CryptoKeyPair, signer: Signer | null): Promise<X509Certificate> {
  return X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: [{ CN: [commonName] }],
    issuer: signer?.name ?? [{ CN: [commonName] }],
    notBefore: new Date(Date.now() - HOUR),
    notAfter: new Date(Date.now() + 10 * YEAR),
    signingAlgorithm: SIGNING_ALGORITHM,
    publicKey: keys.publicKey,
    signingKey: (signer?.keys ?? keys).privateKey,
    extensions: [
      new BasicConstraintsExtension(true, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
      ...(signer === null ? [] : [await AuthorityKeyIdentifierExtension.create(signer.keys.publicKey)]),
    ],
  });
}

function authorityOf(root: X509Certificate, keys: webcrypto.CryptoKeyPair): Authority {
  return {
    certPem: `${root.toString('pem')}\n`,
    issueAuthority: async (commonName) => {
      const ownKeys = await generateKeys();
      return authorityOf(await signAuthority(commonName, ownKeys, { name: root.subject, keys }), ownKeys);
    },
    issue: async (options) => {
      const leafKeys = await generateKeys();
      const names = [
        ...options.names.map((value) => ({ type: 'dns' as const, value })),
        ...(options.addresses ?? []).map((value) => ({ type: 'ip' as const, value })),
        ...(options.uris ?? []).map((value) => ({ type: 'url' as const, value })),
      ];
      const leaf = await X509CertificateGenerator.create({
        serialNumber: serialNumber(),
        // X.520 bounds a common name to 64 characters; verifiers read the subjectAltName.
        subject: [{ CN: [(names[0]?.value ?? 'nameless').slice(0, 64)] }],
        issuer: root.subjectName,
        notBefore: options.notBefore ?? new Date(Date.now() - HOUR),
        notAfter: options.notAfter ?? new Date(Date.now() + YEAR),
        signingAlgorithm: SIGNING_ALGORITHM,
        publicKey: leafKeys.publicKey,
        signingKey: keys.privateKey,
        extensions: [
          new BasicConstraintsExtension(false, undefined, true),
          new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
          new ExtendedKeyUsageExtension([
            options.clientAuth === true ? ExtendedKeyUsage.clientAuth : ExtendedKeyUsage.serverAuth,
          ]),
          // RFC 5280 §4.2.1.6: a subjectAltName holds at least one name.
          ...(names.length > 0 ? [new SubjectAlternativeNameExtension(names)] : []),
          await SubjectKeyIdentifierExtension.create(leafKeys.publicKey),
          await AuthorityKeyIdentifierExtension.create(keys.publicKey),
        ],
      });
      const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', leafKeys.privateKey);
      return { certPem: `${leaf.toString('pem')}\n`, keyPem: `${PemConverter.encode(pkcs8, 'PRIVATE KEY')}\n` };
    },
  };
}

function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(KEY_ALGORITHM, true, ['sign', 'verify']);
}

/** RFC 5280 §4.1.2.2: positive, at most 20 octets; the top bits 01 keep it both positive and minimal. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes.writeUInt8((bytes.readUInt8(0) & 0x3f) | 0x40, 0);
  return bytes.toString('hex');
}

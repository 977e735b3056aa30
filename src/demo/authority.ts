/**
 * A certificate authority made on the spot, for the demo and the tests; its
 * key never leaves memory. Strict verifiers (OpenSSL 3, Java, Python's
 * VERIFY_X509_STRICT) accept what it issues.
 */
import { createHash, generateKeyPair, type KeyObject, randomBytes, sign as signBytes } from 'node:crypto';
import { promisify } from 'node:util';
import ipaddr from 'ipaddr.js';
import { bits, explicit, implicit, integer, octets, oid, sequence, set, time, TRUE, utf8 } from './der.ts';

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

const HOUR = 3_600_000;
const YEAR = 365 * 24 * HOUR;
/** X.520 bounds a common name; verifiers read the subjectAltName. */
const LONGEST_NAME = 64;

const newKeys = promisify(generateKeyPair);

interface KeyPair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

interface Signer extends KeyPair {
  readonly name: string;
}

interface Content {
  readonly subject: string;
  readonly publicKey: KeyObject;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly extensions: readonly Buffer[];
}

/** A fresh root. Rejects only if the system has no randomness or no P-256. */
export async function createAuthority(commonName = 'eco-egress test authority'): Promise<Authority> {
  return newAuthority(commonName, null);
}

/** @param parent null: itself */
async function newAuthority(name: string, parent: Signer | null): Promise<Authority> {
  const own: Signer = { name: name.slice(0, LONGEST_NAME), ...(await newKeys('ec', { namedCurve: 'P-256' })) };
  const certPem = sign(parent ?? own, {
    subject: own.name,
    publicKey: own.publicKey,
    notBefore: new Date(Date.now() - HOUR),
    notAfter: new Date(Date.now() + 10 * YEAR),
    extensions: [
      extension('2.5.29.19', CRITICAL, sequence(TRUE)),
      // keyCertSign and cRLSign, the bits 5 and 6 (RFC 5280 §4.2.1.3).
      extension('2.5.29.15', CRITICAL, bits(Buffer.of(0b0000_0110), 1)),
      ...keyIdentifiers(own.publicKey, parent?.publicKey ?? null),
    ],
  });
  return {
    certPem,
    issueAuthority: (commonName) => newAuthority(commonName, own),
    issue: (options) => issueLeaf(own, options),
  };
}

async function issueLeaf(signer: Signer, { names, addresses = [], uris = [], notBefore, notAfter, clientAuth = false }: IssueOptions): Promise<IssuedCertificate> {
  const { publicKey, privateKey } = await newKeys('ec', { namedCurve: 'P-256' });
  const alternatives = [
    ...names.map((name) => implicit(2, Buffer.from(name))),
    ...addresses.map((address) => implicit(7, Buffer.from(ipaddr.parse(address).toByteArray()))),
    ...uris.map((uri) => implicit(6, Buffer.from(uri))),
  ];
  const certPem = sign(signer, {
    subject: (names[0] ?? addresses[0] ?? uris[0] ?? 'nameless').slice(0, LONGEST_NAME),
    publicKey,
    notBefore: notBefore ?? new Date(Date.now() - HOUR),
    notAfter: notAfter ?? new Date(Date.now() + YEAR),
    extensions: [
      extension('2.5.29.19', CRITICAL, sequence()),
      // digitalSignature, the bit 0.
      extension('2.5.29.15', CRITICAL, bits(Buffer.of(0b1000_0000), 7)),
      extension('2.5.29.37', PLAIN, sequence(oid(clientAuth ? '1.3.6.1.5.5.7.3.2' : '1.3.6.1.5.5.7.3.1'))),
      // RFC 5280 §4.2.1.6: a subjectAltName holds at least one name.
      ...(alternatives.length > 0 ? [extension('2.5.29.17', PLAIN, sequence(...alternatives))] : []),
      ...keyIdentifiers(publicKey, signer.publicKey),
    ],
  });
  return { certPem, keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }) };
}

const ECDSA_WITH_SHA256 = sequence(oid('1.2.840.10045.4.3.2'));

/** RFC 5280 §4.1. @returns PEM */
function sign(signer: Signer, { subject, publicKey, notBefore, notAfter, extensions }: Content): string {
  const content = sequence(
    explicit(0, integer(Buffer.of(2))),
    integer(serialNumber()),
    ECDSA_WITH_SHA256,
    named(signer.name),
    sequence(time(notBefore), time(notAfter)),
    named(subject),
    publicKey.export({ type: 'spki', format: 'der' }),
    explicit(3, sequence(...extensions)),
  );
  const certificate = sequence(content, ECDSA_WITH_SHA256, bits(signBytes('sha256', content, signer.privateKey)));
  return `-----BEGIN CERTIFICATE-----\n${certificate.toString('base64').replaceAll(/.{64}(?=.)/g, '$&\n')}\n-----END CERTIFICATE-----\n`;
}

const named = (commonName: string): Buffer => sequence(set(sequence(oid('2.5.4.3'), utf8(commonName))));

const CRITICAL = [TRUE] as const;
const PLAIN = [] as const;

function extension(id: string, critical: typeof CRITICAL | typeof PLAIN, value: Buffer): Buffer {
  return sequence(oid(id), ...critical, octets(value));
}

/** @param signer null: the key is its own */
function keyIdentifiers(key: KeyObject, signer: KeyObject | null): Buffer[] {
  return [extension('2.5.29.14', PLAIN, octets(keyIdentifier(key))), ...(signer === null ? [] : [extension('2.5.29.35', PLAIN, sequence(implicit(0, keyIdentifier(signer))))])];
}

/** RFC 5280 §4.2.1.2: the SHA-1 of the key, which for P-256 is a point of 65 bytes at the end. Not for security. */
function keyIdentifier(key: KeyObject): Buffer {
  return createHash('sha1').update(key.export({ type: 'spki', format: 'der' }).subarray(-65)).digest();
}

/** RFC 5280 §4.1.2.2: positive, at most 20 octets; the top bits 01 keep it both positive and minimal. */
function serialNumber(): Buffer {
  const bytes = randomBytes(16);
  bytes.writeUInt8((bytes.readUInt8(0) & 0x3f) | 0x40, 0);
  return bytes;
}

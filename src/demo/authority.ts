/**
 * A certificate authority created at run time, for the demo and the tests; its
 * key never leaves memory. Strict verifiers (OpenSSL 3, Java, Python's
 * VERIFY_X509_STRICT) accept what it issues.
 */
import { createHash, generateKeyPair, type KeyObject, randomBytes, sign as signBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import ipaddr from 'ipaddr.js';

// Writes ASN.1 in DER, as far as a certificate needs it (ITU-T X.690). It reads none.

/** One element: its tag, its length in as few bytes as that takes (§8.1.3, §10.1), its content. */
export function der(tag: number, ...content: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(content);
  if (body.length < 0x80) return Buffer.concat([Buffer.of(tag, body.length), body]);
  const digits = body.length.toString(16);
  const length = Buffer.from(digits.padStart(digits.length + (digits.length % 2), '0'), 'hex');
  return Buffer.concat([Buffer.of(tag, 0x80 | length.length), length, body]);
}

/** DER SEQUENCE (X.690 §8.9). */
export const sequence = (...items: readonly Uint8Array[]): Buffer => der(0x30, ...items);
/** DER SET (X.690 §8.11). */
export const set = (...items: readonly Uint8Array[]): Buffer => der(0x31, ...items);
/** DER OCTET STRING (X.690 §8.7). */
export const octets = (bytes: Uint8Array): Buffer => der(0x04, bytes);
/** DER UTF8String. */
export const utf8 = (text: string): Buffer => der(0x0c, Buffer.from(text));
/** DER BOOLEAN that is true (X.690 §11.1). */
export const TRUE = der(0x01, Buffer.of(0xff));

/** Numbered by its place in a choice or record: `[0]` around other elements, or instead of the tag of plain bytes. */
export const explicit = (number: number, item: Uint8Array): Buffer => der(0xa0 | number, item);
/** DER element with a context-specific tag of 0 to 30 in place of its own (X.690 §8.14). */
export const implicit = (number: number, bytes: Uint8Array): Buffer => der(0x80 | number, bytes);

/** @param bytes of a number that is not negative: the first bit is its sign, so one that is set gets a zero before it */
export function integer(bytes: Uint8Array): Buffer {
  return der(0x02, (bytes[0] ?? 0) >= 0x80 ? Buffer.of(0) : Buffer.of(), bytes);
}

/** @param unused bits at the end of the last byte */
export const bits = (bytes: Uint8Array, unused = 0): Buffer => der(0x03, Buffer.of(unused), bytes);

/** @param dotted such as `2.5.29.17`; the first two numbers share a byte, the others take seven bits to a byte (§8.19) */
export function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  return der(0x06, Buffer.from([first * 40 + second, ...rest.flatMap(inSevens)]));
}

function inSevens(value: number): number[] {
  const bytes = [value & 0x7f];
  for (let rest = Math.floor(value / 128); rest > 0; rest = Math.floor(rest / 128)) bytes.unshift(0x80 | (rest & 0x7f));
  return bytes;
}

/** To the second. Years from 2050 on take four digits, and a type of their own (RFC 5280 §4.1.2.5). */
export function time(at: Date): Buffer {
  const digits = `${at.toISOString().slice(0, 19).replaceAll(/\D/g, '')}Z`;
  const year = at.getUTCFullYear();
  return year >= 1950 && year < 2050 ? der(0x17, Buffer.from(digits.slice(2))) : der(0x18, Buffer.from(digits));
}

interface IssueOptions {
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

/** A certificate with its private key. */
export interface IssuedCertificate {
  readonly certPem: string;
  /** PKCS#8, not encrypted. */
  readonly keyPem: string;
}

/** Issues certificates for the demo and for tests. */
export interface CertificateAuthority {
  /** Its own certificate; for a root, the certificate that the peer has to trust. */
  readonly certPem: string;
  issue(options: IssueOptions): Promise<IssuedCertificate>;
  /** An intermediate authority issued by this one. */
  issueAuthority(commonName: string): Promise<CertificateAuthority>;
}

const HOUR = 3_600_000;
const YEAR = 365 * 24 * HOUR;
/** X.520 limits the length of a common name; verifiers read the subjectAltName. */
const LONGEST_COMMON_NAME = 64;

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
export async function createAuthority(commonName = 'eco-egress test authority'): Promise<CertificateAuthority> {
  return newAuthority(commonName, null);
}

/** @param parent null: itself */
async function newAuthority(name: string, parent: Signer | null): Promise<CertificateAuthority> {
  const own: Signer = { name: name.slice(0, LONGEST_COMMON_NAME), ...(await newKeys('ec', { namedCurve: 'P-256' })) };
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

async function issueLeaf(
  signer: Signer,
  { names, addresses = [], uris = [], notBefore, notAfter, clientAuth = false }: IssueOptions,
): Promise<IssuedCertificate> {
  const { publicKey, privateKey } = await newKeys('ec', { namedCurve: 'P-256' });
  const alternatives = [
    ...names.map((name) => implicit(2, Buffer.from(name))),
    ...addresses.map((address) => implicit(7, Buffer.from(ipaddr.parse(address).toByteArray()))),
    ...uris.map((uri) => implicit(6, Buffer.from(uri))),
  ];
  const certPem = sign(signer, {
    subject: (names[0] ?? addresses[0] ?? uris[0] ?? 'nameless').slice(0, LONGEST_COMMON_NAME),
    publicKey,
    notBefore: notBefore ?? new Date(Date.now() - HOUR),
    notAfter: notAfter ?? new Date(Date.now() + YEAR),
    extensions: [
      extension('2.5.29.19', CRITICAL, sequence()),
      // digitalSignature, the bit 0.
      extension('2.5.29.15', CRITICAL, bits(Buffer.of(0b1000_0000), 7)),
      extension('2.5.29.37', NOT_CRITICAL, sequence(oid(clientAuth ? '1.3.6.1.5.5.7.3.2' : '1.3.6.1.5.5.7.3.1'))),
      // RFC 5280 §4.2.1.6: a subjectAltName holds at least one name.
      ...(alternatives.length > 0 ? [extension('2.5.29.17', NOT_CRITICAL, sequence(...alternatives))] : []),
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
const NOT_CRITICAL = [] as const;

function extension(id: string, critical: typeof CRITICAL | typeof NOT_CRITICAL, value: Buffer): Buffer {
  return sequence(oid(id), ...critical, octets(value));
}

/** @param signer null: the key is its own */
function keyIdentifiers(key: KeyObject, signer: KeyObject | null): Buffer[] {
  return [
    extension('2.5.29.14', NOT_CRITICAL, octets(keyIdentifier(key))),
    ...(signer === null ? [] : [extension('2.5.29.35', NOT_CRITICAL, sequence(implicit(0, keyIdentifier(signer))))]),
  ];
}

/** RFC 5280 §4.2.1.2: the SHA-1 of the key, which for P-256 is a point of 65 bytes at the end. Not for security. */
function keyIdentifier(key: KeyObject): Buffer {
  return createHash('sha1')
    .update(key.export({ type: 'spki', format: 'der' }).subarray(-65))
    .digest();
}

/** RFC 5280 §4.1.2.2: positive, at most 20 octets; the top bits 01 keep it both positive and minimal. */
function serialNumber(): Buffer {
  const bytes = randomBytes(16);
  bytes.writeUInt8((bytes.readUInt8(0) & 0x3f) | 0x40, 0);
  return bytes;
}

// The file of the demo's CA certificate, for programs that read it from one.

const CA_FILE = 'ca.pem';

interface TemporaryCa {
  readonly caFile: string;
  /** Removes the file and its directory. Safe to call twice. */
  close(): Promise<void>;
}

/** Writes the certificate into a fresh directory under TMPDIR; its path is absolute. Rejects, with a remedy and leaving nothing behind, if it cannot. */
export async function writeTemporaryCa(certPem: string): Promise<TemporaryCa> {
  await using opened = new AsyncDisposableStack();
  try {
    const directory = await mkdtemp(resolve(tmpdir(), 'eco-egress-demo-'));
    opened.defer(() => rm(directory, { recursive: true, force: true }));
    const caFile = await writeCa(directory, certPem);
    const kept = opened.move();
    return { caFile, close: () => kept.disposeAsync() };
  } catch (error) {
    throw new Error(`The demo needs a place for its CA certificate: set TMPDIR to a directory it can write to`, { cause: error });
  }
}

/** Writes `ca.pem` into an existing directory, over an older one, and returns its path. */
export async function writeCa(directory: string, certPem: string): Promise<string> {
  const file = join(directory, CA_FILE);
  await writeFile(file, certPem);
  return file;
}

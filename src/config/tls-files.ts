/**
 * Reads certificate files, and tests them with the same call that TLS will make with them.
 *
 * Longer than 400 lines: each fault of a file has its sentence and its remedy here.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { isKeyFor } from '../identity/revocation.ts';
import { formatMoment } from '../targets/quote.ts';
import type { UpstreamTlsConfig } from './config.ts';
import { type Complain, type Path, quoteValue } from './finding.ts';
import { type FileReading, messageOf, type NamedFile, readNamedFile, readSecretFile } from './named-files.ts';
import { clientContext } from './tls-context.ts';

interface TlsKeys {
  readonly caFile?: string | undefined;
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
  readonly serverName?: string | undefined;
}

/** The required purpose of a certificate: extended key usage (RFC 5280 §4.2.1.12). */
const PURPOSES = { client: '1.3.6.1.5.5.7.3.2', server: '1.3.6.1.5.5.7.3.1' } as const;
const ANY_PURPOSE = '2.5.29.37.0';
/** OpenSSL's security level 2, Node's default, is less strict in a handshake. */
const LEAST_RSA_BITS = 2_048;

/** TLS towards an upstream: reads CA, certificate and key, and tests them with OpenSSL. Faults are reported; faulty values are null in the result. */
export function readTlsFiles(keys: TlsKeys, path: Path, reading: FileReading): UpstreamTlsConfig {
  const { complain } = reading;
  const ca = readAuthorities(keys.caFile, [...path, 'caFile'], reading);
  const own = readOwnCertificate(keys.certFile, keys.keyFile, 'client', path, reading);
  if (keys.certFile !== undefined && keys.keyFile === undefined) {
    complain([...path, 'certFile'], 'A client certificate cannot be used without its key.', 'Add keyFile, or remove certFile.');
  }
  if (keys.keyFile !== undefined && keys.certFile === undefined) {
    complain([...path, 'keyFile'], 'A key cannot be used without its client certificate.', 'Add certFile, or remove keyFile.');
  }
  const config = { ca, cert: own?.cert ?? null, key: own?.key ?? null, serverName: keys.serverName ?? null };
  // Without files there is nothing to test, and a context takes half a millisecond.
  if (keys.caFile !== undefined || keys.certFile !== undefined)
    tryTls(() => clientContext(config), [...path, keys.certFile === undefined ? 'caFile' : 'certFile'], complain);
  return config;
}

/** Authorities to trust, in PEM; null: no file, or a fault was reported. */
export function readAuthorities(file: string | undefined, path: Path, reading: FileReading): string | null {
  const found = readPem(file, path, reading);
  const authorities = found === null ? null : readCertificates(found, path, reading.complain);
  if (authorities === null) return null;
  warnAboutValidity(authorities, path, reading);
  if (authorities.others.length > 0)
    reading.warn(
      'files',
      path,
      `The file also holds ${[...new Set(authorities.others)].join(' and ')}, which is not used here.`,
      'Keep the certificates of authorities alone.',
    );
  for (const certificate of authorities.all) {
    if (certificate.ca || isKeyFor(certificate, 'certificates') === true) continue;
    reading.warn(
      'files',
      path,
      `${subjectOf(certificate)} is not an authority: the file trusts this one certificate, until it is renewed.`,
      'Write the certificate of the authority that issued it.',
    );
  }
  return authorities.pem;
}

/** A certificate chain with the key of its first certificate; null: no files, or a fault was reported. */
export function readOwnCertificate(
  certFile: string | undefined,
  keyFile: string | undefined,
  purpose: 'client' | 'server',
  path: Path,
  reading: FileReading,
): { readonly cert: string; readonly key: string; readonly leaf: X509Certificate } | null {
  const certText = readPem(certFile, [...path, 'certFile'], reading);
  const keyText = pemIn(
    keyFile === undefined ? null : readSecretFile(keyFile, [...path, 'keyFile'], reading),
    [...path, 'keyFile'],
    reading,
  );
  const chain = certText === null ? null : readCertificates(certText, [...path, 'certFile'], reading.complain);
  const key = keyText === null ? null : readKey(keyText, chain, [...path, 'keyFile'], reading.complain);
  if (chain !== null) {
    warnAboutValidity(chain, [...path, 'certFile'], reading);
    warnAboutChain(chain, purpose, [...path, 'certFile'], reading);
    refuseUnknownKind(chain.all[0], [...path, 'certFile'], reading.complain);
  }
  return chain === null || key === null ? null : { cert: chain.pem, key, leaf: chain.all[0] };
}

/** Curves that have a signature scheme in TLS (RFC 8446 §4.2.3, RFC 8734). */
const SIGNING_CURVES: ReadonlySet<unknown> = new Set([
  'prime256v1',
  'secp384r1',
  'secp521r1',
  'brainpoolP256r1',
  'brainpoolP384r1',
  'brainpoolP512r1',
]);

/** OpenSSL loads every key, and finds only in a handshake that TLS has no signature for some: all of them would fail. */
function refuseUnknownKind({ publicKey }: X509Certificate, path: Path, complain: Complain): void {
  const { asymmetricKeyType: kind, asymmetricKeyDetails: details } = publicKey;
  const refused =
    kind === 'dsa'
      ? 'of DSA'
      : kind === 'ec' && !SIGNING_CURVES.has(details?.namedCurve)
        ? `on the curve ${String(details?.namedCurve)}`
        : null;
  if (refused !== null)
    complain(
      path,
      `The certificate has a key ${refused}, with which no TLS handshake succeeds.`,
      'Issue another one with a key of RSA, or on the curve P-256.',
    );
}

/** Reports OpenSSL's errors as faults. */
export function tryTls(use: () => unknown, path: Path, complain: Complain): void {
  try {
    use();
  } catch (error) {
    complain(path, `TLS cannot use the certificate: ${messageOf(error)}.`, 'Issue another one; RSA needs a key of at least 2048 bits.');
  }
}

/** Lists of revoked certificates alone, in PEM with a line for each BEGIN; null: no file, or a fault was reported. */
export function readLists(file: string | undefined, path: Path, reading: FileReading): string | null {
  const found = readPem(file, path, reading);
  const blocks = found === null ? null : readBlocks(found, path, reading.complain);
  return (
    blocks
      ?.filter(({ label }) => label === 'X509 CRL')
      .map(({ text }) => text)
      .join('') ?? null
  );
}

/** Null: no file, or a fault was reported. */
function readPem(file: string | undefined, path: Path, reading: FileReading): string | null {
  return pemIn(file === undefined ? null : readNamedFile(file, path, reading), path, reading);
}

function pemIn(found: NamedFile | null, path: Path, { complain }: FileReading): string | null {
  const fault = found === null ? null : findPemFault(found.text, String(path.at(-1)));
  if (fault !== null) complain(path, `${found?.name ?? ''} ${fault.problem}.`, fault.instead);
  return fault === null ? (found?.text ?? null) : null;
}

/** What is wrong with a text that should be PEM, as the rest of a sentence, and what to do; null: nothing that is seen at once. @param key whose file it is */
export function findPemFault(text: string, key: string): { readonly problem: string; readonly instead: string } | null {
  const [, problem, instead] = NOT_PEM.find(([sign]) => sign.test(text)) ?? [];
  return problem === undefined
    ? null
    : { problem, instead: instead ?? `Convert it with: openssl ${CONVERTERS[key] ?? 'x509'} -inform der.` };
}

/** What is found where PEM belongs, by the first sign that fits. Without advice: what openssl converts. */
const NOT_PEM: readonly (readonly [sign: RegExp, problem: string, instead?: string])[] = [
  [/^\s*$/, 'is empty', 'It needs a "-----BEGIN …-----" block; a file that is still being written is loaded when it is complete.'],
  [/-----\\n/, 'has \\n where its lines should end', 'Write each line of the PEM block on a line of its own.'],
  [/^[ \t]+-----END /m, 'has blanks before the lines of a PEM block', 'Take them out.'],
  [/^\s*LS0tLS1CRUdJTi/, 'is PEM that is encoded in base64 once more', 'Decode it with: base64 -d.'],
  // RFC 7292 §4: a sequence that begins with version 3.
  [/^0.{1,5}\x02\x01\x03/s, 'is PKCS#12, not PEM', 'Convert it with: openssl pkcs12 -nodes, which prints certificates and key.'],
  [/^(?!.*-----BEGIN )(?:0[^ -~]|.*\ufffd)/s, 'is not a PEM file'],
  [/^(?!.*-----BEGIN )/s, 'is not a PEM file', 'PEM is text with "-----BEGIN …-----" lines.'],
];

/** Commands of openssl, by key. */
const CONVERTERS: Readonly<Record<string, string>> = { keyFile: 'pkey', crlFile: 'crl' };

function warnAboutValidity({ all }: PemCertificates, path: Path, { warn }: FileReading): void {
  for (const certificate of all) {
    const { validToDate, validFromDate, publicKey } = certificate;
    warn(
      'expired',
      path,
      `The certificate of ${subjectOf(certificate)} expired at ${formatMoment(validToDate)}.`,
      'Renew it: peers will refuse it.',
      'value',
      { from: validToDate.getTime() },
    );
    warn(
      'files',
      path,
      `The certificate of ${subjectOf(certificate)} is valid only from ${formatMoment(validFromDate)}.`,
      'Check the clock here; until then peers will refuse it.',
      'value',
      { until: validFromDate.getTime() },
    );
    const bits = publicKey.asymmetricKeyDetails?.modulusLength;
    if (bits !== undefined && bits < LEAST_RSA_BITS)
      warn(
        'files',
        path,
        `The certificate of ${subjectOf(certificate)} has an RSA key of ${bits} bits, which handshakes refuse.`,
        `Issue another one with at least ${LEAST_RSA_BITS} bits.`,
      );
  }
}

/** RFC 8446 §4.4.2: each certificate certifies the one before it; many peers accept no other order. */
function warnAboutChain({ all }: PemCertificates, purpose: keyof typeof PURPOSES, path: Path, { warn }: FileReading): void {
  const misplaced = all.findIndex((certificate, index) => index > 0 && all[index - 1]?.checkIssued(certificate) === false);
  if (misplaced !== -1)
    warn(
      'files',
      path,
      `Certificate ${misplaced + 1} of the file did not issue the one before it.`,
      'Write our own certificate first, then the one that issued it, and so on.',
    );
  const [leaf] = all;
  if (isKeyFor(leaf, 'signatures') === false)
    warn(
      'files',
      path,
      `The key usage of the certificate of ${subjectOf(leaf)} does not permit signatures: peers may refuse it.`,
      'Issue it with the key usage digitalSignature.',
    );
  const weak = all.find((certificate) => !certificate.checkIssued(certificate) && WEAK_HASH.test(certificate.signatureAlgorithm ?? ''));
  if (weak !== undefined)
    warn(
      'files',
      path,
      `The certificate of ${subjectOf(weak)} is signed with ${weak.signatureAlgorithm ?? ''}: peers refuse it.`,
      'Have it issued again, signed with SHA-256.',
    );
  // The types declare a list; Node returns undefined if the extension is missing.
  const usage = leaf.keyUsage as readonly string[] | undefined;
  if (usage === undefined || usage.includes(PURPOSES[purpose]) || usage.includes(ANY_PURPOSE)) return;
  warn(
    'files',
    path,
    `The certificate of ${subjectOf(leaf)} is not for a TLS ${purpose}: peers may refuse it.`,
    `Issue it with the extended key usage ${purpose}Auth.`,
  );
}

/** RFC 9155: such a signature is not to be trusted. */
const WEAK_HASH = /sha1|md5/i;

function subjectOf({ subject }: X509Certificate): string {
  // A certificate may have names in its extensions only.
  return quoteValue((subject as string | undefined)?.replaceAll('\n', ', ') ?? '');
}

// Splits PEM text into its blocks (RFC 7468), and rebuilds the input for TLS
// from what was parsed. OpenSSL stops at the first block it cannot parse and
// reports nothing, so it never gets the text of a file itself.

interface PemBlock {
  /** `CERTIFICATE`, `PRIVATE KEY`. */
  readonly label: string;
  /** With its BEGIN and END lines. */
  readonly text: string;
}

const BEGIN = '-----BEGIN ';
const DASHES = '-----';
/** RFC 7468 §5.1, and the name that OpenSSL still accepts. */
const CERTIFICATE_LABELS: ReadonlySet<string> = new Set(['CERTIFICATE', 'X509 CERTIFICATE']);

/**
 * In the order of the text; anything between blocks is a comment. A block ends
 * where its END line does, whether or not a line break follows. Null: a block
 * without its END line was reported.
 */
function readBlocks(text: string, path: Path, complain: Complain): readonly PemBlock[] | null {
  const fail = (label: string): null => {
    const which = /^(?:X509 )?([A-Z0-9 ]{1,40})$/.exec(label)?.[1] ?? 'PEM';
    complain(
      path,
      `The file ends inside a ${which} block, or its END line is damaged.`,
      'Export the file again: it may have been cut off.',
    );
    return null;
  };
  const blocks: PemBlock[] = [];
  for (let at = text.indexOf(BEGIN); at !== -1;) {
    const nameEnd = text.indexOf(DASHES, at + BEGIN.length);
    if (nameEnd === -1) return fail('');
    const label = text.slice(at + BEGIN.length, nameEnd);
    const end = `-----END ${label}-----`;
    const bodyEnd = text.indexOf(end, nameEnd);
    const next = text.indexOf(BEGIN, nameEnd);
    if (bodyEnd === -1 || (next !== -1 && next < bodyEnd)) return fail(label);
    blocks.push({ label, text: `${text.slice(at, bodyEnd)}${end}\n` });
    at = next;
  }
  return blocks;
}

/** The certificates of a file, each parsed on its own. */
interface PemCertificates {
  /** At least one, in the order of the file. */
  readonly all: readonly [X509Certificate, ...X509Certificate[]];
  /** Only these, in PEM as OpenSSL writes it: the input for TLS. */
  readonly pem: string;
  /** Labels of blocks that contain no certificate. */
  readonly others: readonly string[];
}

/** Everything that the text should contain, or null after a reported fault: never a part of it. */
export function readCertificates(text: string, path: Path, complain: Complain): PemCertificates | null {
  const blocks = readBlocks(text, path, complain);
  if (blocks === null) return null;
  if (blocks.some(({ label }) => label === 'TRUSTED CERTIFICATE')) {
    complain(
      path,
      'The file holds a TRUSTED CERTIFICATE, whose trust settings other programs ignore.',
      'Convert it with: openssl x509 -in trusted.pem -out plain.pem.',
    );
    return null;
  }
  const wanted = blocks.filter(({ label }) => CERTIFICATE_LABELS.has(label));
  const certificates: X509Certificate[] = [];
  wanted.forEach((block, index) => {
    try {
      const certificate = new X509Certificate(block.text);
      // Peers refuse it like an expired one, and its end is not known.
      if (Number.isNaN(certificate.validFromDate.getTime() + certificate.validToDate.getTime()))
        throw new Error('its validity does not begin and end at times');
      certificates.push(certificate);
    } catch (error) {
      complain(path, `Certificate ${index + 1} of ${wanted.length} in the file is damaged: ${messageOf(error)}.`, 'Export the file again.');
    }
  });
  if (certificates.length !== wanted.length) return null;
  const [first, ...rest] = certificates;
  const others = blocks.filter(({ label }) => !CERTIFICATE_LABELS.has(label)).map(({ label }) => quoteValue(label));
  if (first === undefined) {
    complain(
      path,
      `The file holds no certificate${alsoHolds(others)}.`,
      'It needs a "-----BEGIN CERTIFICATE-----" block, and its END line.',
    );
    return null;
  }
  return { all: [first, ...rest], pem: certificates.map(String).join(''), others };
}

function alsoHolds(labels: readonly string[]): string {
  return labels.length === 0 ? '' : `, but ${[...new Set(labels)].join(' and ')}`;
}

/** PKCS#8 and the older OpenSSL form; OpenSSL's own error for them is not helpful. */
const LOCKED = /^Proc-Type: 4,ENCRYPTED/m;

/**
 * The only private key of a file as PKCS#8, or null after a reported fault.
 *
 * @param certificates of the certificate file, its own first; null: they were faulty
 */
function readKey(text: string, certificates: PemCertificates | null, path: Path, complain: Complain): string | null {
  const blocks = readBlocks(text, path, complain);
  if (blocks === null) return null;
  const keys = blocks.filter(({ label }) => label.endsWith('PRIVATE KEY'));
  const [block] = keys;
  if (block === undefined) {
    complain(
      path,
      `The file holds no private key${alsoHolds(blocks.map(({ label }) => quoteValue(label)))}.`,
      'It needs a "-----BEGIN PRIVATE KEY-----" block.',
    );
  } else if (keys.length > 1) {
    complain(path, `The file holds ${keys.length} private keys.`, 'Keep the one that the certificate was issued for.');
  } else if (block.label === 'OPENSSH PRIVATE KEY') {
    complain(
      path,
      'The key is in the format of OpenSSH, which TLS does not read.',
      'Put the key here that the certificate was issued for, as openssl writes it.',
    );
  } else if (block.label === 'ENCRYPTED PRIVATE KEY' || LOCKED.test(block.text)) {
    complain(
      path,
      'The key is encrypted with a passphrase.',
      'Store it decrypted, readable by this process only: openssl pkey -in key.pem -out plain.pem.',
    );
  } else {
    return readOneKey(block.text, certificates, path, complain);
  }
  return null;
}

function readOneKey(pem: string, certificates: PemCertificates | null, path: Path, complain: Complain): string | null {
  try {
    const key = createPrivateKey(pem);
    const owner = certificates?.all.findIndex((certificate) => certificate.checkPrivateKey(key)) ?? 0;
    if (owner === 0) return key.export({ type: 'pkcs8', format: 'pem' });
    if (owner > 0)
      complain(
        path,
        `The key belongs to certificate ${owner + 1} of certFile, and the first one is shown as our own.`,
        'Put the certificate of this key first in certFile, then the one that issued it, and so on.',
      );
    else
      complain(
        path,
        'The key does not belong to the certificate in certFile.',
        'Put the key here that the certificate was issued for; the first certificate of certFile must be our own.',
      );
  } catch (error) {
    complain(path, `The private key is damaged: ${messageOf(error)}.`, 'Export the file again.');
  }
  return null;
}

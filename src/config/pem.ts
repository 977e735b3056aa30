/**
 * Takes PEM text apart into its blocks (RFC 7468), and rebuilds what TLS is
 * given from what was understood. OpenSSL stops at the first block it cannot
 * read and reports nothing, so it never gets the text of a file itself.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { type Complain, type Path, quote } from './finding.ts';

export interface PemBlock {
  /** `CERTIFICATE`, `PRIVATE KEY`. */
  readonly label: string;
  /** With its BEGIN and END lines. */
  readonly text: string;
}

const BEGIN = '-----BEGIN ';
const DASHES = '-----';
/** RFC 7468 §5.1, and the name that OpenSSL still reads. */
const CERTIFICATE: ReadonlySet<string> = new Set(['CERTIFICATE', 'X509 CERTIFICATE']);

/**
 * In the order of the text; anything between blocks is a comment. A block ends
 * where its END line does, whether or not a line break follows.
 *
 * @returns the label of a block without its END line, where there is one
 */
export function readBlocks(text: string): readonly PemBlock[] | { readonly unfinished: string } {
  const blocks: PemBlock[] = [];
  for (let at = text.indexOf(BEGIN); at !== -1; ) {
    const nameEnd = text.indexOf(DASHES, at + BEGIN.length);
    if (nameEnd === -1) return { unfinished: 'a block' };
    const label = text.slice(at + BEGIN.length, nameEnd);
    const end = `-----END ${label}-----`;
    const bodyEnd = text.indexOf(end, nameEnd);
    const next = text.indexOf(BEGIN, nameEnd);
    if (bodyEnd === -1 || (next !== -1 && next < bodyEnd)) return { unfinished: /^[A-Z0-9 ]{1,40}$/.test(label) ? label : 'a block' };
    blocks.push({ label, text: `${text.slice(at, bodyEnd)}${end}\n` });
    at = next;
  }
  return blocks;
}

/** Certificates of a file, each read on its own. */
export interface PemCertificates {
  /** At least one, in the order of the file. */
  readonly all: readonly [X509Certificate, ...X509Certificate[]];
  /** Just these, in PEM as OpenSSL writes it: what TLS is given. */
  readonly pem: string;
  /** Labels of the blocks that hold no certificate. */
  readonly others: readonly string[];
}

/** All that the text means to hold, or null after a complaint: never a part of it. */
export function readCertificates(text: string, path: Path, complain: Complain): PemCertificates | null {
  const blocks = readBlocks(text);
  if ('unfinished' in blocks) {
    complain(path, `The file ends inside ${blocks.unfinished === 'a block' ? blocks.unfinished : `a ${blocks.unfinished} block`}, or its END line is damaged.`, 'Export the file again: it may have been cut off.');
    return null;
  }
  if (blocks.some(({ label }) => label === 'TRUSTED CERTIFICATE')) {
    complain(path, 'The file holds a TRUSTED CERTIFICATE, whose trust settings other programs ignore.', 'Convert it with: openssl x509 -in trusted.pem -out plain.pem.');
    return null;
  }
  const wanted = blocks.filter(({ label }) => CERTIFICATE.has(label));
  const certificates: X509Certificate[] = [];
  wanted.forEach((block, index) => {
    try {
      certificates.push(new X509Certificate(block.text));
    } catch (error) {
      complain(path, `Certificate ${index + 1} of ${wanted.length} in the file is damaged: ${messageOf(error)}.`, 'Export the file again.');
    }
  });
  if (certificates.length !== wanted.length) return null;
  const [first, ...rest] = certificates;
  if (first === undefined) {
    complain(path, 'The file holds no certificate.', 'It needs a "-----BEGIN CERTIFICATE-----" block, and its END line.');
    return null;
  }
  const others = blocks.filter(({ label }) => !CERTIFICATE.has(label)).map(({ label }) => quote(label));
  return { all: [first, ...rest], pem: certificates.map(String).join(''), others };
}

/** PKCS#8 and the older OpenSSL form; OpenSSL's own error for them says nothing useful. */
const LOCKED = /^Proc-Type: 4,ENCRYPTED/m;

/**
 * The one private key of a file as PKCS#8, or null after a complaint.
 *
 * @param certificates of the certificate file, its own first; null: they were complained about
 */
export function readKey(text: string, certificates: PemCertificates | null, path: Path, complain: Complain): string | null {
  const blocks = readBlocks(text);
  const keys = 'unfinished' in blocks ? [] : blocks.filter(({ label }) => label.endsWith('PRIVATE KEY'));
  const [block] = keys;
  if ('unfinished' in blocks) {
    complain(path, 'The file ends inside a block, or its END line is damaged.', 'Export the file again: it may have been cut off.');
  } else if (block === undefined) {
    complain(path, 'The file holds no private key.', 'It needs a "-----BEGIN PRIVATE KEY-----" block.');
  } else if (keys.length > 1) {
    complain(path, `The file holds ${keys.length} private keys.`, 'Keep the one that the certificate was issued for.');
  } else if (block.label === 'ENCRYPTED PRIVATE KEY' || LOCKED.test(block.text)) {
    complain(path, 'The key is encrypted with a passphrase.', 'Store it decrypted, readable by this process only: openssl pkey -in key.pem -out plain.pem.');
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
    if (owner > 0) complain(path, `The key belongs to certificate ${owner + 1} of certFile, and the first one is shown as our own.`, 'Put the certificate of this key first in certFile, then the one that issued it, and so on.');
    else complain(path, 'The key does not belong to the certificate in certFile.', 'Put the key here that the certificate was issued for; the first certificate of certFile must be our own.');
  } catch (error) {
    complain(path, `The private key is damaged: ${messageOf(error)}.`, 'Export the file again.');
  }
  return null;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

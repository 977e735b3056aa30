/** Reads the certificates, keys and credentials that the configuration names, and checks that they can be used. */
import { createPublicKey, type webcrypto, type X509Certificate } from 'node:crypto';
import { keysOf, parseKeys } from '../identity/key-sources.ts';
import {
  authorityNameOf,
  idOf,
  isListForAuthority,
  isListSignedWith,
  isOutlasted,
  isKeyFor,
  readRevocationLists,
} from '../identity/revocation.ts';
import { formatMoment } from '../targets/quote.ts';
import { type HopCredentials, NO_TLS, type TlsServerConfig, type TracingConfig, type UpstreamTlsConfig } from './config.ts';
import type { Draft } from './draft.ts';
import { type Complain, type Path, quoteValue } from './finding.ts';
import { type FileReading, messageOf, readHeaderLines, readHopCredentials, readNamedFile } from './named-files.ts';
import type { FileContent } from './schema.ts';
import { serverContext, tryLists } from './tls-context.ts';
import { readAuthorities, readCertificates, readLists, readOwnCertificate, readTlsFiles, tryTls } from './tls-files.ts';

/** Null: none is configured, or a fault was reported. */
export function readTlsServer(keys: Draft['tlsServer'], path: Path, reading: FileReading): TlsServerConfig | null {
  const { complain, warn } = reading;
  const { names = [], certFile, keyFile, clientCaFile, crlFile, clientCertificate = 'none' } = keys;
  const clientCa = readAuthorities(clientCaFile, [...path, 'clientCaFile'], reading);
  const crl = readLists(crlFile, [...path, 'crlFile'], reading);
  if (clientCa !== null && clientCertificate === 'none') {
    warn(
      'no-effect',
      [...path, 'clientCaFile'],
      'No client is asked for a certificate, so the authorities are not used.',
      'Add clientCertificate: request or require, or remove clientCaFile.',
    );
  }
  const listsFit = crl === null || checkLists(crl, clientCa, [...path, 'crlFile'], reading);
  const own = readOwnCertificate(certFile, keyFile, 'server', path, reading);
  if (own === null || !listsFit) return null;
  warnAboutNames(names, own.leaf, [...path, 'names'], reading);
  const config = { names: names.filter((name) => name !== undefined), cert: own.cert, key: own.key, clientCa, crl, clientCertificate };
  tryTls(() => serverContext(config), [...path, 'certFile'], complain);
  return config;
}

/** What all clients accept: neither a common name (RFC 9525 §2) nor a wildcard for a part of a label (§6.3). */
const ALTERNATIVE_NAMES = { subject: 'never', partialWildcards: false } as const;

function warnAboutNames(names: readonly (string | undefined)[], leaf: X509Certificate, path: Path, { warn }: FileReading): void {
  names.forEach((name, index) => {
    if (name === undefined || leaf.checkHost(name, ALTERNATIVE_NAMES) !== undefined) return;
    warn(
      'files',
      [...path, index],
      `The certificate in certFile is not for ${quoteValue(name)}: clients will refuse it.`,
      'Put the name into the certificate (subjectAltName: Go, Python and browsers read nothing else), or remove it here.',
    );
  });
}

const COMPLETE_LIST = 'Put the complete list of the authority in its place.';

/**
 * OpenSSL refuses every certificate of an authority without a current list: that is reported now.
 * @returns whether no fault was found
 */
function checkLists(crl: string, clientCa: string | null, path: Path, { complain: report, warn }: FileReading): boolean {
  let fit = true;
  const complain: Complain = (...fault) => {
    fit = false;
    report(...fault);
  };
  const lists = readRevocationLists(crl);
  if (lists.length === 0) {
    complain(
      path,
      'The file holds no list of revoked certificates.',
      'It needs a "-----BEGIN X509 CRL-----" block; convert DER with: openssl crl -inform der.',
    );
    return false;
  }
  try {
    tryLists(crl);
  } catch (error) {
    complain(path, `TLS cannot use the lists: ${messageOf(error)}.`, 'Export the file again.');
    return false;
  }
  const known = lists.filter((list) => list !== null);
  lists.forEach((list, index) => {
    const which = `List ${index + 1} of ${lists.length} in the file`;
    if (list === null) {
      complain(path, `${which} is damaged.`, 'Export the file again.');
    } else if (list.delta) {
      complain(path, `${which} has only the changes since another list (delta CRL), and is not used.`, COMPLETE_LIST);
    } else if (list.unknown) {
      complain(
        path,
        `${which} has a critical extension that TLS cannot interpret: every certificate of its authority would be refused.`,
        'Have the authority issue the list without this extension, or do not mark it as critical.',
      );
    } else {
      const { series, from, until } = list;
      if (!known.some((other) => other.series === series && other.from < from))
        warn(
          'files',
          path,
          `${which} is valid only from ${formatMoment(from)}: until then every certificate of its authority is refused.`,
          'Check the clock here, or fetch the current list from the authority.',
          'value',
          { until: from },
        );
      if (until !== null && !isOutlasted(list, known))
        warn(
          'expired',
          path,
          `${which} is out of date since ${formatMoment(until)}: every certificate of its authority is refused.`,
          'Fetch the current list from the authority.',
          'value',
          { from: until },
        );
    }
  });
  // Faults of these were reported when they were read.
  const authorities = clientCa === null ? [] : (readCertificates(clientCa, path, () => {})?.all ?? []);
  const names = new Set(authorities.map(authorityNameOf));
  for (const authority of authorities) {
    const subject = quoteValue(authority.subject.replaceAll('\n', ', '));
    const own = lists.flatMap((list, index) => (list?.issuer === authorityNameOf(authority) ? index : []));
    const issuer = idOf(authority)?.issuer ?? null;
    const ofIssuer = known.filter((list) => list.issuer === issuer);
    if (own.length === 0) {
      complain(
        path,
        `The file has no list of the authority ${subject}: every certificate of it would be refused.`,
        'Put one list for each authority of clientCaFile into the file.',
      );
    } else if (!own.some((index) => isListSignedWith(crl, index, authority.publicKey))) {
      complain(
        path,
        `The list of the authority ${subject} was signed with another key than that of its certificate: every certificate of it would be refused.`,
        'Fetch the current list, or put the current certificate of the authority into clientCaFile.',
      );
    } else if (isKeyFor(authority, 'lists') === false) {
      complain(
        path,
        `The key usage of the authority ${subject} does not permit it to sign lists: every certificate of it would be refused.`,
        'Have its certificate issued again with cRLSign, or remove crlFile.',
      );
    } else if (!names.has(issuer)) {
      // OpenSSL looks for each certificate of a chain in the list of its issuer, and verifies that list, too.
      complain(
        path,
        `The authority ${subject} was issued by one that is not in clientCaFile: with lists, every certificate of it would be refused.`,
        'Add the certificate of that authority to clientCaFile, and its list to this file.',
      );
    } else if (ofIssuer.length > 0 && !ofIssuer.some((list) => isListForAuthority(list, authority))) {
      complain(
        path,
        `No list of the file says whether the authority ${subject} itself is revoked (those of its issuer are for other certificates, some reasons or a distribution point): every certificate of it would be refused.`,
        COMPLETE_LIST,
      );
    }
  }
  if (known.every(({ scope }) => scope === 'authorities'))
    complain(
      path,
      'The file has lists for the certificates of authorities only: every certificate of a client would be refused.',
      COMPLETE_LIST,
    );
  return fit;
}

/** Certificates and credentials towards upstreams and parents, read from their files before; by section and name. */
export interface WayFiles {
  tls(section: 'destinations' | 'hops' | 'sourceIp', name: string): UpstreamTlsConfig;
  credentials(hop: string): HopCredentials | null;
  readonly tracing: Pick<TracingConfig, 'headers' | 'tls'>;
}

/** Reads the files needed to reach upstreams and the collector: certificates of destinations, parents, the probe and the collector, credentials of parents and header lines for the collector. */
export function readWayFiles({ destinations, hops, probe, tracing }: Draft, reading: FileReading): WayFiles {
  const tls = new Map<string, UpstreamTlsConfig>();
  const sections = { destinations, hops, sourceIp: new Map([['probe', probe]]) } as const;
  for (const [section, entries] of Object.entries(sections)) {
    for (const [name, entry] of entries) {
      if (entry.tls !== undefined) tls.set(`${section} ${name}`, readTlsFiles(entry.tls, [section, name, 'tls'], reading));
    }
  }
  const credentials = new Map<string, HopCredentials | null>();
  for (const [name, { credentialsFile, url = [] }] of hops) {
    const path = ['hops', name, 'credentialsFile'];
    const found = readHopCredentials(credentialsFile, path, reading);
    credentials.set(name, found);
    if (found === null || !url.some((parent) => parent?.scheme === 'socks5')) continue;
    // RFC 1929 §2: each length is one byte.
    if (found.kind === 'bearer') reading.complain(path, 'A SOCKS5 parent takes no token.', 'Put user:password into the file.');
    else if (Buffer.byteLength(found.user) > 255 || Buffer.byteLength(found.password) > 255)
      reading.complain(path, 'A SOCKS5 parent takes 255 bytes of user and of password at most.', 'Use shorter ones.');
  }
  return {
    tls: (section, name) => tls.get(`${section} ${name}`) ?? NO_TLS,
    credentials: (hop) => credentials.get(hop) ?? null,
    tracing: {
      headers: readHeaderLines(tracing.headersFile, ['tracing', 'headersFile'], reading),
      tls: tracing.tls === undefined ? NO_TLS : readTlsFiles(tracing.tls, ['tracing', 'tls'], reading),
    },
  };
}

/** In place of files that are not read: the names for which TLS is terminated, without certificates, keys and credentials. */
export function nameFiles({ tlsServer: { names, clientCertificate } }: Pick<FileContent, 'tlsServer'>): {
  readonly files: WayFiles;
  readonly tlsServer: TlsServerConfig | null;
} {
  return {
    files: { tls: () => NO_TLS, credentials: () => null, tracing: { headers: [], tls: NO_TLS } },
    tlsServer: names === undefined ? null : { names, cert: '', key: '', clientCa: null, crl: null, clientCertificate },
  };
}

/** Checks that the key files of token issuers can be read; the keys themselves are read again at run time. */
export function checkJwksFile(file: string, path: Path, reading: FileReading): void {
  const found = readNamedFile(file, path, reading);
  if (found === null) return;
  const { name, text } = found;
  const { complain } = reading;
  const keys = keysIn(text);
  if (keys === null)
    complain(path, `${name} is not a JWK set.`, 'It is JSON with a list of keys: {"keys":[…]}, as issuers serve it under jwks_uri.');
  else if (keys.length === 0)
    complain(path, `${name} has no keys, so no token would be accepted.`, 'Put the public keys of the issuer there.');
  else if (keys.some(isSecret))
    complain(
      path,
      `${name} has private or secret keys.`,
      'Put only the public keys there: with the others, everyone who can read the file can make tokens.',
    );
  else tryKeys(name, text, keys.length, path, reading);
}

/** With the call that reads them at run time, and with OpenSSL. */
function tryKeys(name: string, text: string, meant: number, path: Path, { complain, warn }: FileReading): void {
  let usable: number;
  try {
    usable = parseKeys(text, name).keys.filter((key) => isReadable(key)).length;
  } catch (error) {
    complain(path, `${messageOf(error)}.`, 'Put the public keys of the issuer there, as it serves them under jwks_uri.');
    return;
  }
  if (usable === 0)
    complain(
      path,
      `${name} has no key that can be read, so no token would be accepted.`,
      'Put the public keys of the issuer there, as it serves them under jwks_uri.',
    );
  else if (usable < meant)
    warn(
      'files',
      path,
      `${meant - usable} of the ${meant} keys in ${name} cannot verify signatures.`,
      'Check that these are the keys with which the issuer signs.',
    );
}

function isReadable(key: webcrypto.JsonWebKey): boolean {
  try {
    createPublicKey({ key, format: 'jwk' });
    return true;
  } catch {
    return false;
  }
}

function keysIn(text: string): readonly unknown[] | null {
  try {
    return keysOf(JSON.parse(text));
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

/** RFC 7518 §6: `d` is the private part of every kind of key pair, `k` a shared secret. */
function isSecret(key: unknown): boolean {
  return typeof key === 'object' && key !== null && ('d' in key || 'k' in key);
}

/**
 * Parses lists of revoked certificates (CRL, RFC 5280 §5) as far as needed:
 * their issuer, how long they are valid, whether OpenSSL can use them, and
 * whether an accepted certificate has been revoked since. OpenSSL checks
 * everything in the handshake.
 */
import { constants, getHashes, type KeyObject, verify } from 'node:crypto';

/** A list of revoked certificates of one authority (RFC 5280 §5.1). */
export interface RevocationList {
  /** Name of the authority, in the form in which names are compared. */
  readonly issuer: string;
  /** When it becomes valid, ms since the epoch. */
  readonly from: number;
  /** When the next list is due, ms since the epoch; null: not given. */
  readonly until: number | null;
  /** Only the changes since another list (RFC 5280 §5.2.4), which OpenSSL does not use. */
  readonly delta: boolean;
  /** It has a critical extension that OpenSSL does not know, or one of its entries has: then it is not used (RFC 5280 §5.2, §5.3). */
  readonly unknown: boolean;
  /** Which certificates it is for (RFC 5280 §5.2.5); `none`: OpenSSL does not use it, as one that is indirect or for some reasons only. */
  readonly scope: 'all' | 'users' | 'authorities' | 'none';
  /** It is only for certificates that have one of these names of distribution points, in DER; empty: for others, too. */
  readonly points: readonly Buffer[];
  /** The same for all issues of one list: authority, its key, scope. Of those, OpenSSL uses the latest that is valid. */
  readonly series: string;
  /** Serial numbers, their DER in hexadecimal. */
  readonly revoked: ReadonlySet<string>;
}

/** A certificate as identified in lists. */
export interface CertificateId {
  /** Both as in `RevocationList`. */
  readonly issuer: string;
  readonly serial: string;
}

/** One DER element (X.690 §8.1): its type, and the bounds of its content and of itself. */
interface Element {
  readonly tag: number;
  readonly at: number;
  readonly from: number;
  readonly to: number;
}

const BOOLEAN = 0x01;
const INTEGER = 0x02;
const BIT_STRING = 0x03;
const SEQUENCE = 0x30;
const UTF8_STRING = 0x0c;
/** PrintableString, TeletexString, IA5String, VisibleString, UniversalString and BMPString: how many bytes each character has. */
const CHARACTER_BYTES: ReadonlyMap<number, number> = new Map([
  [0x13, 1],
  [0x14, 1],
  [0x16, 1],
  [0x1a, 1],
  [0x1c, 4],
  [0x1e, 2],
]);
const LAST_CHARACTER = 0x10ffff;
const UTC_TIME = 0x17;
const GENERALIZED_TIME = 0x18;
const EXPLICIT_0 = 0xa0;
const EXPLICIT_3 = 0xa3;
/** Object identifiers of extensions, the content of their DER in hexadecimal (RFC 5280 §5.2.4, §5.2.5, §5.2.1, §5.3.3). */
const DELTA_INDICATOR = '551d1b';
const ISSUING_POINT = '551d1c';
const AUTHORITY_KEY = '551d23';
const OF_LISTS: ReadonlySet<string> = new Set([DELTA_INDICATOR, ISSUING_POINT, AUTHORITY_KEY]);
/** Tags in an issuing distribution point: only certificates of users, only those of authorities; some reasons, indirect, attribute certificates. */
const ONLY = [0x81, 0x82, 0x83, 0x84, 0x85];
const KEY_USAGE = '551d0f';
/** Bits of the key usage (RFC 5280 §4.2.1.3). */
const KEY_USES = { signatures: 0x80, certificates: 0x04, lists: 0x02 } as const;
const CERTIFICATE_ISSUER: ReadonlySet<string> = new Set(['551d1d']);
const RSA_PADDINGS = [constants.RSA_PKCS1_PADDING, constants.RSA_PKCS1_PSS_PADDING];
/** Those of which OpenSSL knows signatures, each once; null: the signature has its own. */
const SIGNED_HASHES = [null, ...getHashes().filter((name) => name.startsWith('RSA-'))];
const LIST = /-----BEGIN X509 CRL-----([^-]*)-----END X509 CRL-----/g;

/** What was read last: several parts of the proxy, and each reload, read the same text, and it may have hundreds of thousands of entries. */
let latestLists: { readonly pem: string; readonly lists: readonly (RevocationList | null)[] } = { pem: '', lists: [] };

/** Every list in a PEM text, in order; null for one that cannot be parsed. */
export function readRevocationLists(pem: string): readonly (RevocationList | null)[] {
  if (latestLists.pem !== pem) latestLists = { pem, lists: listsIn(pem).map(readList) };
  return latestLists.lists;
}

/** Whether the list with this index in a PEM text has been signed with this key. The algorithm is not read: one with which the signature is valid is enough. */
export function isListSignedWith(pem: string, index: number, key: KeyObject): boolean {
  const der = listsIn(pem)[index] ?? Buffer.alloc(0);
  const [signed, , signature] = partsOf(der);
  if (signed === undefined || signature?.tag !== BIT_STRING) return false;
  const content = der.subarray(signed.at, signed.to);
  // Its first byte counts bits that are not used.
  const bytes = der.subarray(signature.from + 1, signature.to);
  const paddings = key.asymmetricKeyType === 'rsa' ? RSA_PADDINGS : [undefined];
  return SIGNED_HASHES.some((hash) =>
    paddings.some((padding) => {
      try {
        return verify(hash, content, { key, padding }, bytes);
      } catch {
        // Not a combination for such a key.
        return false;
      }
    }),
  );
}

function listsIn(pem: string): Buffer[] {
  return [...pem.matchAll(LIST)].map(([, base64 = '']) => Buffer.from(base64, 'base64'));
}

/** When the first list in a PEM text is out of date, with no later issue of it beside it, ms since the epoch; null: none says so. */
export function firstListEnd(pem: string): number | null {
  const lists = readRevocationLists(pem).filter((list) => list !== null);
  const ends = lists.flatMap((list) => (isOutlasted(list, lists) ? [] : (list.until ?? [])));
  return ends.length === 0 ? null : Math.min(...ends);
}

/** Whether one of these is another issue of the list, and valid for longer. */
export function isOutlasted(list: RevocationList, lists: readonly RevocationList[]): boolean {
  return lists.some(({ series, until }) => series === list.series && (until ?? Infinity) > (list.until ?? Infinity));
}

/** Null: not a certificate. */
export function idOf({ raw }: { readonly raw: Buffer }): CertificateId | null {
  const [serial, , issuer] = certificateFields(raw);
  return serial?.tag === INTEGER && issuer?.tag === SEQUENCE
    ? { issuer: distinguishedName(raw, issuer), serial: numberOf(raw, serial) }
    : null;
}

/** Whether one of these lists that OpenSSL uses now contains the certificate. */
export function isRevoked(lists: readonly RevocationList[], { issuer, serial }: CertificateId): boolean {
  return lists.some((list) => list.issuer === issuer && list.revoked.has(serial) && !isSuperseded(list, lists, Date.now()));
}

/** By a later issue of it, or by one that is valid where it is not. */
function isSuperseded(list: RevocationList, lists: readonly RevocationList[], now: number): boolean {
  const isValid = ({ from, until }: RevocationList): boolean => from <= now && now < (until ?? Infinity);
  return lists.some((other) => {
    if (other.series !== list.series) return false;
    return isValid(other) === isValid(list) ? other.from > list.from : isValid(other);
  });
}

/** Whether a list is for the certificate of this authority. */
export function isListForAuthority({ scope, points }: RevocationList, { raw }: { readonly raw: Buffer }): boolean {
  return (scope === 'all' || scope === 'authorities') && (points.length === 0 || points.some((point) => raw.includes(point)));
}

/** Whether the key usage of a certificate (RFC 5280 §4.2.1.3), which Node does not show, permits this; null: it has none. */
export function isKeyFor({ raw }: { readonly raw: Buffer }, use: keyof typeof KEY_USES): boolean | null {
  const last = certificateFields(raw).at(-1);
  const extensions = last?.tag === EXPLICIT_3 ? listExtensions(raw, elementAt(raw, last.from, last.to)) : [];
  const usage = extensions.find(({ id }) => id === KEY_USAGE)?.value;
  // The first byte of a bit string counts bits that are not used.
  return usage?.tag === BIT_STRING ? ((raw[usage.from + 1] ?? 0) & KEY_USES[use]) !== 0 : null;
}

/** The name of an authority, as in `RevocationList.issuer`. Null: not a certificate. */
export function authorityNameOf({ raw }: { readonly raw: Buffer }): string | null {
  const [, , , , subject] = certificateFields(raw);
  return subject?.tag === SEQUENCE ? distinguishedName(raw, subject) : null;
}

/** RFC 5280 §5.1.2. */
function readList(der: Buffer): RevocationList | null {
  const fields = signedParts(der);
  if (fields === null) return null;
  const [, issuer, begin, ...more] = fields[0]?.tag === INTEGER ? fields.slice(1) : fields;
  const from = begin === undefined ? null : readTime(der, begin);
  if (issuer?.tag !== SEQUENCE || from === null) return null;
  const until = more[0] === undefined ? null : readTime(der, more[0]);
  const [entries] = until === null ? more : more.slice(1);
  const revoked = new Set<string>();
  const last = fields.at(-1);
  const extensions = listExtensions(der, last?.tag === EXPLICIT_0 ? elementAt(der, last.from, last.to) : null);
  let unknown = extensions.some(({ id, critical }) => critical && !OF_LISTS.has(id));
  const { from: first, to: end } = entries?.tag === SEQUENCE ? entries : { from: 0, to: 0 };
  for (let at = first; at < end;) {
    const entry = elementAt(der, at, end);
    const serial = entry === null ? null : elementAt(der, entry.from, entry.to);
    const date = entry === null || serial?.tag !== INTEGER ? null : elementAt(der, serial.to, entry.to);
    if (entry === null || serial === null || date === null) return null;
    at = entry.to;
    revoked.add(numberOf(der, serial));
    const more = date.to === entry.to ? null : elementAt(der, date.to, entry.to);
    unknown ||= more !== null && listExtensions(der, more).some(({ id, critical }) => critical && !CERTIFICATE_ISSUER.has(id));
  }
  const name = distinguishedName(der, issuer);
  const valueOf = (wanted: string): Element | null => extensions.find(({ id }) => id === wanted)?.value ?? null;
  const scope = scopeOf(der, valueOf(ISSUING_POINT));
  const key = valueOf(AUTHORITY_KEY);
  return {
    issuer: name,
    from,
    until,
    delta: extensions.some(({ id }) => id === DELTA_INDICATOR),
    unknown,
    ...scope,
    series: JSON.stringify([name, key === null ? '' : base64Of(der, key), scope]),
    revoked,
  };
}

/** RFC 5280 §5.2.5. @param point null: the list has none */
function scopeOf(der: Buffer, point: Element | null): Pick<RevocationList, 'scope' | 'points'> {
  const parts = point === null ? [] : (childrenOf(der, point) ?? []);
  const [users, authorities, ...unused] = ONLY.map((tag) => parts.some((part) => part.tag === tag && der[part.to - 1] !== 0));
  const names = parts.find(({ tag }) => tag === EXPLICIT_0);
  const [name] = names === undefined ? [] : (childrenOf(der, names) ?? []);
  return {
    scope: unused.includes(true) || (users && authorities) ? 'none' : users ? 'users' : authorities ? 'authorities' : 'all',
    // Copies: these do not keep the list, which may have megabytes.
    points: (name === undefined ? null : childrenOf(der, name))?.map(({ at, to }) => Buffer.from(der.subarray(at, to))) ?? [],
  };
}

/** RFC 5280 §4.1. @param list null: there are none */
function listExtensions(der: Buffer, list: Element | null): { id: string; critical: boolean; value: Element | null }[] {
  return (
    (list === null ? null : childrenOf(der, list))?.map((extension) => {
      const [id, critical, ...rest] = childrenOf(der, extension) ?? [];
      const value = rest[0] ?? critical;
      return {
        id: id === undefined ? '' : numberOf(der, id),
        critical: critical?.tag === BOOLEAN,
        value: value === undefined ? null : elementAt(der, value.from, value.to),
      };
    }) ?? []
  );
}

/** RFC 5280 §4.1: serial number, algorithm, issuer, validity, subject. Only the version, before them, is optional. */
function certificateFields(der: Buffer): readonly Element[] {
  const fields = signedParts(der) ?? [];
  return fields[0]?.tag === EXPLICIT_0 ? fields.slice(1) : fields;
}

/** Certificates and lists are both signed sequences: the signed content comes first, and these are its parts. */
function signedParts(der: Buffer): Element[] | null {
  const [signed] = partsOf(der);
  return signed?.tag === SEQUENCE ? childrenOf(der, signed) : null;
}

/** The signed content, the algorithm, and the signature. */
function partsOf(der: Buffer): Element[] {
  const whole = elementAt(der, 0, der.length);
  return (whole?.tag === SEQUENCE ? childrenOf(der, whole) : null) ?? [];
}

function childrenOf(der: Buffer, { from, to }: Element): Element[] | null {
  const children: Element[] = [];
  for (let at = from; at < to;) {
    const child = elementAt(der, at, to);
    if (child === null) return null;
    children.push(child);
    at = child.to;
  }
  return children;
}

/** Null: there is none that ends within `end`. */
function elementAt(der: Buffer, at: number, end: number): Element | null {
  if (at + 2 > end) return null;
  const tag = der.readUInt8(at);
  const first = der.readUInt8(at + 1);
  const width = first < 0x80 ? 0 : first & 0x7f;
  // 0x80 is an indefinite length, which DER does not have.
  if (first === 0x80 || width > 4 || at + 2 + width > end) return null;
  const from = at + 2 + width;
  const to = from + (width === 0 ? first : der.readUIntBE(at + 2, width));
  return to > end ? null : { tag, at, from, to };
}

/** Equal for names that OpenSSL takes for the same (RFC 5280 §7.1): types of text, case and repeated blanks do not matter. */
function distinguishedName(der: Buffer, name: Element): string {
  return JSON.stringify(
    childrenOf(der, name)?.map(
      (set) =>
        childrenOf(der, set)
          ?.map((pair) => comparable(der, pair))
          .sort() ?? base64Of(der, set),
    ) ?? base64Of(der, name),
  );
}

/** An attribute: its type, and its value. */
function comparable(der: Buffer, pair: Element): string {
  const [type, value] = childrenOf(der, pair) ?? [];
  const text = value === undefined ? null : readString(der, value);
  if (type === undefined || text === null) return base64Of(der, pair);
  return `${numberOf(der, type)} ${text
    .replaceAll(/[\t-\r ]+/g, ' ')
    .replaceAll(/^ | $/g, '')
    .replaceAll(/[A-Z]+/g, (letters) => letters.toLowerCase())}`;
}

/** Null: not of a type of text that names have. */
function readString(der: Buffer, { tag, from, to }: Element): string | null {
  if (tag === UTF8_STRING) return der.toString('utf8', from, to);
  const bytes = CHARACTER_BYTES.get(tag);
  if (bytes === undefined || (to - from) % bytes !== 0) return null;
  let text = '';
  for (let at = from; at < to; at += bytes) {
    const character = der.readUIntBE(at, bytes);
    if (character > LAST_CHARACTER) return null;
    text += String.fromCodePoint(character);
  }
  return text;
}

function base64Of(der: Buffer, { at, to }: Element): string {
  return der.toString('base64', at, to);
}

function numberOf(der: Buffer, { from, to }: Element): string {
  return der.toString('hex', from, to);
}

/** RFC 5280 §4.1.2.5: in UTC, to the second. Null: not a time. */
function readTime(der: Buffer, { tag, from, to }: Element): number | null {
  if (tag !== UTC_TIME && tag !== GENERALIZED_TIME) return null;
  const text = der.toString('latin1', from, to);
  const [, year = '', month = '', day = '', hour = '', minute = '', second = ''] =
    /^(\d{2}|\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/.exec(text) ?? [];
  if (year === '' || (year.length === 2) !== (tag === UTC_TIME)) return null;
  const full = year.length === 4 ? Number(year) : Number(year) + (Number(year) < 50 ? 2000 : 1900);
  return Date.UTC(full, Number(month) - 1, Number(day), Number(hour), Number(minute), Number(second));
}

/** Requests that a policy denied, or that passed in report mode only: from lines of the access log, or from `/denials` of a running proxy. */
import { FORMS, type Form } from '../config/config.ts';
import { type FaultCode, FAULTS } from '../errors.ts';
import type { AssumedClient } from '../explain/read-question.ts';

/** Requests that are the same to a policy, and their number; the client is a name, null where the peer was none. */
export interface SeenDenial extends AssumedClient {
  readonly form: Form;
  /** Null in a tunnel, as `path`. */
  readonly method: string | null;
  readonly path: string | null;
  readonly host: string;
  readonly port: number;
  /** Name of the destination; null: none was found. */
  readonly destination: string | null;
  /** `address-not-allowed`: the name resolved to an address that is not permitted. */
  readonly code: string;
  /** Client addresses, the first few. */
  readonly addresses: Set<string>;
  /** Addresses of the name, the first few; for requests that passed in report mode. */
  readonly upstreamAddresses: Set<string>;
  count: number;
  /** Ms since the epoch. */
  first: number;
  last: number;
}

/** Most kinds of requests that are distinguished; a scan of names has more, and is no evidence of a need. */
const MOST_KINDS = 20_000;
/** Most addresses kept for each. */
const MOST_KEPT_ADDRESSES = 100;

/** Collects denials. Bounded, however long the log is. */
export class SeenDenials {
  readonly #kinds = new Map<string, SeenDenial>();
  /** Lines that are no access lines. */
  otherLines = 0;
  accessLines = 0;
  /** Denials that are not counted below: there were too many kinds. */
  leftOut = 0;

  /** The most frequent first. */
  list(): SeenDenial[] {
    return [...this.#kinds.values()].sort((one, other) => other.count - one.count || one.first - other.first);
  }

  /** A line of the access log, as JSON, of any profile with its fields; others are counted and skipped. @returns false: a denial without a valid time or port, which is left out */
  addLine(line: string): boolean {
    if (line.trim() === '') return true;
    const fields = readObject(line);
    if (fields === null || !('durationMs' in fields)) {
      this.otherLines += 1;
      return true;
    }
    this.accessLines += 1;
    return this.#add(fields, Date.parse(stringOf(fields, 'time')), 1);
  }

  /** The body of `/denials`. @returns whether it is one */
  addAnswer(body: string): boolean {
    const answer = readObject(body);
    const latest = recordsOf(answer?.['latest']);
    const frequent = recordsOf(answer?.['frequent']);
    if (latest === null || frequent === null) return false;
    for (const record of latest) this.#add(record, Date.parse(stringOf(record, 'time')), 1);
    for (const { client, host, count, overcount, latest: record } of frequent) {
      if (!isObject(record) || typeof count !== 'number') continue;
      // After a scan, one request may be listed as dozens.
      const certain = count - (typeof overcount === 'number' ? overcount : 0);
      // Peers that are no client are counted by their address.
      const known = latest.filter(
        (one) => one['client'] === client && one['host'] === host && (client !== '-' || one['clientAddress'] === record['clientAddress']),
      ).length;
      // Those that are not among the latest are listed one by one; their other requests are not kept.
      if (certain > known) this.#add(record, Date.parse(stringOf(record, 'time')), certain - known);
    }
    return true;
  }

  #add(fields: Fields, time: number, count: number): boolean {
    const seen = readDenial(fields);
    if (seen === null) return true;
    if (seen === 'faulty' || Number.isNaN(time)) return false;
    const { client, form, method, host, port, path, user, subject, sans, code } = seen;
    const address = stringOf(fields, 'clientAddress');
    const key = JSON.stringify([client ?? address, user, subject, sans, form, method, host, port, path, code === 'address-not-allowed']);
    let kind = this.#kinds.get(key);
    if (kind === undefined) {
      if (this.#kinds.size >= MOST_KINDS) {
        this.leftOut += count;
        return true;
      }
      kind = { ...seen, addresses: new Set(), upstreamAddresses: new Set(), count: 0, first: time, last: time };
      this.#kinds.set(key, kind);
    }
    kind.count += count;
    kind.first = Math.min(kind.first, time);
    kind.last = Math.max(kind.last, time);
    if (kind.addresses.size < MOST_KEPT_ADDRESSES) kind.addresses.add(address);
    const led = stringOf(fields, 'upstreamAddress');
    if (led !== '' && led !== '-' && kind.upstreamAddresses.size < MOST_KEPT_ADDRESSES) kind.upstreamAddresses.add(led);
    return true;
  }
}

type Fields = Readonly<Record<string, unknown>>;

/** Whether the policy does not permit such a request. Others are refused for their content, or for exhausted limits: no change of the policy would help them. */
function isOfPolicy(code: string): boolean {
  const kind = Object.hasOwn(FAULTS, code) ? FAULTS[code as FaultCode] : null;
  return kind?.blame === 'policy' && kind.status === 403;
}

/** Null if the policy permitted it, or it was refused before its target was known; `faulty` without a valid port. */
function readDenial(fields: Fields): Omit<SeenDenial, 'addresses' | 'upstreamAddresses' | 'count' | 'first' | 'last'> | 'faulty' | null {
  const verdict = stringOf(fields, 'verdict');
  const form = FORMS.find((one) => one === fields['form']);
  const host = stringOf(fields, 'host');
  if ((verdict !== 'deny' && verdict !== 'report') || form === undefined || host === '' || host === '-') return null;
  const tunnel = form === 'connect' || form === 'sni';
  const known = (name: string): string | null => (stringOf(fields, name) === '' || fields[name] === '-' ? null : stringOf(fields, name));
  // In the log it is the code of the denial that was not enforced; in an answer, that is `code`.
  const code = known('wouldDeny') ?? stringOf(fields, 'code');
  if (!isOfPolicy(code)) return null;
  const { port } = fields;
  if (typeof port !== 'number' || !Number.isInteger(port) || port < 1 || port > 65_535) return 'faulty';
  return {
    client: known('client'),
    user: known('user'),
    subject: known('subject'),
    sans: (known('san') ?? '').split(' ').filter((name) => name !== ''),
    form,
    method: tunnel ? null : stringOf(fields, 'method'),
    path: tunnel ? null : stringOf(fields, 'path'),
    host,
    port,
    destination: known('destination'),
    code,
  };
}

function readObject(text: string): Fields | null {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : null;
  } catch {
    return null;
  }
}

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function recordsOf(value: unknown): Fields[] | null {
  return Array.isArray(value) && value.every(isObject) ? value : null;
}

function stringOf(fields: Fields, name: string): string {
  const value = fields[name];
  return typeof value === 'string' ? value : '';
}

/**
 * Whether whoever asks the admin port may have the answer. It has no
 * authentication, so a browser must not be talked into asking for a page of
 * somebody else: neither by a name of theirs that leads here (DNS rebinding)
 * nor by a request from their page.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';
import { Tally } from '../crowd.ts';

interface CallerRefusal {
  readonly reason: 'host' | 'cross-site';
  readonly status: 403 | 421;
  /** What to do about it. */
  readonly detail: string;
}

/** A name or address, in brackets for IPv6, and perhaps a port (RFC 9110 §7.2). */
const AUTHORITY = /^(?:\[([\da-f:.]+)\]|([^:[\]]+))(?::\d{0,5})?$/i;
const SINGLE_LABEL = /^[a-z\d_-]+$/;

/**
 * @param hosts names of the configuration, lower case, by which it may be asked besides
 * @returns null: it may have the answer
 */
export function refuseCaller(headers: IncomingHttpHeaders, hosts: readonly string[]): CallerRefusal | null {
  const { host, origin } = headers;
  // HTTP/1.0 needs none, and no browser speaks it.
  if (host !== undefined && !isOurs(host, hosts)) {
    return {
      reason: 'host',
      status: 421,
      detail: 'The admin port answers to its addresses, to localhost, and to names of the cluster (without a dot, or ending in .svc or .svc.cluster.local). Ask by one of these, or add the name to listeners.admin.hosts.',
    };
  }
  if (isCrossSite(headers) || (origin !== undefined && origin.toLowerCase() !== `http://${host ?? ''}`.toLowerCase())) {
    return { reason: 'cross-site', status: 403, detail: 'Another site has sent the browser here. Open the address by itself, without the page that leads to it.' };
  }
  return null;
}

/**
 * No public name is one of these, so that nobody else can point it here: an
 * address, a name without a dot, or one of Kubernetes' own.
 */
function isOurs(authority: string, hosts: readonly string[]): boolean {
  const [, literal, text = ''] = AUTHORITY.exec(authority) ?? [];
  if (literal !== undefined) return isIP(literal) === 6;
  const name = text.toLowerCase().replace(/\.$/, '');
  return isIP(name) === 4 || SINGLE_LABEL.test(name) || name.endsWith('.localhost') || name.endsWith('.svc') || name.endsWith('.svc.cluster.local') || hosts.includes(name);
}

/** Fetch Metadata (https://www.w3.org/TR/fetch-metadata/); programs send none of it. A link that somebody follows shows the page to nobody else. */
function isCrossSite({ 'sec-fetch-site': site, 'sec-fetch-mode': mode, 'sec-fetch-dest': destination }: IncomingHttpHeaders): boolean {
  if (site === undefined || site === 'same-origin' || site === 'none') return false;
  return !(mode === 'navigate' && destination === 'document');
}

interface QueueLimits {
  readonly atOnce: number;
  /** Under way and waiting. */
  readonly most: number;
  /** The same, of one caller. */
  readonly mostOfOne: number;
}

/** Work that takes its time: so much of it at once, the rest in order, and of one caller only a little. */
export class Queue {
  readonly #limits: QueueLimits;
  readonly #byCaller = new Tally();
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(limits: QueueLimits) {
    this.#limits = limits;
  }

  /** Resolves to what `work` does, when its time has come; rejects with what it rejects with. `busy`: it was not begun. */
  async run<T>(caller: string, work: () => Promise<T>): Promise<T | 'busy'> {
    const { atOnce, most, mostOfOne } = this.#limits;
    if (this.#byCaller.of(caller) >= mostOfOne || this.#running + this.#waiting.length >= most) return 'busy';
    this.#byCaller.add(caller);
    if (this.#running < atOnce) this.#running += 1;
    // Whoever ends hands its place over.
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running -= 1;
      else next();
      this.#byCaller.remove(caller);
    }
  }
}

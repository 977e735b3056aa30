/**
 * Whether a caller of the admin port may have the answer. The port has no
 * authentication, so a foreign web page must not make a browser call it:
 * neither by a name that resolves to this host (DNS rebinding) nor by a
 * cross-site request.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';
import { Tally } from '../crowd.ts';
import { type TakeTurn, takeTurns } from '../turns.ts';

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
 * @param hosts further names, from the configuration, by which it may be called, lower
 * case
 * @returns null: the caller may have the answer
 */
export function refuseCaller(headers: IncomingHttpHeaders, hosts: readonly string[]): CallerRefusal | null {
  const { host, origin } = headers;
  // HTTP/1.0 needs none, and browsers do not use it.
  if (host !== undefined && !isOurs(host, hosts)) {
    return {
      reason: 'host',
      status: 421,
      detail:
        'The admin port answers to its addresses, to localhost, and to names of the cluster (without a dot, or ending in .svc or .svc.cluster.local). Ask by one of these, or add the name to listeners.admin.hosts.',
    };
  }
  if (isCrossSite(headers) || (origin !== undefined && !isOwnOrigin(origin.toLowerCase(), host?.toLowerCase() ?? ''))) {
    return {
      reason: 'cross-site',
      status: 403,
      detail: 'Another site has sent the browser here. Open the address by itself, without the page that leads to it.',
    };
  }
  return null;
}

/**
 * None of these is a public name that others could point here: an address, a
 * name without a dot, or a name of Kubernetes.
 */
function isOurs(authority: string, hosts: readonly string[]): boolean {
  const [, literal, text = ''] = AUTHORITY.exec(authority) ?? [];
  if (literal !== undefined) return isIP(literal) === 6;
  const name = text.toLowerCase().replace(/\.$/, '');
  return (
    isIP(name) === 4 ||
    SINGLE_LABEL.test(name) ||
    name.endsWith('.localhost') ||
    name.endsWith('.svc') ||
    name.endsWith('.svc.cluster.local') ||
    hosts.includes(name)
  );
}

/** An Ingress in front may have terminated TLS. */
const isOwnOrigin = (origin: string, host: string): boolean => origin === `http://${host}` || origin === `https://${host}`;

/** Fetch Metadata (https://www.w3.org/TR/fetch-metadata/); programs do not send it. Following a link shows the page only to that user. */
function isCrossSite({ 'sec-fetch-site': site, 'sec-fetch-mode': mode, 'sec-fetch-dest': destination }: IncomingHttpHeaders): boolean {
  if (site === undefined || site === 'same-origin' || site === 'none') return false;
  return !(mode === 'navigate' && destination === 'document');
}

interface QueueLimits {
  readonly atOnce: number;
  /** Running and waiting. */
  readonly most: number;
  /** The same, of one caller. */
  readonly mostOfOne: number;
}

/** A queue for slow work: a limited number runs at once, the rest in order, with a lower limit per caller. */
export class Queue {
  readonly #limits: QueueLimits;
  readonly #byCaller = new Tally();
  readonly #takeTurn: TakeTurn;
  /** Running and waiting. */
  #size = 0;

  constructor(limits: QueueLimits) {
    this.#limits = limits;
    this.#takeTurn = takeTurns(limits.atOnce);
  }

  /** Runs `work` in its turn, and settles as it does. `busy`: it was not started. */
  async run<T>(caller: string, work: () => Promise<T>): Promise<T | 'busy'> {
    const { most, mostOfOne } = this.#limits;
    if (this.#byCaller.of(caller) >= mostOfOne || this.#size >= most) return 'busy';
    this.#byCaller.add(caller);
    this.#size += 1;
    try {
      return await this.#takeTurn(work);
    } finally {
      this.#size -= 1;
      this.#byCaller.remove(caller);
    }
  }
}

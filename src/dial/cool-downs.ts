/** The order of the parents of a hop: those that failed recently come last, until their cool-down is over. */
import { isDeepStrictEqual } from 'node:util';
import type { HopConfig, ParentConfig } from '../config/config.ts';
import { nameParent } from './hop-fault.ts';

/** For `CoolDowns`; `parent` is its name in messages. */
export interface CoolDownOptions {
  /** Monotonic clock, ms. */
  readonly now?: () => number;
  /** A parent failed, and is tried after the others; called once, until it is back. */
  readonly onFailed: (hop: HopConfig, parent: string, reason: string) => void;
  /** It works again. */
  readonly onBack: (hop: HopConfig, parent: string) => void;
}

interface Cooling {
  /** Its configuration when it failed: a parent changed since gets another try. */
  hop: HopConfig;
  until: number;
}

/** Outlasts a reload. Has no timer, so there is nothing to close. */
export class CoolDowns {
  readonly #options: CoolDownOptions;
  readonly #now: () => number;
  /** Only parents that failed and have not come back since. */
  readonly #cooling = new Map<string, Cooling>();

  constructor(options: CoolDownOptions) {
    this.#options = options;
    this.#now = options.now ?? performance.now.bind(performance);
  }

  /** All parents of the hop: in the order of the file, those that failed recently last. */
  order(hop: HopConfig): readonly ParentConfig[] {
    if (this.#cooling.size === 0 || hop.parents.length === 1) return hop.parents;
    const now = this.#now();
    const cools = (parent: ParentConfig): boolean => (this.#find(hop, parent)?.until ?? 0) > now;
    return [...hop.parents.filter((parent) => !cools(parent)), ...hop.parents.filter(cools)];
  }

  /** Its cool-down begins, or begins anew. `reason` goes into the notice. */
  failed(hop: HopConfig, parent: ParentConfig, reason: string): void {
    if (hop.coolDown === 0) return;
    const known = this.#find(hop, parent);
    const until = this.#now() + hop.coolDown;
    if (known !== null) {
      known.until = until;
      return;
    }
    this.#cooling.set(parentKey(hop, parent), { hop, until });
    this.#options.onFailed(hop, nameParent({ hop, parent }), reason);
  }

  /** One that works for some upstreams and fails for others would change with every request: it is back when its cool-down is over. */
  worked(hop: HopConfig, parent: ParentConfig): void {
    if (this.#cooling.size === 0) return;
    const known = this.#find(hop, parent);
    if (known === null || known.until > this.#now()) return;
    this.#cooling.delete(parentKey(hop, parent));
    this.#options.onBack(hop, nameParent({ hop, parent }));
  }

  #find(hop: HopConfig, parent: ParentConfig): Cooling | null {
    const known = this.#cooling.get(parentKey(hop, parent));
    if (known === undefined) return null;
    if (known.hop === hop) return known;
    if (isDeepStrictEqual(known.hop, hop)) {
      // Another object of the same content, after a reload: compared once.
      known.hop = hop;
      return known;
    }
    this.#cooling.delete(parentKey(hop, parent));
    return null;
  }
}

const parentKey = ({ name }: HopConfig, { scheme, host, port }: ParentConfig): string => `${name} ${scheme} ${host} ${port}`;

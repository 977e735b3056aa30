/** Finds the lists of certificate names that a subject alternative name fits: DNS names like hosts, URIs as text with stars. */
import { parseHost } from '../target/host.ts';
import { buildHostTable } from './host-table.ts';
import { buildPatternTable } from './pattern-table.ts';

export interface CertificateNames {
  /** `name` is `DNS:name` or `URI:uri`, as it stands in the certificate. Indexes of the lists, in no order. */
  find(name: string): readonly number[];
}

const NONE: readonly number[] = [];
const DNS = 'DNS:';

/** @param lists names of each list: `DNS:name`, `DNS:*.suffix`, `URI:uri` with `*` */
export function buildCertificateNames(lists: readonly (readonly string[])[]): CertificateNames {
  const hosts = buildHostTable(lists.map((names) => names.filter((name) => name.startsWith(DNS)).map((name) => name.slice(DNS.length))));
  const others = buildPatternTable(lists.map((names) => names.filter((name) => !name.startsWith(DNS))).entries(), '/:');
  return {
    find(name) {
      if (!name.startsWith(DNS)) return others.find(name);
      // A certificate for `*.example` is not the same as one for each name below it: parseHost takes no stars.
      const host = parseHost(name.slice(DNS.length));
      return host === null ? NONE : hosts.find(host);
    },
  };
}

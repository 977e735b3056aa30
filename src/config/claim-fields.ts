/**
 * Request fields that claim an identity or a purpose, set by front ends of a
 * server: a server that trusts them from its own front end would trust them
 * from our clients too. None is forwarded unless headers.keep names it. Names
 * are lower case, with `-` where a client may write `_`: CGI, WSGI and similar
 * interfaces cannot distinguish the two, and lighttpd's no other sign either.
 * docs/headers.md is held to this file by a test.
 */

/** Request fields that make one kind of claim. */
export interface ClaimFields {
  /** What the fields claim. */
  readonly claim: string;
  /** Exact names, and `prefix-*` for all names with the prefix. */
  readonly names: readonly string[];
}

/** All fields that are removed from requests unless `headers.keep` names them. */
export const CLAIM_FIELDS: readonly ClaimFields[] = [
  {
    claim: 'the address of the client',
    names: [
      'x-real-ip',
      'x-client-ip',
      'client-ip',
      'true-client-ip',
      'x-true-client-ip',
      'x-cluster-client-ip',
      'x-original-forwarded-for',
      'x-originating-ip',
      'x-remote-ip',
      'x-remote-addr',
      'remote-addr',
      'x-proxyuser-ip',
      'proxy-client-ip',
      'wl-proxy-client-ip',
      'http-client-ip',
      'http-x-forwarded-for',
      'forwarded-for',
      'x-forwarded',
      'cf-connecting-ip',
      'cf-connecting-ipv6',
      'cf-pseudo-ipv4',
      'do-connecting-ip',
      'fastly-client-ip',
      'fly-client-ip',
      'incap-client-ip',
      'x-sucuri-clientip',
      'x-nf-client-connection-ip',
      'x-vercel-forwarded-for',
      'x-appengine-user-ip',
      'x-azure-clientip',
      'x-azure-socketip',
      'x-envoy-external-address',
    ],
  },
  {
    claim: 'the certificate of the client, or that it came by TLS',
    names: [
      'client-cert',
      'client-cert-chain',
      'x-client-cert',
      'x-client-cert-*',
      'x-client-certificate',
      'x-client-verify',
      'x-client-dn',
      'x-clientcert',
      'x-clientcert-*',
      'x-tls-client-*',
      'x-ssl',
      'x-ssl-*',
      'ssl-client-*',
      'x-arr-clientcert',
      'x-arr-ssl',
      'x-amzn-mtls-*',
      'wl-proxy-client-*',
      'wl-proxy-ssl',
      'front-end-https',
      'x-url-scheme',
    ],
  },
  {
    claim: 'the user, and whatever else a proxy may say under X-Forwarded-',
    names: [
      'x-forwarded-*',
      'remote-user',
      'x-remote-user',
      'x-remote-group',
      'x-remote-extra-*',
      'x-authenticated-*',
      'x-auth-request-*',
      'x-webauth-*',
      'x-ms-client-principal',
      'x-ms-client-principal-*',
      'x-goog-authenticated-user-*',
      'x-goog-iap-jwt-assertion',
      'x-amzn-oidc-*',
      'x-appengine-*',
      'x-consumer-*',
      'x-credential-identifier',
      'x-anonymous-consumer',
    ],
  },
  {
    claim: 'another target than the one that was checked, or a proxy to use (httpoxy)',
    names: [
      'x-original-url',
      'x-rewrite-url',
      'x-original-host',
      'x-original-uri',
      'x-envoy-original-path',
      'x-envoy-original-dst-host',
      'x-host',
      'script-name',
      'path-info',
      'proxy',
    ],
  },
];

const ALL = CLAIM_FIELDS.flatMap(({ names }) => names);
const EXACT: ReadonlySet<string> = new Set(ALL.filter((name) => !name.endsWith('*')));
const PREFIXES = ALL.filter((name) => name.endsWith('*')).map((name) => name.slice(0, -1));

const OTHER_SIGN = /[^a-z0-9-]/;

/** One spelling for a field name, as for software that cannot distinguish `_` and other signs from `-`. */
export function fieldName(name: string): string {
  const lower = name.toLowerCase();
  return OTHER_SIGN.test(lower) ? lower.replaceAll(/[^a-z0-9]/g, '-') : lower;
}

/** Whether one of the patterns, exact or with a final `*`, matches this name; both as returned by `fieldName`. */
export function matchesField(patterns: readonly string[], name: string): boolean {
  return patterns.some((pattern) => (pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : pattern === name));
}

/** Whether a field of this name is one of those above; the name as returned by `fieldName`. */
export function isClaim(name: string): boolean {
  return EXACT.has(name) || PREFIXES.some((prefix) => name.startsWith(prefix));
}

/** Whether this name, or any name of this pattern, is one of those above. */
export function coversClaim(pattern: string): boolean {
  if (!pattern.endsWith('*')) return isClaim(pattern);
  const prefix = pattern.slice(0, -1);
  return isClaim(prefix) || ALL.some((name) => name.startsWith(prefix));
}

/** The commands that the demo prints: one per request form, refusals, and where to watch. */

/** Where the parts of a running demo are reached, as URLs and addresses with their port. */
export interface DemoPlaces {
  /** `http://127.0.0.1:8080`: the listener shown for the gateway and for steered requests. */
  readonly http: string;
  /** `http://127.0.0.1:3128`: the one shown as a proxy. */
  readonly proxy: string;
  /** `127.0.0.1:8443`: where TLS is routed by its server name. */
  readonly tls: string;
  readonly admin: string;
  /** `https://eco-sit.telus.internal:PORT`. */
  readonly ecoHttps: string;
  readonly ecoHttp: string;
  readonly caFile: string;
}

/** A command to paste, and its subject. */
export interface DemoCommand {
  /** Its subject: a request form, or another word. */
  readonly name: string;
  /** One line: what to expect. It is printed behind `#`, which zsh of macOS runs: no apostrophes, and nothing else that a shell acts on. */
  readonly expect: string;
  /** One line for a POSIX shell. */
  readonly command: string;
}

/** Proxy variables of the caller's shell, which curl would use against the demo's intention. */
export type ProxyEnvironment = Readonly<Record<string, string | undefined>>;

/** The commands for these places. `environment` has the proxy variables that curl must ignore. */
export function describeCommands(places: DemoPlaces, environment: ProxyEnvironment): DemoCommand[] {
  const { http, proxy, tls, admin, ecoHttps, ecoHttp } = places;
  const isSet = (...names: string[]): boolean => names.some((name) => (environment[name] ?? '') !== '');
  // curl(1): --noproxy overrides NO_PROXY, and '*' the proxy variables too.
  const viaProxy = `curl ${isSet('no_proxy', 'NO_PROXY') ? "--noproxy '' " : ''}--proxy ${proxy}`;
  const direct = `curl${isSet('http_proxy', 'https_proxy', 'HTTPS_PROXY', 'all_proxy', 'ALL_PROXY') ? " --noproxy '*'" : ''}`;
  const ca = `--cacert ${quoteForShell(places.caFile)}`;

  return [
    {
      name: 'connect',
      expect: 'a tunnel, with TLS between curl and ECO: ECO answers "status": "ok" over "tls": true',
      command: `${viaProxy} ${ca} ${ecoHttps}/api/status`,
    },
    {
      name: 'forward',
      expect: 'plain HTTP through the proxy: the metrics of ECO, eco_sit_requests_total, not those of the proxy',
      command: `${viaProxy} ${ecoHttp}/metrics`,
    },
    {
      name: 'gateway',
      expect: 'below /eco, without any proxy setting: ECO answers for "path": "/api/status" over "tls": true',
      command: `${direct} ${http}/eco/api/status`,
    },
    {
      name: 'host-routed',
      expect: 'a request that a mesh has steered here, recognised by its Host: ECO answers over "tls": false',
      command: `${direct} -H 'Host: ${new URL(ecoHttp).host}' ${http}/api/status`,
    },
    {
      name: 'sni',
      expect: 'raw TLS that a mesh has steered here, known by its server name and passed on: the certificate of ECO itself, "tls": true',
      command: `${direct} ${ca} --connect-to ${new URL(ecoHttps).host}:${tls} ${ecoHttps}/api/status`,
    },
    {
      name: 'gateway with a body',
      expect: 'a POST: ECO sends the same body back',
      command: `${direct} -H 'Content-Type: application/json' --data '{"problem":"P-1"}' ${http}/eco/echo`,
    },
    {
      name: 'refused',
      expect: '"403 Egress denied: host-not-allowed", and what would have to change',
      command: `${viaProxy} -i http://evil.example/`,
    },
    {
      name: 'refused tunnel',
      expect: 'the same for a tunnel: curl fails, and the status line says why',
      command: `${viaProxy} -i https://evil.example/`,
    },
    {
      name: 'metrics',
      expect: 'the proxy counted all of it: eco_egress_requests_total by form, destination, client, outcome and code',
      command: `${direct} -s ${admin}/metrics | grep eco_egress_requests_total`,
    },
    {
      name: 'readiness',
      expect: '200: the listeners are bound and the policy is loaded',
      command: `${direct} -i ${admin}/readyz`,
    },
  ];
}

function quoteForShell(word: string): string {
  return /^[\w./:-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}

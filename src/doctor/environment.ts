/** The variables of this process that make programs use a proxy, or keep them from it, and the usual mistakes in them. */
import { isIP } from 'node:net';
import { readPeerChain } from '../dial/peer-chain.ts';
import { Fault } from '../errors.ts';
import { answersHttp, entryWithAddress, hidingEntry, hidingJavaEntry } from './answers.ts';
import type { Tools } from './examination.ts';
import { fail, type DoctorFinding, ok, skipped, warn } from './finding.ts';
import { readProxyUrl, showProxy, showWritten } from './proxy-address.ts';

/** Checks the proxy variables: values that contradict each other, partners that NO_PROXY excludes, `https://` for a plain port. Never empty. */
export async function checkEnvironment(surroundings: EnvironmentFacts, tools: Tools): Promise<DoctorFinding[]> {
  const { env } = surroundings;
  const found = [
    ...findMistakes(surroundings),
    ...(await findHiddenAddresses(surroundings, tools)),
    ...(await findPlainPorts(surroundings, tools)),
  ];
  if (found.length > 0) return found;
  return [
    usesProxy(env) ? ok('', 'the proxy variables agree, and hide no partner') : skipped('', 'no proxy variable is set in this environment'),
  ];
}

/** Only the partner's addresses show that Ruby bypasses the proxy. */
async function findHiddenAddresses({ env, partners }: EnvironmentFacts, tools: Tools): Promise<DoctorFinding[]> {
  if (!usesProxy(env)) return [];
  const lists = spellings(env, 'NO_PROXY');
  const names = [...new Set(partners.map(({ host }) => host))].filter((host) => isIP(host) === 0);
  const resolved = await Promise.all(
    lists.length === 0 ? [] : names.map(async (host) => ({ host, addresses: await tools.resolve(host).catch(() => []) })),
  );
  return lists.flatMap(({ name, value }) =>
    resolved.flatMap(({ host, addresses }) => {
      const [found] = addresses.flatMap((address) => {
        const entry = entryWithAddress(value, address);
        return entry === null ? [] : [{ address, entry }];
      });
      if (found === undefined) return [];
      const { address, entry } = found;
      return [
        warn(
          name,
          'no-proxy-address-hides-partner',
          `its entry ${entry} covers ${address}, an address of ${host}: Ruby looks the name up first, and goes there directly`,
          `For Ruby, take ${entry} out of it, or write ranges that ${host} is not in: docs/clients/README.md.`,
        ),
      ];
    }),
  );
}

/** The commonest of all: https:// means TLS with the proxy, not with the target. */
async function findPlainPorts({ env, partners: [partner] }: EnvironmentFacts, tools: Tools): Promise<DoctorFinding[]> {
  if (partner === undefined) return [];
  const written = Map.groupBy(proxies(env), ({ value }) => value);
  return (
    await Promise.all(
      [...written].map(([value, variables]) =>
        tryPlainPort(
          value,
          variables.map(({ name }) => name),
          partner,
          tools,
        ),
      ),
    )
  ).flat();
}

/** @param variables names of those that have this value */
async function tryPlainPort(
  value: string,
  variables: readonly string[],
  partner: EnvironmentFacts['partners'][number],
  tools: Tools,
): Promise<DoctorFinding[]> {
  const read = readProxyUrl(value);
  if (typeof read === 'string' || read.scheme !== 'https') return [];
  const { host, port } = read;
  try {
    const addresses = await tools.resolve(host);
    try {
      await readPeerChain({ socket: await tools.connect(host, port, addresses), host, port, timeout: tools.timeout });
      return [];
    } catch (error) {
      if (Fault.from(error).code !== 'tls-failed') throw error;
    }
    const plain = await answersHttp(await tools.connect(host, port, addresses), {
      ...partner,
      credentials: read.credentials,
      timeout: tools.timeout,
    });
    return plain
      ? [
          fail(
            variables.join(', '),
            'https-proxy-on-plain-port',
            `${showProxy(read)} asks for TLS with the proxy, and port ${port} speaks plain HTTP`,
            `Write http://${showProxy(read).slice('https://'.length)}: also for https:// destinations.`,
          ),
        ]
      : [];
  } catch {
    // Not reached at all: other checks report that.
    return [];
  }
}

type Env = Readonly<Record<string, string | undefined>>;

interface EnvironmentFacts {
  readonly env: Env;
  /** Hosts and ports that should use the proxy. */
  readonly partners: readonly { readonly host: string; readonly port: number }[];
}

type FindMistake = (surroundings: EnvironmentFacts) => readonly DoctorFinding[];

const PROXIES = ['HTTPS_PROXY', 'HTTP_PROXY', 'ALL_PROXY'] as const;
const PAIRS = [...PROXIES, 'NO_PROXY'] as const;
/** What a pod needs besides the partner, without the proxy: docs/clients. */
const DIRECT_SAMPLES = ['169.254.169.254', 'metadata.google.internal', 'localhost', 'any.svc', 'any.cluster.local'] as const;

/** Both spellings of a variable that are set and not empty, upper case first. */
function spellings(env: Env, name: string): { readonly name: string; readonly value: string }[] {
  return [name, name.toLowerCase()].flatMap((spelling) => {
    const value = env[spelling];
    return value === undefined || value === '' ? [] : [{ name: spelling, value }];
  });
}

const proxies = (env: Env): { readonly name: string; readonly value: string }[] => PROXIES.flatMap((name) => spellings(env, name));

function usesProxy(env: Env): boolean {
  return proxies(env).length > 0;
}

function javaOptions(env: Env): ReadonlyMap<string, string> | null {
  const text = [env['JAVA_TOOL_OPTIONS'], env['JDK_JAVA_OPTIONS'], env['_JAVA_OPTIONS']]
    .filter((value) => value !== undefined && value !== '')
    .join(' ');
  if (text === '') return null;
  return new Map(
    [...text.matchAll(/-D([\w.]+)=("[^"]*"|'[^']*'|\S*)/g)].map(([, key = '', value = '']) => [key, value.replaceAll(/["']/g, '')]),
  );
}

/** The usual mistakes in the variables that make programs use a proxy: one function each. Pure. */
const MISTAKES: readonly FindMistake[] = [
  ({ env }) =>
    proxies(env).flatMap(({ name, value }) => {
      const read = readProxyUrl(value);
      return typeof read === 'string'
        ? [
            fail(
              name,
              'proxy-url-malformed',
              `${showWritten(value)} ${read}`,
              'Write it like http://eco-egress.eco-egress.svc:3128, also for https:// destinations.',
            ),
          ]
        : [];
    }),
  ({ env }) =>
    proxies(env).flatMap(({ name, value }) => {
      const read = readProxyUrl(value);
      return typeof read !== 'string' && read.written === null
        ? [
            warn(
              name,
              'proxy-scheme-missing',
              `${showWritten(value)} has no scheme: curl and Go guess http, others refuse it`,
              `Write http://${showWritten(value)}.`,
            ),
          ]
        : [];
    }),
  ({ env }) =>
    PAIRS.flatMap((pair) => {
      const [upper, lower] = spellings(env, pair);
      if (upper === undefined || lower === undefined || upper.value === lower.value) return [];
      return [
        fail(
          `${upper.name}, ${lower.name}`,
          'variables-differ',
          'differ: Go takes the upper case first, curl and Python the lower',
          'Give both the same value.',
        ),
      ];
    }),
  ({ env }) =>
    PAIRS.flatMap((pair) => {
      const [one, other] = spellings(env, pair);
      if (one === undefined || other !== undefined) return [];
      const missing = one.name === pair ? pair.toLowerCase() : pair;
      return [
        warn(
          one.name,
          'variable-in-one-case',
          `is set, and ${missing} is not: programs differ in which they read`,
          `Set ${missing} to the same value.`,
        ),
      ];
    }),
  ({ env, partners }) =>
    spellings(env, 'NO_PROXY').flatMap(({ name, value }) =>
      hosts(partners).flatMap(({ host, port }) => {
        const entry = hidingEntry(value, host, port);
        return entry === null
          ? []
          : [
              fail(
                name,
                'no-proxy-hides-partner',
                `its entry ${entry} makes programs go to ${host} directly`,
                `Take ${entry} out of it, or write names that ${host} is not under.`,
              ),
            ];
      }),
    ),
  ({ env }) => {
    if (!usesProxy(env)) return [];
    const entries = spellings(env, 'NO_PROXY')
      .map(({ value }) => value)
      .join(',');
    const missing = DIRECT_SAMPLES.filter((host) => hidingEntry(entries, host, 80) === null).map((host) => host.replace(/^any/, ''));
    return missing.length === 0
      ? []
      : [
          warn(
            'NO_PROXY',
            'no-proxy-incomplete',
            `lacks ${missing.join(', ')}: what is asked for there goes to the proxy, which refuses it`,
            `Add ${missing.join(',')}.`,
          ),
        ];
  },
  ({ env }) => {
    const options = javaOptions(env);
    if (options === null)
      return usesProxy(env)
        ? [
            warn(
              'JAVA_TOOL_OPTIONS',
              'java-ignores-proxy',
              'is not set: Java ignores HTTPS_PROXY and connects directly',
              'For Java, set -Dhttps.proxyHost and -Dhttps.proxyPort in it: docs/clients/java.md.',
            ),
          ]
        : [];
    if ((options.get('https.proxyHost') ?? '') !== '' || !usesProxy(env)) return [];
    return [
      fail(
        'JAVA_TOOL_OPTIONS',
        'java-ignores-proxy',
        'has no -Dhttps.proxyHost: Java ignores HTTPS_PROXY and connects directly',
        'Add -Dhttps.proxyHost=HOST -Dhttps.proxyPort=PORT, and the same for http.',
      ),
    ];
  },
  ({ env }) => {
    const options = javaOptions(env) ?? new Map<string, string>();
    return ['https', 'http'].flatMap((scheme) => {
      const host = options.get(`${scheme}.proxyHost`) ?? '';
      const port = options.get(`${scheme}.proxyPort`);
      if (host === '') return [];
      if (/[/:]/.test(host) && !/^\[.*\]$/.test(host))
        return [
          fail(
            'JAVA_TOOL_OPTIONS',
            'java-proxy-malformed',
            `-D${scheme}.proxyHost=${showWritten(host)} is more than a host`,
            `Write the host alone, and the port in -D${scheme}.proxyPort.`,
          ),
        ];
      if (port === undefined || !/^\d{1,5}$/.test(port))
        return [
          fail(
            'JAVA_TOOL_OPTIONS',
            'java-proxy-malformed',
            `-D${scheme}.proxyHost has no -D${scheme}.proxyPort: Java takes ${scheme === 'https' ? 443 : 80}`,
            `Add -D${scheme}.proxyPort=3128.`,
          ),
        ];
      return [];
    });
  },
  ({ env, partners }) => {
    const list = javaOptions(env)?.get('http.nonProxyHosts') ?? '';
    return hosts(partners).flatMap(({ host }) => {
      const entry = hidingJavaEntry(list, host);
      return entry === null
        ? []
        : [
            fail(
              'JAVA_TOOL_OPTIONS',
              'java-hides-partner',
              `the entry ${entry} of -Dhttp.nonProxyHosts makes Java go to ${host} directly`,
              `Take ${entry} out of it.`,
            ),
          ];
    });
  },
  ({ env }) => {
    const obeys = env['NODE_USE_ENV_PROXY'] === '1' || (env['NODE_OPTIONS'] ?? '').includes('--use-env-proxy');
    return !usesProxy(env) || obeys
      ? []
      : [
          warn(
            'NODE_USE_ENV_PROXY',
            'node-ignores-proxy',
            'is not 1: Node ignores HTTPS_PROXY and connects directly',
            'For Node, set NODE_USE_ENV_PROXY=1 (since 22.21 and 24.5): docs/clients/node.md.',
          ),
        ];
  },
];

/** In the order of the table. */
export function findMistakes(surroundings: EnvironmentFacts): DoctorFinding[] {
  return MISTAKES.flatMap((find) => find(surroundings));
}

/** Each host once. */
function hosts(partners: EnvironmentFacts['partners']): EnvironmentFacts['partners'] {
  return [...new Map(partners.map((partner) => [partner.host, partner])).values()];
}

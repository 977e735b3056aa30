/**
 * The configuration file: its keys, their values and defaults. Defaults are
 * written as a person would write them. docs/configuration.md is held to this
 * file by a test.
 *
 * Longer than 400 lines: it is a table of all keys.
 */
import * as z from 'zod';
import { type Form, FORMS, GATEWAY_REWRITES, HTTP_FORMS, PEER_HEADERS } from './config.ts';
import {
  readAddress,
  readCidr,
  readCollectorUrl,
  readDnsServer,
  readField,
  readHostPattern,
  readListenAddress,
  readParentUrl,
  readProbeUrl,
  readServerName,
} from './read-address.ts';
import {
  readCertificateName,
  readClaim,
  readDroppedField,
  readGatewayUrl,
  readJwksUrl,
  readKeptField,
  readMethod,
  readPasswordHash,
  readPathPattern,
  readPrefix,
  readSubject,
  readUser,
} from './read-sections.ts';
import { showValue } from './finding.ts';
import { readRate } from './read-rate.ts';
import {
  type InvalidValue,
  invalidValue,
  type Read,
  readDuration,
  readInteger,
  readEvery,
  readLabel,
  readOneLine,
  readMoment,
  readName,
  readNamespace,
  readPort,
  readPorts,
  readShare,
  readSize,
  readText,
} from './read-scalar.ts';

/** A finding inside a schema issue: problem and advice are its two lines. */
export const ADVICE_SEPARATOR = '\n';

/** The reader of a value, and of each value of a list: the JSON Schema of the file is derived from it. */
export const READERS = new WeakMap<z.core.$ZodType, (value: unknown) => Read<unknown>>();

/** One value, by a reader of single values. */
export function scalar<T>(read: (value: unknown) => Read<T>) {
  const schema = z.unknown().transform((value, context): T => {
    const result = read(value);
    return 'value' in result ? result.value : raise(context, value, result, []);
  });
  READERS.set(schema, read);
  return schema;
}

function raise(
  context: z.core.$RefinementCtx,
  input: unknown,
  { problem, instead, hidden = false }: InvalidValue,
  path: PropertyKey[],
): never {
  context.issues.push({ code: 'custom', input, path, message: `${problem}${ADVICE_SEPARATOR}${instead}`, params: { hidden } });
  return z.NEVER;
}

/** For a list schema, the one that returns undefined for a faulty item. */
export const LENIENT = new WeakMap<z.ZodType, z.ZodType>();

/** A list; one text with commas counts as one, so a whole list fits into one variable. */
function listOf<T extends z.ZodType>(item: T) {
  const list = z.preprocess(splitText, z.array(item).min(1));
  LENIENT.set(list, z.preprocess(splitText, z.array(item.optional().catch(undefined))));
  return list;
}

/** A list of single values. It may have tens of thousands, so they are read in one step: one schema call for each takes five times as long. */
export function valuesOf<T>(read: (value: unknown) => Read<T>) {
  const list = z.preprocess(
    splitText,
    z
      .array(z.unknown())
      .min(1)
      .transform((items, context): T[] =>
        items.map((item, index) => {
          const result = read(item);
          return 'value' in result
            ? result.value
            : raise(context, item, { ...result, instead: adviseParts(item, read) ?? result.instead }, [index]);
        }),
      ),
  );
  const orUndefined = (item: unknown): T | undefined => {
    const result = read(item);
    return 'value' in result ? result.value : undefined;
  };
  LENIENT.set(
    list,
    z.preprocess(
      splitText,
      z.array(z.unknown()).transform((items) => items.map(orUndefined)),
    ),
  );
  READERS.set(list, read);
  return list;
}

/** For several values in one text without commas, as lists are written elsewhere, and for one with quotes, brackets or a comma of another notation around it. */
function adviseParts(item: unknown, read: (value: unknown) => Read<unknown>): string | null {
  const parts = typeof item === 'string' ? item.split(/[\s,;|"'`[\]\p{Pi}\p{Pf}]+/u).filter((part) => part !== '') : [];
  // YAML joins lines that begin with a dash in another column than the first, or have no blank after it.
  const entries = parts.map((part) => part.replace(/^-/, '')).filter((part) => part !== '');
  if (entries.join() !== parts.join() && entries.every((part) => 'value' in read(part)))
    return 'Write each entry on a line of its own, after "- ", all in the same column.';
  if (!parts.every((part) => 'value' in read(part))) return null;
  return parts.length > 1
    ? `Write a comma between two: ${parts.slice(0, 2).join(', ')}.`
    : parts.length === 1
      ? `Write it alone: ${parts.join('')}.`
      : null;
}

/** Other words for `off`: tools that read YAML 1.1 write false in its place, and templates nothing. */
const isNo = (value: unknown): boolean =>
  value === false || (typeof value === 'string' && ['', 'false', 'no', 'none'].includes(value.trim()));

/** A list that may be empty; `off` is the empty one, also in a variable. */
function listOrOff<T extends z.ZodType>(item: T) {
  const split = (value: unknown): unknown => (value === 'off' ? [] : splitText(value));
  const list = z.preprocess(
    (value, context) =>
      isNo(value)
        ? raise(context, value, invalidValue(`${showValue(value)} is not possible here.`, 'Write off for none.'), [])
        : split(value),
    z.array(item),
  );
  LENIENT.set(list, z.preprocess(split, z.array(item.optional().catch(undefined))));
  return list;
}

/** A list of mappings, which cannot be written as one text with commas. */
export function entriesOf<T extends z.ZodType>(item: T) {
  const list = z.array(item).min(1);
  LENIENT.set(list, z.array(item.optional().catch(undefined)));
  return list;
}

/** A key that a mapping requires depending on its other keys: `missing` returns it if it is missing, or null. */
function needs<T extends z.ZodType>(mapping: T, missing: (value: z.output<T>) => string | null): T {
  return mapping.check((context) => {
    const key = missing(context.value);
    if (key !== null) context.issues.push({ code: 'custom', input: undefined, path: [key], message: '' });
  });
}

/** Secrets, which are never shown. */
export const SECRETS = new WeakSet<z.core.$ZodType>();

function secret<T extends z.ZodType>(schema: T): T {
  SECRETS.add(schema);
  return schema;
}

function splitText(value: unknown): unknown {
  if (typeof value === 'string')
    return value
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== '');
  return typeof value === 'number' ? [value] : value;
}

const duration = scalar(readDuration('positive'));
const durationOrZero = scalar(readDuration('zero'));
const amount = scalar(readInteger(1, 1_000_000));
const name = scalar(readName);
const formsOf = <const Forms extends readonly Form[]>(forms: Forms) => listOf(z.enum(forms)).prefault([...forms]);
const headerMode = z.enum(['off', 'pass', 'append']).prefault('off');

/** Written as its address only, or as a mapping. */
function listenerOf<const Forms extends readonly Form[]>(forms: Forms) {
  return z.preprocess(
    (value) => (typeof value === 'object' && value !== null ? value : { address: value }),
    needs(
      z.strictObject({
        address: scalar(readListenAddress),
        forms: formsOf(forms),
        trustedPeers: valuesOf(readCidr).optional(),
        proxyProtocol: z.enum(['off', 'from-trusted']).prefault('off'),
        believe: listOf(z.enum(PEER_HEADERS)).optional(),
      }),
      // Otherwise any peer's claim would be trusted.
      ({ trustedPeers, proxyProtocol, believe }) =>
        trustedPeers === undefined && (proxyProtocol !== 'off' || believe !== undefined) ? 'trustedPeers' : null,
    ),
  );
}

/** Likewise. */
const adminListener = z.preprocess(
  (value) => (typeof value === 'object' && value !== null ? value : { address: value }),
  z.strictObject({ address: scalar(readListenAddress), hosts: valuesOf(readServerName).optional() }),
);

/** Keys of `listeners`. */
export const LISTENERS = {
  http: listOf(listenerOf(HTTP_FORMS)).prefault(['0.0.0.0:8080', '0.0.0.0:3128']),
  tls: listOrOff(listenerOf(FORMS)).prefault(['0.0.0.0:8443']),
  admin: adminListener.prefault('0.0.0.0:9090'),
};

/** Keys of `tlsServer`. */
export const TLS_SERVER = {
  names: valuesOf(readServerName).optional(),
  certFile: scalar(readText).optional(),
  keyFile: scalar(readText).optional(),
  clientCaFile: scalar(readText).optional(),
  crlFile: scalar(readText).optional(),
  clientCertificate: z.enum(['none', 'request', 'require']).prefault('none'),
};

/** All keys may be absent together, so the whole section can be left to variables. */
const tlsServer = needs(z.strictObject(TLS_SERVER), ({ names, certFile, keyFile, clientCaFile, crlFile, clientCertificate }) => {
  if ((clientCertificate !== 'none' || crlFile !== undefined) && clientCaFile === undefined) return 'clientCaFile';
  if (names === undefined) return certFile !== undefined || keyFile !== undefined || clientCaFile !== undefined ? 'names' : null;
  if (certFile === undefined) return 'certFile';
  return keyFile === undefined ? 'keyFile' : null;
});

const token = needs(
  z.strictObject({
    issuer: scalar(readClaim),
    audience: scalar(readClaim),
    subjects: valuesOf(readSubject),
    jwksFile: scalar(readText).optional(),
    jwksUrl: scalar(readJwksUrl).optional(),
  }),
  ({ jwksFile, jwksUrl }) => (jwksFile === undefined && jwksUrl === undefined ? 'jwksFile' : null),
);

/** Keys of an entry of `clients`. */
export const CLIENT = {
  addresses: valuesOf(readCidr).optional(),
  basic: entriesOf(z.strictObject({ user: scalar(readUser), hash: secret(scalar(readPasswordHash)) })).optional(),
  tokens: entriesOf(token).optional(),
  certificates: valuesOf(readCertificateName).optional(),
};

const client = needs(z.strictObject(CLIENT), (kinds) => (Object.values(kinds).every((kind) => kind === undefined) ? 'addresses' : null));

const upstreamTls = z
  .strictObject({
    caFile: scalar(readText).optional(),
    certFile: scalar(readText).optional(),
    keyFile: scalar(readText).optional(),
    serverName: scalar(readServerName).optional(),
  })
  .prefault({});

/** cross-check.ts resolves the names. */
const via = valuesOf(readText).optional();

const failureCount = scalar(readInteger(1, 1000));

/** Keys of `circuitBreaker`. */
export const CIRCUIT_BREAKER = {
  enabled: z.boolean().prefault(true),
  failures: failureCount.prefault(10),
  over: durationOrZero.prefault('2s'),
  pause: duration.prefault('1s'),
  longestPause: duration.prefault('30s'),
};

/** Keys missing in a destination are taken from the common section. */
const ownCircuitBreaker = z
  .strictObject({
    enabled: z.boolean().optional(),
    failures: failureCount.optional(),
    over: durationOrZero.optional(),
    pause: duration.optional(),
    longestPause: duration.optional(),
    statuses: valuesOf(readInteger(400, 599)).optional(),
  })
  .prefault({});

/** Keys of an entry of `destinations`. */
export const DESTINATION = {
  hosts: valuesOf(readHostPattern),
  ports: valuesOf(readPorts),
  addresses: valuesOf(readCidr).optional(),
  forms: formsOf(FORMS),
  gateway: z
    .strictObject({
      prefix: scalar(readPrefix),
      url: scalar(readGatewayUrl),
      rewrite: listOrOff(z.enum(GATEWAY_REWRITES)).prefault([...GATEWAY_REWRITES]),
      encodedSlashes: z.enum(['allow', 'refuse']).prefault('refuse'),
    })
    .optional(),
  http: z.strictObject({ methods: valuesOf(readMethod).optional(), paths: valuesOf(readPathPattern).optional() }).prefault({}),
  tls: upstreamTls,
  report: z.boolean().prefault(false),
  tunnelSni: z.enum(['require', 'report', 'off']).prefault('report'),
  upgradePlainHttp: scalar(readPort).optional(),
  via,
  resolve: z.enum(['here', 'parent']).prefault('here'),
  proxyProtocol: z.enum(['off', 'v1', 'v2']).prefault('off'),
  gateReadiness: z.boolean().prefault(false),
  circuitBreaker: ownCircuitBreaker,
};

/** Keys of an entry of `hops`. */
export const HOP = {
  url: valuesOf(readParentUrl),
  addresses: valuesOf(readCidr).optional(),
  credentialsFile: scalar(readText).optional(),
  tls: upstreamTls,
  connect: duration.prefault('5s'),
  coolDown: durationOrZero.prefault('30s'),
};

/** Keys of `sourceIp.probe`. */
export const PROBE = {
  url: scalar(readProbeUrl).optional(),
  every: duration.prefault('60s'),
  timeout: duration.prefault('10s'),
  field: scalar(readField).optional(),
  via,
  addresses: valuesOf(readCidr).optional(),
  tls: upstreamTls,
};

/** Keys of `sourceIp`. */
export const SOURCE_IP = {
  expected: valuesOf(readAddress).optional(),
  probe: z.strictObject(PROBE).prefault({}),
  gateReadiness: z.boolean().prefault(false),
};

const nat = z.strictObject({
  ports: scalar(readInteger(1, 64_512)).optional(),
  replicasPerNode: scalar(readInteger(1, 1000)).prefault(1),
  timeWait: durationOrZero.prefault('120s'),
  whenExhausted: z.enum(['refuse', 'queue']).prefault('refuse'),
  queueFor: duration.prefault('5s'),
});

/** Limits of one scope; without any, nothing would be limited. */
const rateLimits = needs(
  z.strictObject({
    requests: scalar(readRate('count')).optional(),
    tunnels: scalar(readRate('count')).optional(),
    sent: scalar(readRate('bytes')).optional(),
    received: scalar(readRate('bytes')).optional(),
  }),
  (limits) => (Object.values(limits).every((limit) => limit === undefined) ? 'requests' : null),
);

const rate = needs(
  z.strictObject({
    perAddress: rateLimits.optional(),
    perClient: rateLimits.optional(),
    whenExhausted: z.enum(['refuse', 'cut']).prefault('refuse'),
  }),
  ({ perAddress, perClient }) => (perAddress === undefined && perClient === undefined ? 'perAddress' : null),
);

/** cross-check.ts resolves the names. */
export const RULE = {
  clients: valuesOf(readText),
  destinations: valuesOf(readText),
  methods: valuesOf(readMethod).optional(),
  paths: valuesOf(readPathPattern).optional(),
  from: scalar(readMoment).optional(),
  until: scalar(readMoment).optional(),
  owner: scalar(readOneLine(64)).optional(),
  reason: scalar(readOneLine(300)).optional(),
  ticket: scalar(readOneLine(64)).optional(),
  report: z.boolean().prefault(false),
  rate: rate.optional(),
};

const reload = z.strictObject({
  watch: z.boolean().prefault(true),
  refuseIfDenies: z.boolean().prefault(false),
  remember: scalar(readInteger(0, 100_000)).prefault(1000),
});

const dns = z.strictObject({
  servers: valuesOf(readDnsServer).optional(),
  ttl: durationOrZero.prefault('30s'),
  staleFor: durationOrZero.prefault('1h'),
});

const headers = z.strictObject({
  via: z.boolean().prefault(true),
  forwarded: headerMode,
  xForwarded: headerMode,
  drop: valuesOf(readDroppedField).optional(),
  keep: valuesOf(readKeptField).optional(),
});

const limits = z.strictObject({
  connections: amount.prefault(4000),
  connectionsPerClient: amount.prefault(1000),
  tunnels: amount.prefault(2000),
  tunnelsPerClient: amount.prefault(500),
  exchanges: amount.prefault(1000),
  exchangesPerClient: amount.prefault(500),
  headerBytes: scalar(readSize(1, 1024)).prefault('64KiB'),
  headerFields: scalar(readInteger(1, 10_000)).prefault(500),
  upstreamConnections: scalar(readInteger(1, 64_512)).prefault(256),
  upstreamQueue: scalar(readInteger(0, 1_000_000)).prefault(1000),
  loopDelay: durationOrZero.prefault('0s'),
  memoryPercent: scalar(readInteger(10, 100)).prefault(90),
});

const timeouts = z.strictObject({
  resolve: duration.prefault('5s'),
  connect: duration.prefault('10s'),
  tls: duration.prefault('10s'),
  requestHeaders: duration.prefault('60s'),
  responseHeaders: duration.prefault('2m'),
  body: duration.prefault('5m'),
  keepAlive: duration.prefault('75s'),
  upstreamKeepAlive: duration.prefault('30s'),
  upstreamAge: duration.prefault('5m'),
  tunnelIdle: duration.prefault('1h'),
  tunnelAge: duration.prefault('24h'),
  drainDelay: durationOrZero.prefault('5s'),
  drain: duration.prefault('25s'),
});

/** The pods behind the names: a NetworkPolicy selects pods by namespace and labels, and on most dataplanes in no other way. */
const pods = { namespace: scalar(readNamespace), labels: valuesOf(readLabel).optional() };

/** cross-check.ts resolves the names. */
export const CLUSTER = {
  clients: z.record(z.string(), z.strictObject(pods)).prefault({}),
  destinations: z.record(z.string(), z.strictObject({ ...pods, port: scalar(readPort).optional() })).prefault({}),
  hops: z.record(z.string(), z.strictObject({ ...pods, port: scalar(readPort).optional() })).prefault({}),
  collector: z.strictObject({ ...pods, port: scalar(readPort).optional() }).optional(),
};

const log = z.strictObject({
  level: z.enum(['debug', 'info', 'warn', 'error']).prefault('info'),
  format: z.enum(['json', 'text']).prefault('json'),
  profile: z.enum(['plain', 'google', 'dynatrace']).prefault('plain'),
});

/** Keys of `tracing`; without an endpoint the others have no effect. */
export const TRACING = {
  endpoint: scalar(readCollectorUrl).optional(),
  headersFile: scalar(readText).optional(),
  sample: scalar(readShare).prefault(0.1),
  perClient: scalar(readRate('count')).prefault('20/s'),
  serviceName: scalar(readOneLine(64)).optional(),
  tls: upstreamTls,
};

/** The whole file. */
export const FILE = z.strictObject({
  version: z.literal(1),
  name: name.prefault('eco-egress'),
  mode: z.enum(['enforce', 'report']).prefault('enforce'),
  reload: reload.prefault({}),
  selfTest: z.strictObject({ every: scalar(readEvery).prefault('60s') }).prefault({}),
  listeners: z.strictObject(LISTENERS).prefault({}),
  tlsServer: tlsServer.prefault({}),
  clients: z.record(z.string(), client).prefault({}),
  destinations: z.record(z.string(), z.strictObject(DESTINATION)).prefault({}),
  rules: z.array(z.strictObject(RULE)).prefault([]),
  hops: z.record(z.string(), z.strictObject(HOP)).prefault({}),
  sourceIp: z.strictObject(SOURCE_IP).prefault({}),
  nat: nat.prefault({}),
  dns: dns.prefault({}),
  headers: headers.prefault({}),
  limits: limits.prefault({}),
  timeouts: timeouts.prefault({}),
  circuitBreaker: z.strictObject(CIRCUIT_BREAKER).prefault({}),
  log: log.prefault({}),
  tracing: needs(z.strictObject(TRACING), ({ endpoint, headersFile }) =>
    endpoint === undefined && headersFile !== undefined ? 'endpoint' : null,
  ).prefault({}),
  cluster: z.strictObject(CLUSTER).prefault({}),
});

/** The file after parsing, with defaults, before it becomes a Config. */
export type FileContent = z.output<typeof FILE>;

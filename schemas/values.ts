/**
 * What each reader of single values takes, as JSON Schema: never less than the
 * reader, so that no editor marks a file that loads; more where a pattern would
 * be too long to read. The reader itself has the last word.
 */
import { READER_BOUNDS, type Read } from '../src/config/read-scalar.ts';
import { FAULTS } from '../src/errors.ts';
import type { JsonSchema } from './json-schema.ts';

type Reader = (value: unknown) => Read<unknown>;

const text = (...examples: string[]): JsonSchema => ({ type: 'string', minLength: 1, examples });
const matching = (pattern: string, ...examples: string[]): JsonSchema => ({ type: 'string', pattern, examples });
/** Inside brackets a variable has to stand in quotes, so digits may do so too. */
const port: JsonSchema = { anyOf: [{ type: 'integer', minimum: 1, maximum: 65_535 }, { type: 'string', pattern: '^[1-9]\\d{0,4}$' }], examples: [443] };

/** By the name of the reader; in src/ a name means one thing. */
const SHAPES: Readonly<Record<string, JsonSchema>> = {
  readAddress: text('34.123.45.67', '2001:db8::1'),
  readCertificateName: text('spiffe://cluster.local/ns/dynatrace-sit/*', 'pods.example'),
  readCidr: text('10.8.0.0/14', 'fd00::/8'),
  readClaim: text('https://kubernetes.default.svc', 'eco-egress'),
  readCode: { enum: Object.keys(FAULTS) },
  readCollectorUrl: text('https://collector.example/v1/traces', 'http://otel-collector.observability.svc.cluster.local:4318/v1/traces'),
  readDnsServer: text('10.0.0.10', '10.0.0.10:53'),
  readDroppedField: text('x-internal-*'),
  readEvery: matching('^(\\d+(ms|s|m|h)|off)$', '60s', 'off'),
  readField: text('ip', 'client.ip'),
  readGatewayUrl: text('https://eco-sit.telus.internal'),
  readHostPattern: text('eco-sit.telus.internal', '*.eco.telus.internal'),
  readJwksUrl: text('https://kubernetes.default.svc/openid/v1/jwks'),
  readKeptField: text('x-real-ip'),
  readLabel: matching('=', 'app.kubernetes.io/name=activegateway'),
  readListenAddress: text('0.0.0.0:8080', '[::]:8080'),
  readMethod: text('GET', 'POST'),
  readMoment: matching('^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}(:\\d{2})?(Z|[+-]\\d{2}:\\d{2})$', '2027-03-01T18:00:00Z', '2027-03-01T19:00:00+01:00'),
  readName: matching('^(?=.*[a-z])[a-z0-9][a-z0-9-]{0,62}$', 'eco-sit'),
  readNamespace: matching('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$', 'dynatrace-sit'),
  readParentUrl: text('http://proxy.example:3128', 'https://proxy.example', 'socks5://proxy.example'),
  readPasswordHash: matching('^\\$scrypt\\$', '$scrypt$ln=15,r=8,p=1$salt$hash'),
  readPathPattern: text('/api/*', '/health'),
  readPort: port,
  readPorts: { anyOf: [port, { type: 'string', pattern: '^[1-9]\\d{0,4}\\s*-\\s*[1-9]\\d{0,4}$' }], examples: [443, '8000-8100'] },
  readPrefix: text('/eco'),
  readProbeUrl: text('https://echo.example/ip'),
  readResolved: text('10.40.1.9'),
  readServerName: text('eco-sit.telus.internal'),
  readShare: { type: 'number', minimum: 0, maximum: 1, examples: [0.1] },
  readSubject: text('system:serviceaccount:dynatrace-sit:*'),
  readTestRequest: matching('^\\s*\\S+ +\\S', 'GET https://eco-sit.telus.internal/api/status', 'CONNECT eco-sit.telus.internal:443', 'TLS eco-sit.telus.internal'),
  readText: { type: 'string', minLength: 1 },
  readUser: text('dynatrace-sit'),
  readVariable: { type: ['string', 'number', 'boolean'] },
};

/** @throws {Error} for a reader that has none: a new one needs its line here */
export function shapeOf(reader: Reader): JsonSchema {
  const bounds = READER_BOUNDS.get(reader);
  switch (bounds?.takes) {
    case 'integer':
      return { type: 'integer', minimum: bounds.least, maximum: bounds.most };
    case 'line':
      return { type: 'string', minLength: bounds.least, maxLength: bounds.most };
    case 'duration':
      return matching('^\\d+(ms|s|m|h)$', '500ms', '30s', '5m', '2h');
    case 'size':
      return matching('^\\d+(B|KiB|MiB)$', '64KiB', '1MiB');
    case 'rate':
      return matching('^\\d+\\s*/\\s*(s|m|h|day)(\\s+burst\\s+\\d+)?$', '50/s', '600/m burst 100');
    case 'byte-rate':
      return matching('^\\d+(B|[KMGT]iB)\\s*/\\s*(s|m|h|day)(\\s+burst\\s+\\d+(B|[KMGT]iB))?$', '10GiB/day', '20MiB/s burst 1GiB');
    case undefined: {
      const shape = SHAPES[reader.name];
      if (shape === undefined) throw new Error(`schemas/values.ts does not say what ${reader.name || 'a reader without a name'} takes`);
      return shape;
    }
  }
}

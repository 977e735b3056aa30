/** The shipped configuration works by environment variables only, and .env.example names them all. */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parse } from 'dotenv';
import { loadConfig } from '../../src/config/load.ts';
import { createAuthority } from '../../src/demo/authority.ts';

const FILE = fileURLToPath(new URL('../../deploy/config/egress.yaml', import.meta.url));
const yaml = readFileSync(FILE, 'utf8');
const example = readFileSync(new URL('../../.env.example', import.meta.url), 'utf8');
const uncommented = parse(example.replace(/^#([A-Z_]+=)/gm, '$1'));
/** Read by the program, not by the file. */
const PROGRAM = ['ECO_EGRESS_CONFIG', 'ECO_EGRESS_DEBUG'];

t.test('with nothing set', async (t) => {
  t.match(loadConfig({ file: FILE, env: {} }), {
    ok: true,
    warnings: { length: 0 },
    config: {
      name: 'eco-egress',
      listeners: { http: [{ host: '0.0.0.0', port: 8080 }, { host: '0.0.0.0', port: 3128 }], tls: [{ host: '0.0.0.0', port: 8443 }], admin: { host: '0.0.0.0', port: 9090 } },
      tlsServer: null,
      clients: [{ name: 'dynatrace-sit', addresses: ['10.8.0.0/14'] }],
      destinations: [
        {
          name: 'eco-sit',
          hosts: ['eco-sit.telus.internal'],
          ports: [443, 80],
          addresses: null,
          gateway: { prefix: '/eco', scheme: 'https', host: 'eco-sit.telus.internal', port: 443, basePath: '', rewrite: ['locations', 'cookies', 'cookie-security'], encodedSlashes: 'refuse' },
          tls: { ca: null, cert: null, key: null, serverName: null },
          via: { length: 0 },
          resolve: 'here',
        },
      ],
      hops: [{ name: 'activegateway', parents: [{ scheme: 'http', host: 'activegateway.telus.internal', port: 3128 }], addresses: null, credentials: null }],
      rules: [{ clients: ['dynatrace-sit'], destinations: ['eco-sit'] }],
      sourceIp: null,
      nat: { ports: null, replicasPerNode: 1, timeWait: 120_000, whenExhausted: 'refuse', queueFor: 5000 },
      log: { level: 'info', format: 'json' },
    },
  });
});

t.test('with everything set', async (t) => {
  const authority = await createAuthority();
  const client = await authority.issue({ names: ['client.example'], clientAuth: true });
  const server = await authority.issue({ names: ['door-2.example'] });
  const files: Record<string, string> = { [FILE]: yaml, '/pki/ca.pem': authority.certPem, '/pki/cert.pem': client.certPem, '/pki/key.pem': client.keyPem, '/pki/tls.crt': server.certPem, '/pki/tls.key': server.keyPem, '/pki/gateway': 'eco:secret\n', '/pki/traces-headers': 'Authorization: Api-Token abc\n' };
  const env = {
    DYNATRACE_SIT_CIDRS: '10.20.0.0/16, fd00:20::/32',
    ECO_SIT_HOST: 'eco.partner.example',
    ECO_SIT_ADDRESSES: '10.40.0.0/16,10.41.0.1',
    ECO_SIT_CA_FILE: '/pki/ca.pem',
    ECO_SIT_CERT_FILE: '/pki/cert.pem',
    ECO_SIT_KEY_FILE: '/pki/key.pem',
    ECO_SIT_SERVER_NAME: 'eco.cert.example',
    ECO_SIT_VIA: 'activegateway',
    ECO_SIT_RESOLVE: 'here',
    ACTIVEGATEWAY_URL: 'https://gw-a.example:8443, http://gw-b.example',
    ACTIVEGATEWAY_ADDRESSES: '10.60.0.0/24',
    ACTIVEGATEWAY_CREDENTIALS_FILE: '/pki/gateway',
    ACTIVEGATEWAY_CA_FILE: '/pki/ca.pem',
    ACTIVEGATEWAY_CERT_FILE: '/pki/cert.pem',
    ACTIVEGATEWAY_KEY_FILE: '/pki/key.pem',
    SOURCE_IP_EXPECTED: '34.123.45.67, 2001:db8::1',
    SOURCE_IP_PROBE_URL: 'https://echo.example/ip',
    SOURCE_IP_PROBE_FIELD: 'ip',
    SOURCE_IP_PROBE_EVERY: '30s',
    SOURCE_IP_PROBE_ADDRESSES: '10.50.0.7',
    SOURCE_IP_PROBE_CA_FILE: '/pki/ca.pem',
    SOURCE_IP_GATE_READINESS: 'true',
    NAT_PORTS: '8192',
    NAT_REPLICAS_PER_NODE: '2',
    NAT_TIME_WAIT: '30s',
    NAT_WHEN_EXHAUSTED: 'queue',
    NAT_QUEUE_FOR: '3s',
    ECO_EGRESS_NAME: 'door-2',
    ECO_EGRESS_HTTP: '127.0.0.1:18080',
    ECO_EGRESS_TLS: '127.0.0.1:18443',
    ECO_EGRESS_TLS_NAMES: 'door-2.example',
    ECO_EGRESS_TLS_CERT_FILE: '/pki/tls.crt',
    ECO_EGRESS_TLS_KEY_FILE: '/pki/tls.key',
    ECO_EGRESS_TLS_CLIENT_CA_FILE: '/pki/ca.pem',
    ECO_EGRESS_TLS_CLIENT_CERTIFICATE: 'require',
    ECO_EGRESS_ADMIN: '[::1]:19090',
    ECO_EGRESS_TUNNELS: '12',
    ECO_EGRESS_DRAIN_DELAY: '0s',
    ECO_EGRESS_DRAIN: '1m',
    ECO_EGRESS_MODE: 'report',
    ECO_EGRESS_LOG_LEVEL: 'debug',
    ECO_EGRESS_LOG_FORMAT: 'text',
    ECO_EGRESS_LOG_PROFILE: 'google',
    ECO_EGRESS_TRACES_URL: 'https://collector.example/v1/traces',
    ECO_EGRESS_TRACES_HEADERS_FILE: '/pki/traces-headers',
    ECO_EGRESS_TRACES_SAMPLE: '0.5',
    ECO_EGRESS_TRACES_CA_FILE: '/pki/ca.pem',
  };
  t.strictSame(Object.keys(env).toSorted(), variablesOf(yaml), 'these are all there are');
  t.match(loadConfig({ file: FILE, env, readFile: (path) => files[path] ?? '' }), {
    ok: true,
    config: {
      name: 'door-2',
      mode: 'report',
      listeners: { http: [{ host: '127.0.0.1', port: 18_080 }], tls: [{ host: '127.0.0.1', port: 18_443 }], admin: { host: '::1', port: 19_090 } },
      tlsServer: { names: ['door-2.example'], cert: server.certPem, key: server.keyPem, clientCa: authority.certPem, clientCertificate: 'require' },
      clients: [{ addresses: ['10.20.0.0/16', 'fd00:20::/32'] }],
      destinations: [
        {
          hosts: ['eco.partner.example'],
          addresses: ['10.40.0.0/16', '10.41.0.1/32'],
          gateway: { host: 'eco.partner.example' },
          tls: { ca: authority.certPem, cert: client.certPem, key: client.keyPem, serverName: 'eco.cert.example' },
          via: [{ name: 'activegateway' }],
        },
      ],
      hops: [
        {
          parents: [
            { scheme: 'https', host: 'gw-a.example', port: 8443 },
            { scheme: 'http', host: 'gw-b.example', port: 3128 },
          ],
          addresses: ['10.60.0.0/24'],
          credentials: { kind: 'basic', user: 'eco', password: 'secret' },
          tls: { ca: authority.certPem, cert: client.certPem, key: client.keyPem },
        },
      ],
      sourceIp: {
        expected: ['34.123.45.67', '2001:db8::1'],
        probe: { scheme: 'https', host: 'echo.example', port: 443, path: '/ip', field: 'ip', every: 30_000, via: [{ name: 'activegateway' }], addresses: ['10.50.0.7/32'], tls: { ca: authority.certPem } },
        gateReadiness: true,
      },
      nat: { ports: 8192, replicasPerNode: 2, timeWait: 30_000, whenExhausted: 'queue', queueFor: 3000 },
      limits: { tunnels: 12 },
      timeouts: { drainDelay: 0, drain: 60_000 },
      log: { level: 'debug', format: 'text', profile: 'google' },
      tracing: { endpoint: 'https://collector.example/v1/traces', headers: [['Authorization', 'Api-Token abc']], sample: 0.5, tls: { ca: authority.certPem } },
    },
  });
});

t.test('.env.example', async (t) => {
  t.strictSame(parse(example), {}, 'copied as it is, changes nothing');
  t.strictSame(Object.keys(uncommented).toSorted(), [...variablesOf(yaml), ...PROGRAM].toSorted(), 'names what the file takes, and no more');
  const [plain, set] = [loadConfig({ file: FILE, env: {} }), loadConfig({ file: FILE, env: uncommented })];
  t.ok(plain.ok && set.ok && plain.hash === set.hash, 'shows the defaults');
  for (const name of Object.keys(uncommented)) {
    const before = example.slice(0, example.indexOf(`\n#${name}=`)).split('\n\n').at(-1) ?? '';
    t.match(before, /^# /m, `${name} is explained`);
  }
});

function variablesOf(text: string): string[] {
  const settings = text.replace(/^\s*#.*$/gm, '');
  return [...new Set([...settings.matchAll(/\$\{(\w+)/g)].map((match) => match[1] ?? ''))].toSorted();
}

/** The section `tracing`: what it takes, what it refuses and with which words, and that its secrets are shown nowhere. */
import t from 'tap';
import { type LoadResult, loadConfig } from '../../src/config/load.ts';

const BASE = 'version: 1\nclients: { pods: { addresses: 10.8.0.0/14 } }\ndestinations: { eco: { hosts: eco.example, ports: 443 } }\nrules: [{ clients: pods, destinations: eco }]\n';
const URL_OF = 'https://collector.example/v1/traces';

const FILES: Readonly<Record<string, string>> = {
  one: 'Authorization: Api-Token dt0c01.ABC.DEF\n',
  more: '\r\nAuthorization: Bearer abc\r\nX-Tenant:  a b \r\n',
  empty: '\n',
  odd: 'just a token\n',
  twice: 'X-A: 1\nx-a: 2\n',
  own: 'Content-Type: text/plain\n',
  control: 'X-A: a\u0007b\n',
};

const load = (tracing: string, env: Record<string, string> = {}): LoadResult =>
  loadConfig({
    file: '/etc/egress.yaml',
    env,
    readFile: (path) => {
      const file = FILES[path.slice('/etc/'.length)];
      if (file !== undefined) return file;
      if (path === '/etc/egress.yaml') return `${BASE}${tracing}`;
      throw Object.assign(new Error('no'), { code: 'ENOENT' });
    },
  });

t.test('off, unless there is an endpoint', async (t) => {
  for (const text of ['', 'tracing: {}\n', 'tracing: { endpoint: "${NONE:-}", headersFile: "${NONE:-}", sample: 0.5 }\n']) t.match(load(text), { ok: true, config: { tracing: null } }, text);
});

t.test('all keys, and what holds without them', async (t) => {
  t.match(load(`tracing: { endpoint: "${URL_OF}" }\n`), { ok: true, config: { tracing: { endpoint: URL_OF, headers: { length: 0 }, sample: 0.1, perClient: { text: '20/s' }, serviceName: null, tls: { ca: null } } } });
  t.match(load(`name: out\ntracing: { endpoint: "${URL_OF}", headersFile: one, sample: 1, perClient: 5/m burst 50, serviceName: ECO out }\n`), {
    ok: true,
    config: { tracing: { headers: [['Authorization', 'Api-Token dt0c01.ABC.DEF']], sample: 1, perClient: { burst: 50 }, serviceName: 'ECO out' } },
  });
  t.match(load(`name: out\ntracing: { endpoint: "${URL_OF}", headersFile: more, sample: 0 }\n`), { ok: true, config: { tracing: { headers: [['Authorization', 'Bearer abc'], ['X-Tenant', 'a b']], sample: 0, serviceName: null } } });
  t.match(load('tracing: { endpoint: "http://127.0.0.1:4318/v1/traces", headersFile: one }\n'), { ok: true }, 'this machine');
  t.match(load('tracing: { endpoint: "http://collector.observability.svc:4318/v1/traces" }\n'), { ok: true }, 'without headers');
  t.match(load('tracing:\n  endpoint: ${URL}\n  sample: ${SHARE}\n', { URL: URL_OF, SHARE: '0.25' }), { ok: true, config: { tracing: { sample: 0.25 } } });
});

t.test('what is wrong, and what to write', async (t) => {
  const cases: readonly (readonly [tracing: string, path: string, problem: RegExp])[] = [
    ['endpoint: collector.example', 'tracing.endpoint', /is not an http or https URL/],
    ['endpoint: "https://https://collector.example/v1/traces"', 'tracing.endpoint', /is not an http or https URL/],
    ['endpoint: "https://collector.example/v1/traces https://other.example/v1/traces"', 'tracing.endpoint', /is not an http or https URL/],
    ['endpoint: "grpc://collector.example:4317"', 'tracing.endpoint', /is not an http or https URL/],
    ['endpoint: "https://collector.example:4317/v1/traces"', 'tracing.endpoint', /port of OTLP over gRPC/],
    ['endpoint: "https://collector.example"', 'tracing.endpoint', /has no path/],
    ['endpoint: "https://collector.example/v1/traces#x"', 'tracing.endpoint', /fragment/],
    ['endpoint: "https://user:pass-word@collector.example/v1/traces"', 'tracing.endpoint', /holds credentials or a query/],
    ['endpoint: "https://collector.example/v1/traces?key=pass-word"', 'tracing.endpoint', /holds credentials or a query/],
    ['headersFile: one', 'tracing', /endpoint is missing/],
    [`endpoint: "${URL_OF}", headersFile: absent`, 'tracing.headersFile', /no such file/],
    [`endpoint: "${URL_OF}", headersFile: empty`, 'tracing.headersFile', /is empty/],
    [`endpoint: "${URL_OF}", headersFile: odd`, 'tracing.headersFile', /Line 1 of "\/etc\/odd" is not a header line/],
    [`endpoint: "${URL_OF}", headersFile: control`, 'tracing.headersFile', /is not a header line/],
    [`endpoint: "${URL_OF}", headersFile: twice`, 'tracing.headersFile', /Line 2 .* is x-a once more/],
    [`endpoint: "${URL_OF}", headersFile: own`, 'tracing.headersFile', /Content-Type, which the proxy writes itself/],
    ['endpoint: "http://collector.example/v1/traces", headersFile: one', 'tracing.headersFile', /could be read on the way/],
    ['endpoint: "http://collector.example/v1/traces", tls: { serverName: a.example }', 'tracing.tls', /there is no TLS/],
    [`endpoint: "${URL_OF}", sample: 10`, 'tracing.sample', /is not a share/],
    [`endpoint: "${URL_OF}", sample: "0.1"`, 'tracing.sample', /is not a share/],
    [`endpoint: "${URL_OF}", sample: -0.1`, 'tracing.sample', /is not a share/],
    [`endpoint: "${URL_OF}", perClient: 20`, 'tracing.perClient', /in which time/],
    [`endpoint: "${URL_OF}", tls: { caFile: odd }`, 'tracing.tls.caFile', /odd/],
  ];
  for (const [tracing, path, problem] of cases) {
    const result = load(`tracing: { ${tracing} }\n`);
    const faults = result.ok ? [] : result.faults;
    t.match(faults, [{ path, problem }], tracing);
    t.notMatch(JSON.stringify(faults.map(({ problem, instead }) => [problem, instead])), /pass-word|dt0c01/, 'secrets are not repeated');
  }
});

t.test('its headers are part of what is in force, and are shown nowhere', async (t) => {
  const [one, more] = [load(`tracing: { endpoint: "${URL_OF}", headersFile: one }\n`), load(`tracing: { endpoint: "${URL_OF}", headersFile: more }\n`)];
  if (!one.ok || !more.ok) throw new Error('not loaded');
  t.not(one.hash, more.hash);
  t.notMatch(JSON.stringify(one.settings()), /dt0c01/);
  t.ok(one.contents.has('/etc/one'), 'watched');
});

t.test('pods of a collector that is not called', async (t) => {
  const result = load('cluster: { collector: { namespace: observability } }\n');
  t.match(result, { ok: true, warnings: [{ kind: 'no-effect', problem: /no collector is called/ }] });
});

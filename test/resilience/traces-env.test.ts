/** Traces of the command itself: what the environment says changes nothing, and what waits is sent at SIGTERM. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { stringify } from 'yaml';
import { MAIN } from '../support/eco.ts';
import { baseDraft, labCertificates } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { startOtlpReceiver } from '../support/otlp-receiver.ts';

async function startProxy(t: Test, tracing: object, env: Record<string, string>): Promise<{ port: number; end: () => Promise<string> }> {
  const { authority } = await labCertificates();
  const directory = t.testdir({ 'ca.pem': authority.certPem });
  const file = join(directory, 'egress.yaml');
  writeFileSync(file, stringify({ ...baseDraft({ https: 443, http: 80 }), tracing }));
  const child = spawn(process.execPath, [MAIN, 'serve', '--config', file, '--no-warm-up'], { stdio: ['ignore', 'pipe', 'inherit'], env: { PATH: process.env['PATH'], ...env } });
  t.teardown(() => child.kill('SIGKILL'));
  let log = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (log += text));
  while (!log.includes('is listening')) await once(child.stdout, 'data');
  const [line = '{}'] = log.split('\n').filter((text) => text.includes('is listening'));
  const { http } = JSON.parse(line) as { http: string[] };
  return {
    port: Number(http[0]?.split(':').at(-1)),
    end: async () => {
      const closed = once(child, 'close');
      child.kill('SIGTERM');
      t.strictSame(await closed, [0, null]);
      return log;
    },
  };
}

t.test('no variable of the environment changes where spans go, what they say or what is sent with them', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const strangers: string[] = [];
  const stranger = createServer((req, res) => {
    strangers.push(req.url ?? '');
    res.end();
  }).on('connect', (req, socket) => {
    strangers.push(req.url ?? '');
    socket.destroy();
  });
  const elsewhere = `http://127.0.0.1:${await listen(t, stranger)}`;
  const proxy = await startProxy(t, { endpoint: receiver.url, sample: 1 }, {
    NODE_USE_ENV_PROXY: '1', HTTP_PROXY: elsewhere, HTTPS_PROXY: elsewhere, http_proxy: elsewhere, https_proxy: elsewhere, ALL_PROXY: elsewhere,
    OTEL_SDK_DISABLED: 'true', OTEL_EXPORTER_OTLP_ENDPOINT: elsewhere, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: elsewhere, OTEL_EXPORTER_OTLP_HEADERS: 'x-stranger=1', OTEL_EXPORTER_OTLP_TRACES_HEADERS: 'x-stranger=2',
    OTEL_EXPORTER_OTLP_COMPRESSION: 'none', OTEL_EXPORTER_OTLP_TIMEOUT: '1', OTEL_SERVICE_NAME: 'stranger', OTEL_RESOURCE_ATTRIBUTES: 'stranger=1', OTEL_TRACES_SAMPLER: 'always_off', OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT: '1', OTEL_BSP_MAX_QUEUE_SIZE: '1', OTEL_BSP_SCHEDULE_DELAY: '100000', OTEL_LOG_LEVEL: 'debug',
    POD_NAME: 'eco-egress-7d9f-abcde',
  });
  t.equal((await fetch(`http://127.0.0.1:${proxy.port}/nothing`)).status, 403);
  const log = await proxy.end();
  t.equal(receiver.spans.length, 1, 'sent before the end');
  t.match(receiver.spans[0], { kind: 'server', attributes: { 'error.type': 'host-not-allowed' } });
  t.strictSame(receiver.spans[0]?.resource, { 'service.name': 'eco-egress', 'service.version': receiver.spans[0]?.resource['service.version'], 'service.instance.id': 'eco-egress-7d9f-abcde', 'host.name': hostname(), 'k8s.pod.name': 'eco-egress-7d9f-abcde' });
  t.equal(receiver.headers[0]?.['content-encoding'], 'gzip');
  t.notOk('x-stranger' in (receiver.headers[0] ?? {}));
  t.strictSame(strangers, []);
  t.notMatch(log, /stranger/);
});

t.test('certificates are verified, whatever the environment says', async (t) => {
  const { certPem, keyPem } = await labCertificates();
  const receiver = await startOtlpReceiver(t, { certPem, keyPem });
  const proxy = await startProxy(t, { endpoint: receiver.url, sample: 1 }, { NODE_TLS_REJECT_UNAUTHORIZED: '0', NODE_NO_WARNINGS: '1' });
  await fetch(`http://127.0.0.1:${proxy.port}/nothing`);
  t.match(await proxy.end(), /spans were lost|does not take every span/);
  t.equal(receiver.batches, 0);
});

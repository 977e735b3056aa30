/** `eco-egress serve` as a process: signals, exit codes, and what it leaves in its log. */
import { createServer as createHttpServer } from 'node:http';
import { createServer } from 'node:net';
import t, { type Test } from 'tap';
import { answerOf, beginAsk, type Reach } from '../support/ask.ts';
import { baseDraft, labCertificates } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { portsOf, serve, type Served } from '../support/serve.ts';
import { openWire, type Wire, wireOf } from '../support/wire.ts';

/** A proxy before a plain upstream that the policy names `localhost`, which the hosts file knows. */
async function serveBefore(t: Test, port: number, timeouts: Record<string, string> = {}, shell = 'exec "$@"'): Promise<{ served: Served; proxy: number; admin: number }> {
  const draft = baseDraft({ https: port, http: port });
  Object.assign(draft.destinations.eco, { hosts: ['localhost'], ports: [port], gateway: { prefix: '/eco', url: `http://localhost:${port}` }, tls: undefined });
  Object.assign(draft.timeouts, timeouts);
  const served = serve(t, { config: draft, shell });
  const { http, admin } = await portsOf(served);
  return { served, proxy: http[0] ?? 0, admin };
}

async function openTunnel(t: Test, proxy: number, port: number): Promise<Wire> {
  const wire = await openWire(t, proxy);
  wire.send(`CONNECT localhost:${port} HTTP/1.1\r\nHost: x\r\n\r\n`);
  await wire.until(/ 200 [^]*\r\n\r\n/);
  return wire;
}

t.test('SIGTERM and SIGINT: what is under way ends well, every line is written, exit 0', async (t) => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const release = Promise.withResolvers<undefined>();
    const arrived = Promise.withResolvers<undefined>();
    const upstream = createHttpServer((req, res) => {
      if (req.url !== '/slow') {
        res.end('quick');
        return;
      }
      arrived.resolve(undefined);
      void release.promise.then(() => res.end('slow but whole'));
    });
    const port = await listen(t, upstream);
    const { served, proxy } = await serveBefore(t, port);
    const { authority } = await labCertificates();
    const lab: Reach = { port: proxy, url: `http://127.0.0.1:${proxy}`, authority, upstream: { httpPort: port, httpsPort: port } };
    for (let i = 0; i < 20; i += 1) await answerOf(beginAsk(lab, 'gateway', { path: `/${i}` }).end());
    const slow = answerOf(beginAsk(lab, 'gateway', { path: '/slow' }).end());
    await arrived.promise;
    // Opens no debugger, which stderr would report.
    served.child.kill('SIGUSR1');
    served.child.kill(signal);
    await served.logged(({ msg }) => msg?.startsWith('draining') === true);
    release.resolve(undefined);
    t.match(await slow, { status: 200, text: 'slow but whole', headers: { connection: 'close' } });
    t.same(await served.ended, { code: 0, signal: null, stderr: '' }, signal);
    const paths = served.log.filter((line) => 'durationMs' in line).map((line) => line['path']);
    t.same(paths, [...Array.from({ length: 20 }, (_, i) => `/${i}`), '/slow']);
    t.equal(served.log.at(-1)?.msg, 'eco-egress has ended');
  }
});

t.test('a quiet tunnel is ended before the deadline, logged, and the exit is still 0', async (t) => {
  const port = await listen(t, createServer(wireOf));
  const { served, proxy } = await serveBefore(t, port, { drain: '200ms' });
  const tunnel = await openTunnel(t, proxy, port);
  served.child.kill('SIGTERM');
  t.equal((await tunnel.ended).how, 'reset');
  t.match(await served.ended, { code: 0, stderr: '' });
  t.match(served.log.find((line) => line['form'] === 'connect'), { code: 'draining', closedBy: 'proxy' });
});

t.test('a second signal ends at once: what it cuts is logged', async (t) => {
  const port = await listen(t, createServer(wireOf));
  const { served, proxy, admin } = await serveBefore(t, port, { drain: '1h' });
  const tunnel = await openTunnel(t, proxy, port);
  served.child.kill('SIGTERM');
  await served.logged(({ msg }) => msg?.startsWith('draining') === true);
  t.equal((await fetch(`http://127.0.0.1:${admin}/readyz`)).status, 503);
  // Signals within half a second are one press of Ctrl-C.
  const again = setInterval(() => served.child.kill('SIGTERM'), 100);
  const { code, stderr } = await served.ended;
  clearInterval(again);
  t.equal(code, 1);
  t.equal(stderr, 'second SIGTERM: ending at once\n');
  t.equal((await tunnel.ended).how, 'reset');
  t.match(served.log.find((line) => line['form'] === 'connect'), { code: 'draining', closedBy: 'proxy' });
  t.match(served.log.find(({ msg }) => msg === 'the drain is over'), { cut: 1 });
  t.equal(served.log.at(-1)?.msg, 'eco-egress has ended');
});

t.test('a faulty configuration: every fault with its line, exit 2, nothing started', async (t) => {
  const text = [
    'version: 1',
    'listeners: { http: ["127.0.0.1:99999"] }',
    'clients: { pods: { addresses: ["10.0.0.0/33"] } }',
    'destinations: { eco: { hosts: ["*"], ports: [0] } }',
    'rules: [{ clients: [nobody], destinations: [eco] }]',
    'timeout: { drain: 5 }',
  ].join('\n');
  const served = serve(t, { config: text });
  const { code, stderr } = await served.ended;
  t.equal(code, 2);
  t.same(served.log, [], 'nothing was said to be listening');
  for (const [line, what] of [
    [2, /99999/],
    [3, /10\.0\.0\.0\/33/],
    [4, /\*/],
    [4, /\b0\b/],
    [5, /nobody/],
    [6, /timeout/],
  ] as const) {
    t.ok(
      stderr.split('\n').some((said) => said.includes(`:${line}:`) && what.test(said)) || new RegExp(`:${line}:[^\\n]*\\n[^\\n]*${what.source}`).test(stderr),
      `line ${line}: ${what.source}`,
    );
  }
  t.match(stderr, /^6 faults in /);
});

t.test('a port in use: one line that says what to do, exit 1', async (t) => {
  const taken = await listen(t, createServer());
  const draft = baseDraft({ https: 443, http: 80 });
  Object.assign(draft.destinations.eco, { tls: {} });
  Object.assign(draft.listeners, { http: [`127.0.0.1:${taken}`] });
  const { code, stderr } = await serve(t, { config: draft }).ended;
  t.equal(code, 1);
  t.match(stderr, new RegExp(`^eco-egress could not start: 127\\.0\\.0\\.1:${taken} is in use\\.[^\\n]*\\n$`));
});

t.test('an uncaught error ends it with 1 and its stack is printed, also during a drain', async (t) => {
  const port = await listen(t, createServer(wireOf));
  const thrower = encodeURIComponent('process.on("SIGWINCH", () => { throw new Error("on purpose"); })');
  for (const draining of [false, true]) {
    const { served, proxy } = await serveBefore(t, port, { drain: '1h' }, `export NODE_OPTIONS='--import=data:text/javascript,${thrower}'; exec "$@"`);
    const tunnel = await openTunnel(t, proxy, port);
    if (draining) {
      served.child.kill('SIGTERM');
      await served.logged(({ msg }) => msg?.startsWith('draining') === true);
    }
    served.child.kill('SIGWINCH');
    t.match(await served.ended, { code: 1, stderr: /^eco-egress ends because of an uncaught error: Error: on purpose\n {4}at [^]*\n$/ }, `draining: ${draining}`);
    await tunnel.ended;
  }
});

/** `eco-egress serve` with few file descriptors: it refuses, says so, and lives. */
import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import t, { type Test } from 'tap';
import { baseDraft } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { readScrape, sumOf } from '../support/prometheus.ts';
import { portsOf, serve, type Served } from '../support/serve.ts';
import { openWire, type Wire, wireOf } from '../support/wire.ts';

const FILES = 96;

/** The proxy with so few, before a partner on this port. */
function serveWithFew(t: Test, target: number): Served {
  const draft = baseDraft({ https: target, http: target });
  Object.assign(draft.destinations.eco, { hosts: ['localhost'], ports: [target], gateway: undefined, tls: undefined });
  Object.assign(draft.timeouts, { drain: '100ms' });
  return serve(t, { config: draft, files: {}, shell: `ulimit -n ${FILES}; exec "$@"` });
}

t.test('clients beyond what there is are refused, probes get through, and it recovers', async (t) => {
  const target = await listen(t, createServer(wireOf));
  const served = serveWithFew(t, target);
  const { http: [port = 0], admin } = await portsOf(served);
  t.match(await served.logged(({ msg }) => msg?.startsWith('the limit of open files is lower') === true), { level: 'warn', openFiles: FILES, needed: Number, remedy: /ulimit -n/ });

  const open: Wire[] = [];
  const refusals: string[] = [];
  // Each tunnel takes two; far more are asked for than there are.
  for (let count = 0; count < 2 * FILES; count += 1) {
    const wire = await openWire(t, port);
    wire.send(`CONNECT localhost:${target} HTTP/1.1\r\nHost: x\r\n\r\n`);
    const heard = await Promise.race([wire.until(/\r\n\r\n/).catch(() => wire.heard), wire.ended.then((end) => end.heard)]);
    if (heard.startsWith('HTTP/1.1 200 ')) open.push(wire);
    else refusals.push(heard);
  }
  t.ok(open.length > 5, `${open.length} tunnels`);
  const said = refusals.filter((heard) => heard !== '');
  t.ok(said.length > 0);
  for (const heard of said) t.match(heard, /^HTTP\/1\.1 503 Egress unavailable: limit-reached\r\n[^]*Retry-After: 1\r\n/);
  const line = await served.logged(({ msg }) => msg?.startsWith('file descriptors are running out') === true);
  t.match(line, { level: 'error', limit: FILES, open: Number, what: /^(?:connection|request)$/ });

  const get = async (path: string): Promise<Response> => fetch(`http://127.0.0.1:${admin}${path}`);
  t.equal((await get('/healthz')).status, 200);
  t.match(((await (await get('/readyz')).json()) as { warnings: string[] }).warnings.join(), /of 96 file descriptors are open/);
  const scrape = readScrape(await (await get('/metrics')).text());
  t.ok(sumOf(scrape, 'eco_egress_descriptors_refused_total') >= refusals.length);

  for (const { socket } of open) socket.destroy();
  await Promise.all(open.map(({ ended }) => ended));
  for (;;) {
    const wire = await openWire(t, port);
    wire.send(`CONNECT localhost:${target} HTTP/1.1\r\nHost: x\r\n\r\n`);
    if ((await wire.until(/\r\n\r\n/).catch(() => '')).startsWith('HTTP/1.1 200 ')) break;
  }
  t.pass('tunnels again');
  served.child.kill('SIGTERM');
  t.match(await served.ended, { code: 0, stderr: '' });
});

t.test('connections that come faster than anything else can happen', async (t) => {
  const draft = baseDraft({ https: 443, http: 80 });
  Object.assign(draft.destinations.eco, { tls: {}, gateway: undefined });
  const served = serve(t, { config: draft, files: {}, shell: `ulimit -n ${FILES}; exec "$@"` });
  const { http: [port = 0], admin } = await portsOf(served);
  const flood = `
    const { connect } = require('node:net');
    let open = 0;
    for (let count = 0; count < 600; count += 1) connect(${port}, '127.0.0.1').on('error', () => {}).on('connect', () => { open += 1; });
    setTimeout(() => process.exit(), 3000);
  `;
  const flooder = spawn(process.execPath, ['-e', flood], { stdio: 'ignore' });
  t.teardown(() => flooder.kill('SIGKILL'));
  await served.logged(({ msg }) => msg?.startsWith('file descriptors are running out') === true);
  t.equal((await fetch(`http://127.0.0.1:${admin}/healthz`)).status, 200, 'while they are there');
  served.child.kill('SIGTERM');
  t.match(await served.ended, { code: 0, stderr: '' });
});

t.test('requests that were admitted together, and are dialled for later', async (t) => {
  const target = await listen(t, createServer(wireOf));
  const served = serveWithFew(t, target);
  const { http: [port = 0], admin } = await portsOf(served);
  // There is room for all of them while the pool dials for the first 16, and not for what it dials later.
  const wires = await Promise.all(Array.from({ length: 38 }, (_, i) => openWire(t, port, { from: `127.0.0.${i + 2}` })));
  for (const wire of wires) wire.send(`POST http://localhost:${target}/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n`);
  await served.logged(({ what }) => what === 'request');
  t.equal((await fetch(`http://127.0.0.1:${admin}/healthz`)).status, 200, 'the reserve is left');
  t.notMatch(served.log.map(({ detail }) => String(detail)).join('\n'), /EMFILE/);
  served.child.kill('SIGTERM');
  await served.ended;
});

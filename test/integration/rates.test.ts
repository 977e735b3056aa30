/** Rates of rules in a whole proxy: every form, both scopes, bytes of what is under way, report mode, a reload. */
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { connect as connectTls } from 'node:tls';
import t from 'tap';
import { WebSocket, WebSocketServer } from 'ws';
import type { HttpForm } from '../../src/config/config.ts';
import { addressOf, ask, beginAsk, FORMS, TERMINATED } from '../support/ask.ts';
import { startHeldLab } from '../support/held-lab.ts';
import { type Draft, ECO, type Lab, type LogLine, startLab } from '../support/lab.ts';
import { openSteered, startTlsLab } from '../support/tls-lab.ts';
import { ESTABLISHED, openTunnel, startTunnelLab } from '../support/tunnel-lab.ts';
import { askRaw, openWire } from '../support/wire.ts';

/** A rate, and a clock that ticks a hundred times a second. */
const rate = (limits: Record<string, unknown>, more: Record<string, unknown> = {}) => (draft: Draft) => {
  draft.rules[0] = { clients: ['pods'], destinations: ['eco'], rate: limits, ...more };
  draft.timeouts['keepAlive'] = '80ms';
};

/** Monotonic ms of a test. */
class Clock {
  at = 1_000_000;
  readonly now = (): number => this.at;
}

function requestOf(lab: Lab, form: HttpForm, more = 'Connection: close\r\n'): string {
  if (form === 'connect') return `CONNECT ${ECO}:${lab.upstream.httpsPort} HTTP/1.1\r\nHost: x\r\n\r\n`;
  const { target, host } = addressOf(lab, form, '/x');
  return `GET ${target} HTTP/1.1\r\nHost: ${host}\r\n${more}\r\n`;
}

const LIMITED = /^HTTP\/1\.1 429 Egress denied: rate-limited\r\n[^]*Proxy-Status: eco-egress;error=http_request_denied;details="rate-limited: /i;

const isEnd = (line: LogLine): boolean => 'durationMs' in line;

t.test('requests and tunnels, in every form: the next one gets Retry-After, and is served then', async (t) => {
  for (const form of FORMS) {
    const clock = new Clock();
    const kind = form === 'connect' ? 'tunnels' : 'requests';
    const lab = await startLab(t, { configure: rate({ perAddress: { [kind]: '1/m burst 2' } }), monotonic: clock.now });
    t.equal((await ask(lab, form)).status, 200, form);
    t.equal((await ask(lab, form)).status, 200, form);
    clock.at += 3_500;
    const heard = await askRaw(t, lab.port, requestOf(lab, form));
    t.match(heard, LIMITED, form);
    t.match(heard, /\r\nRetry-After: 57\r\n/i, 'seconds, rounded up');
    t.match(heard, `127.0.0.1 has used up rules[0].rate.perAddress.${kind}, 1/m burst 2`);
    t.match(JSON.parse(heard.slice(heard.indexOf('\r\n\r\n'))), { code: 'rate-limited', status: 429, remedy: `try again in 57 s, or raise rules[0].rate.perAddress.${kind}` });
    t.match(await lab.logged(({ code }) => code === 'rate-limited'), { level: 'warn', msg: 'denied: rate-limited', form, client: 'pods', destination: 'eco', rule: 'rules[0]', verdict: 'allow', status: 429, upstreamAddress: '-' });
    t.equal(lab.upstream.requests.length, 2, 'nothing went out');
    const other = await openWire(t, lab.port, { from: '127.0.0.2' });
    other.send(requestOf(lab, form));
    t.match(await other.until('\r\n\r\n'), /^HTTP\/1\.1 200 /, 'another address has its own');
    clock.at += 56_499;
    t.match(await askRaw(t, lab.port, requestOf(lab, form)), LIMITED, 'a millisecond too early');
    clock.at += 1;
    t.equal((await ask(lab, form)).status, 200, form);
    const { samples } = await lab.scrape();
    t.equal(samples.get('eco_egress_denials_total{client="pods",code="rate-limited"}'), 2);
    t.equal(samples.get('eco_egress_rate_addresses{rule="rules[0]"}'), 2);
  }
});

t.test('raw TLS: an alert, and a line in the log', async (t) => {
  const lab = await startTlsLab(t, { configure: rate({ perAddress: { tunnels: '1/h' } }) });
  const socket = await openSteered(t, lab);
  socket.destroy();
  const refused = connectTls({ host: '127.0.0.1', port: lab.tlsPort, servername: ECO, rejectUnauthorized: false });
  t.match(await once(refused, 'error').then(([error]: unknown[]) => error), { code: 'ERR_SSL_TLSV1_ALERT_ACCESS_DENIED' });
  t.match(await lab.logged(({ code }) => code === 'rate-limited'), { form: 'sni', client: 'pods', destination: 'eco', rule: 'rules[0]' });
});

t.test('a kept connection goes on after a refusal; what is refused takes nothing of a rate or a limit', async (t) => {
  const clock = new Clock();
  const lab = await startLab(t, { configure: (draft) => { rate({ perAddress: { requests: '1/s' }, perClient: { requests: '2/m' } })(draft); draft.limits['exchanges'] = 1; }, monotonic: clock.now });
  const wire = await openWire(t, lab.port);
  const answers = async (count: number): Promise<string[]> => (await wire.until(new RegExp(`(?:HTTP/1\\.1 [^]*){${count}}[\\n}]$`))).match(/HTTP\/1\.1 \d+/g)?.slice(-1) ?? [];
  const next = async (count: number): Promise<string> => {
    wire.send(requestOf(lab, 'forward', ''));
    return (await answers(count)).join('');
  };
  t.equal(await next(1), 'HTTP/1.1 200');
  // Of the address; the client has one left, and keeps it.
  for (let tries = 2; tries < 6; tries += 1) t.equal(await next(tries), 'HTTP/1.1 429');
  clock.at += 1_000;
  t.equal(await next(6), 'HTTP/1.1 200');
  clock.at += 1_000;
  t.equal(await next(7), 'HTTP/1.1 429');
  t.match(wire.heard.slice(-700), /the client pods has used up rules\[0\]\.rate\.perClient\.requests, 2\/m/);
  t.match(await askRaw(t, lab.port, requestOf(lab, 'forward'), '127.0.0.9'), LIMITED, 'whatever the address');
});

t.test('a full limit takes nothing of a rate', async (t) => {
  const lab = await startHeldLab(t, { configure: (draft) => { rate({ perAddress: { requests: '2/h' } })(draft); draft.limits['exchanges'] = 1; } });
  const first = ask(lab, 'forward');
  const held = await lab.next();
  for (let tries = 0; tries < 3; tries += 1) t.match(await askRaw(t, lab.port, requestOf(lab, 'forward')), /^HTTP\/1\.1 503 /);
  held.res.end();
  t.equal((await first).status, 200);
  const second = ask(lab, 'forward');
  (await lab.next()).res.end();
  t.equal((await second).status, 200);
  t.match(await askRaw(t, lab.port, requestOf(lab, 'forward')), LIMITED);
});

const USED_UP = { code: 'byte-limit-reached', rule: 'rules[0]', detail: /has used up rules\[0\]\.rate\.perClient\.(sent|received), 64KiB\/day/ };

t.test('bytes that are used up: what is under way goes on, and nothing new begins', async (t) => {
  for (const direction of ['sent', 'received'] as const) {
    const clock = new Clock();
    const lab = await startTunnelLab(t, rate({ perClient: { [direction]: '64KiB/day' } }), {}, { monotonic: clock.now });
    const { client, upstream } = await openTunnel(t, lab);
    const [from, to] = direction === 'sent' ? [client, upstream] : [upstream, client];
    from.send(Buffer.alloc(65_535, 'a'));
    await to.until(/a{65535}$/);
    const other = await openTunnel(t, lab);
    from.send('bc');
    await to.until(/bc$/);
    const connect = `CONNECT ${lab.target} HTTP/1.1\r\nHost: x\r\n\r\n`;
    // The bytes are charged with the next tick: a tunnel or two may still begin.
    let heard = '';
    while (!heard.startsWith('HTTP/1.1 429')) {
      const wire = await openWire(t, lab.port);
      wire.send(connect);
      heard = await wire.until('\r\n\r\n');
      wire.socket.resetAndDestroy();
    }
    t.match(heard, /^HTTP\/1\.1 429 Egress denied: byte-limit-reached\r\n[^]*details="byte-limit-reached: the client pods has used up rules\[0\]\.rate\.perClient/i);
    t.match(heard, /\r\nRetry-After: [1-3]\r\n/i, 'until there is one byte');
    from.send('more');
    await to.until(/more$/);
    other.client.send('x');
    await other.upstream.until('x');
    clock.at += 86_400_000;
    const wire = await openWire(t, lab.port);
    wire.send(connect);
    t.match(await wire.until('\r\n\r\n'), ESTABLISHED);
  }
});

t.test('cut: tunnels end by a reset, with the code in the log', async (t) => {
  for (const direction of ['sent', 'received'] as const) {
    const lab = await startTunnelLab(t, rate({ perClient: { [direction]: '64KiB/day' }, whenExhausted: 'cut' }));
    const { client, upstream } = await openTunnel(t, lab);
    const idle = await openTunnel(t, lab);
    (direction === 'sent' ? client : upstream).send(Buffer.alloc(65_537));
    t.equal((await client.ended).how, 'reset');
    t.equal((await upstream.ended).how, 'reset');
    t.equal((await idle.client.ended).how, 'reset', 'all of the client');
    t.match(await lab.logged(({ code }) => code === 'byte-limit-reached'), { ...USED_UP, form: 'connect', closedBy: 'proxy', status: 200, msg: 'denied: byte-limit-reached' });
  }
});

t.test('cut: steered TLS and WebSocket', async (t) => {
  const lab = await startTlsLab(t, { configure: rate({ perClient: { received: '64KiB/day' }, whenExhausted: 'cut' }), onRequest: (_, res) => { res.write(Buffer.alloc(70_000)); } });
  const tls = await openSteered(t, lab);
  tls.on('error', () => {});
  tls.resume();
  tls.write(`GET / HTTP/1.1\r\nHost: ${ECO}\r\n\r\n`);
  await new Promise((resolve) => tls.once('close', resolve));
  t.match(await lab.logged(({ code }) => code === 'byte-limit-reached'), { ...USED_UP, form: 'sni' });

  const other = await startLab(t, { configure: rate({ perClient: { sent: '64KiB/day' }, whenExhausted: 'cut' }) });
  const sockets = new WebSocketServer({ noServer: true });
  other.upstream.https.on('upgrade', (request: IncomingMessage, socket, head: Buffer) => {
    sockets.handleUpgrade(request, socket, head, (ws) => { ws.on('error', () => {}); });
  });
  const socket = new WebSocket(`ws://127.0.0.1:${other.port}/eco/socket`);
  await once(socket, 'open');
  socket.on('error', () => {});
  socket.send(Buffer.alloc(70_000));
  const code = await new Promise((resolve) => socket.once('close', resolve));
  t.equal(code, 1006, 'not in order');
  t.match(await other.logged((line) => line.code === 'byte-limit-reached'), { ...USED_UP, form: 'gateway', status: 101 });
});

t.test('cut: an exchange in its middle is visibly broken; one without an answer gets a refusal', async (t) => {
  for (const form of TERMINATED) {
    for (const framing of ['chunked', 'length', 'events'] as const) {
      const lab = await startHeldLab(t, { configure: rate({ perClient: { received: '64KiB/day' }, whenExhausted: 'cut' }) });
      const wire = await openWire(t, lab.port);
      wire.send(requestOf(lab, form, ''));
      const { res } = await lab.next();
      if (framing === 'length') res.setHeader('content-length', 1_000_000);
      if (framing === 'events') res.setHeader('content-type', 'text/event-stream');
      const waiting = await openWire(t, lab.port);
      waiting.send(requestOf(lab, form, ''));
      await lab.next();
      res.write(framing === 'events' ? `data: ${'a'.repeat(65_600)}\n\n` : Buffer.alloc(65_600, 'a'));
      const { heard } = await wire.ended;
      t.match(heard, /^HTTP\/1\.1 200 /);
      t.notMatch(heard, /\r\n0\r\n\r\n$/, `${form}, ${framing}: no last chunk`);
      t.match(await lab.logged((line) => line.code === 'byte-limit-reached' && line['status'] === 200), { ...USED_UP, form, closedBy: 'proxy' });
      t.match(await waiting.until('\r\n\r\n'), /^HTTP\/1\.1 429 Egress denied: byte-limit-reached\r\n/);
    }
  }
});

t.test('cut: an upload', async (t) => {
  const lab = await startHeldLab(t, { configure: rate({ perAddress: { sent: '64KiB/day' }, whenExhausted: 'cut' }) });
  const request = beginAsk(lab, 'gateway', { method: 'POST' });
  request.write(Buffer.alloc(70_000));
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  t.equal(response.statusCode, 429, 'nothing of an answer had been sent');
  request.on('error', () => {});
  response.resume();
  const { req } = await lab.next();
  t.notOk(req.complete);
});

t.test('report mode: all of it passes, and is reported', async (t) => {
  for (const more of [{ report: true }, {}]) {
    const lab = await startLab(t, { configure: (draft) => { rate({ perAddress: { requests: '1/h', tunnels: '1/h', received: '1MiB/day' }, whenExhausted: 'cut' }, more)(draft); if (more.report !== true) draft.mode = 'report'; } });
    for (const form of FORMS) {
      const told = lab.log.length;
      if (form === 'forward' || form === 'connect') t.equal((await ask(lab, form)).status, 200);
      t.equal((await ask(lab, form)).status, 200, form);
      const line = await lab.logged((entry) => entry['form'] === form && entry['wouldDeny'] !== undefined && lab.log.indexOf(entry) >= told);
      t.match(line, { level: 'warn', msg: 'reported: rate-limited', verdict: 'report', wouldDeny: 'rate-limited', code: 'ok', rule: 'rules[0]', detail: /127\.0\.0\.1 has used up rules\[0\]\.rate\.perAddress\./ }, form);
    }
    const { samples } = await lab.scrape();
    t.equal(samples.get('eco_egress_would_deny_total{form="gateway",destination="eco",client="pods",code="rate-limited"}'), 1);
    t.equal(samples.get('eco_egress_denials_total{client="pods",code="rate-limited"}'), 0);
  }
  const lab = await startTunnelLab(t, rate({ perAddress: { sent: '64KiB/day' }, whenExhausted: 'cut' }, { report: true }));
  const { client, upstream } = await openTunnel(t, lab);
  client.send(Buffer.alloc(65_537));
  // Once it is charged, a new one is reported.
  for (let line: LogLine | undefined; line === undefined; line = lab.log.find((entry) => entry['wouldDeny'] === 'byte-limit-reached')) {
    const other = await openTunnel(t, lab);
    other.client.socket.resetAndDestroy();
    await other.upstream.ended;
  }
  const before = lab.log.filter(isEnd).length;
  client.send('more');
  await upstream.until('more');
  client.socket.end();
  upstream.socket.end();
  await client.ended;
  await lab.logged((line) => isEnd(line) && lab.log.filter(isEnd).indexOf(line) >= before);
  t.match(lab.log.filter(isEnd).at(-1), { code: 'ok', wouldDeny: 'byte-limit-reached', bytesSent: 65_541 }, 'it was not cut');
});

t.test('a reload: the buckets of the same limits go on, others begin full', async (t) => {
  const lab = await startLab(t, { configure: rate({ perAddress: { requests: '2/h', tunnels: '1/h' } }) });
  const used = async (form: HttpForm): Promise<void> => { t.match(await askRaw(t, lab.port, requestOf(lab, form)), LIMITED); };
  t.equal((await ask(lab, 'forward')).status, 200);
  t.equal((await ask(lab, 'forward')).status, 200);
  t.equal((await ask(lab, 'connect')).status, 200);
  await used('gateway');
  const change = async (configure: (draft: Draft) => void): Promise<void> => { t.match(await lab.reload(configure), { result: 'applied' }); };
  await change((draft) => { rate({ perAddress: { requests: '2/h', tunnels: '1/h' } }, { owner: 'payments', methods: undefined })(draft); draft.clients['more'] = { addresses: ['192.0.2.0/24'] }; draft.rules.unshift({ clients: ['more'], destinations: ['eco'] }); });
  await used('forward');
  await used('connect');
  await change(rate({ perAddress: { requests: '3/h', tunnels: '1/h' } }));
  t.match((await lab.logged(({ msg, changed }) => msg === 'reload applied' && JSON.stringify(changed).includes('rules[0].rate.perAddress.requests'))).msg, 'reload applied');
  await used('connect');
  for (let turn = 0; turn < 3; turn += 1) t.equal((await ask(lab, 'forward')).status, 200, 'a full bucket, and no more');
  await used('forward');
  await change((draft) => { draft.rules[0] = { clients: ['pods'], destinations: ['eco'] }; });
  t.equal((await ask(lab, 'forward')).status, 200);
});

t.test('a reload that adds bytes: what is under way pays from then on, and no later', async (t) => {
  const lab = await startTunnelLab(t);
  const { client, upstream } = await openTunnel(t, lab);
  client.send(Buffer.alloc(1_000_000));
  await upstream.until(/^[^]{1000000}$/);
  t.match(await lab.reload((draft) => { Object.assign(draft.destinations.eco, { ports: [Number(lab.target.split(':')[1])], gateway: undefined }); rate({ perClient: { sent: '64KiB/day' }, whenExhausted: 'cut' })(draft); }), { result: 'applied', tunnelsCut: 0 });
  client.send(Buffer.alloc(60_000));
  await upstream.until(/^[^]{1060000}$/);
  client.send(Buffer.alloc(6_000));
  t.equal((await client.ended).how, 'reset');
  t.match(await lab.logged(({ code }) => code === 'byte-limit-reached'), USED_UP);
});

t.test('explained: the rates, and whether they are used up now', async (t) => {
  const lab = await startLab(t, { configure: rate({ perAddress: { requests: '1/h' }, perClient: { received: '1GiB/day' } }) });
  const explain = async (): Promise<{ notes: string[]; verdict: string; rules: { detail: string }[] }> => (await (await fetch(`${lab.adminUrl}/explain?target=${encodeURIComponent(`http://${ECO}:${lab.upstream.httpPort}/`)}&client=127.0.0.1&resolve=no`)).json()) as never;
  const before = await explain();
  t.match(before, { verdict: 'allow', notes: ['rules[0] has rates: requests 1/h for each address; received 1GiB/day for the client.'] });
  t.equal(before.notes.length, 2, 'that, and that no name was looked up');
  t.match(before.rules[0]?.detail, 'permits it, at its rates: requests 1/h for each address');
  t.equal((await ask(lab, 'forward')).status, 200);
  t.match((await explain()).notes[1], /^Now it would get 429 rate-limited: 127\.0\.0\.1 has used up rules\[0\]\.rate\.perAddress\.requests, 1\/h; try again in \d+ s, or raise/);
  t.match(await askRaw(t, lab.port, requestOf(lab, 'forward')), LIMITED);
  const { requestId } = await lab.logged(({ code }) => code === 'rate-limited');
  const recalled = (await (await fetch(`${lab.adminUrl}/explain/${String(requestId)}?resolve=no`)).json()) as Record<string, unknown>;
  t.match(recalled, { verdict: 'deny', code: 'rate-limited', status: 429, remedy: /^try again in/, now: { verdict: 'allow', notes: [/has rates/, /^Now it would get 429/] } });
});

/** What breaks in the middle: the client, or the upstream, at every stage of an exchange. */
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { addressOf, answerOf, ask, beginAsk, TERMINATED } from '../support/ask.ts';
import { fill } from '../support/fill.ts';
import { startFullListener } from '../support/full-listener.ts';
import { type HeldLab, startHeldLab } from '../support/held-lab.ts';
import { ECO, type Lab } from '../support/lab.ts';
import { countSockets, untilDeserted, untilSockets } from '../support/open-sockets.ts';
import { openWire, type Wire } from '../support/wire.ts';

type Form = (typeof TERMINATED)[number];

/** Settles when it is closed, whatever broke it. */
async function untilClosed(socket: Socket): Promise<void> {
  if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
}

/** Sends a request head, and whatever of its body is to come at first. */
async function begin(t: Test, lab: Lab, form: Form, { method = 'GET', version = '1.1', fields = '', body = '' } = {}): Promise<Wire> {
  const { target, host } = addressOf(lab, form, '/x');
  const wire = await openWire(t, lab.port);
  wire.send(`${method} ${target} HTTP/${version}\r\nHost: ${host}\r\n${fields}\r\n${body}`);
  return wire;
}

const UPLOAD = { method: 'POST', fields: 'Content-Length: 1000000\r\n', body: 'the beginning' };
const CHUNKED_UPLOAD = { method: 'POST', fields: 'Transfer-Encoding: chunked\r\n', body: 'd\r\nthe beginning\r\n' };

async function counted(lab: Lab, form: Form, outcome: string, code: string): Promise<number | undefined> {
  return (await lab.scrape()).samples.get(`eco_egress_requests_total{form="${form}",destination="eco",client="pods",outcome="${outcome}",code="${code}"}`);
}

/** The lab carries requests as before, and its gauges are back at nothing. */
async function proveWell(t: Test, lab: HeldLab): Promise<void> {
  const answer = ask(lab, 'gateway', { path: '/well' });
  (await lab.next()).res.end('well');
  t.equal((await answer).text, 'well', 'the next request is served');
  const { samples } = await lab.scrape();
  t.equal(samples.get('eco_egress_upstream_connections{destination="eco",state="active"}'), 0);
}

t.test('the client goes away: the upstream is let go at once, and the log says who it was', async (t) => {
  for (const form of TERMINATED) {
    const lab = await startHeldLab(t);
    let aborted = 0;
    for (const how of ['destroy', 'resetAndDestroy'] as const) {
      for (const [when, request, status] of [
        ['before the answer', {}, 0],
        ['in the middle of the answer', {}, 200],
        ['in the middle of an answer in chunks', {}, 201],
        ['in the middle of its upload', UPLOAD, 0],
        ['in the middle of its upload in chunks', CHUNKED_UPLOAD, 0],
      ] as const) {
        const client = await begin(t, lab, form, request);
        const { req, res } = await lab.next();
        if (status !== 0) {
          res.writeHead(status, status === 200 ? { 'Content-Length': '1000' } : {}).write('some of it');
          await client.until('some of it');
        } else if ('body' in request) {
          await once(req, 'data');
        }
        client.socket[how]();
        await untilClosed(req.socket);
        aborted += 1;
        await lab.logged(() => lab.log.filter(({ code }) => code === 'client-closed').length === aborted);
        const line = lab.log.findLast(({ code }) => code === 'client-closed');
        t.match(line, { form, status, closedBy: 'client', level: 'info', msg: 'aborted: client-closed', bytesSent: 'body' in request ? 13 : 0 }, `${form}: ${how} ${when}`);
        t.equal(req.complete, !('body' in request), 'a part of a body never looked like the whole');
      }
    }
    t.equal(await counted(lab, form, 'aborted', 'client-closed'), aborted);
    t.equal((await lab.scrape()).samples.get('eco_egress_upstream_errors_total{destination="eco",error="client-closed"}'), undefined, 'no fault of the upstream');
    await proveWell(t, lab);
  }
});

t.test('the client gives up before the upstream has accepted a connection: the failure of the upstream is counted all the same', async (t) => {
  const silent = await startFullListener(t);
  const lab = await startHeldLab(t, {
    configure: ({ destinations: { eco }, timeouts }) => {
      Object.assign(eco, { ports: [silent], gateway: { prefix: '/eco', url: `http://${ECO}:${silent}` } });
      Object.assign(timeouts, { connect: '800ms' });
    },
  });
  const client = await begin(t, lab, 'gateway');
  await delay(50);
  client.socket.destroy();
  t.match(await lab.logged(({ code }) => code === 'client-closed'), { msg: 'aborted: client-closed', status: 0, detail: 'the client closed its connection before there was one to the upstream' });
  let failed: number | undefined = 0;
  for (let looks = 0; failed === 0 && looks < 200; looks += 1) {
    await delay(20);
    failed = (await lab.scrape()).samples.get('eco_egress_upstream_errors_total{destination="eco",error="connect-timeout"}');
  }
  t.equal(failed, 1);
  t.match(await (await fetch(`${lab.adminUrl}/destinations`)).json(), { destinations: [{ destination: 'eco', last: 'failed', lastFailure: { code: 'connect-timeout' } }] });
});

t.test('the upstream breaks before it answers: 502 and the connection stays good', async (t) => {
  for (const form of TERMINATED) {
    const lab = await startHeldLab(t);
    let cut = 0;
    for (const how of ['destroy', 'resetAndDestroy'] as const) {
      for (const upload of [false, true]) {
        const request = beginAsk(lab, form, upload ? { method: 'POST', headers: ['Content-Length', '10'] } : {});
        const answer = answerOf(request);
        if (upload) request.write('half');
        else request.end();
        const { req } = await lab.next();
        if (upload) await once(req, 'data');
        // Only a TCP socket can be reset; under TLS the end without close_notify says the same.
        if (how === 'resetAndDestroy' && form !== 'gateway') req.socket.resetAndDestroy();
        else req.socket.destroy();
        cut += 1;
        const { status, reason, headers, text } = await answer;
        request.destroy();
        t.equal(`${status} ${reason}`, '502 Upstream failed: upstream-cut', `${form}: ${how}${upload ? ' during the upload' : ''}`);
        t.match(headers['proxy-status'], /^eco-egress;error=http_response_incomplete;/);
        t.match(JSON.parse(text), { code: 'upstream-cut', status: 502 });
        t.match(lab.log.findLast(({ code }) => code === 'upstream-cut'), { form, status: 502, level: 'error', msg: 'failed: upstream-cut' });
      }
    }
    t.equal(await counted(lab, form, 'failed', 'upstream-cut'), cut);
    t.equal((await lab.scrape()).samples.get('eco_egress_upstream_errors_total{destination="eco",error="upstream-cut"}'), cut);
    await proveWell(t, lab);
  }
});

t.test('the upstream breaks in the middle of its answer: the client sees it broken, never whole', async (t) => {
  for (const form of TERMINATED) {
    const lab = await startHeldLab(t);
    let cut = 0;
    for (const how of ['destroy', 'resetAndDestroy'] as const) {
      for (const [framing, headers, version] of [
        ['a length', { 'Content-Length': '1000' }, '1.1'],
        ['chunks', {}, '1.1'],
        ['a length, to HTTP/1.0', { 'Content-Length': '1000' }, '1.0'],
        ['chunks, to HTTP/1.0', {}, '1.0'],
      ] as const) {
        const client = await begin(t, lab, form, { version });
        const { req, res } = await lab.next();
        res.writeHead(200, headers).write('some of it');
        await client.until('some of it');
        if (how === 'resetAndDestroy' && form !== 'gateway') req.socket.resetAndDestroy();
        else req.socket.destroy();
        const { heard, how: seen } = await client.ended;
        const what = `${form}: ${framing}, ${how}`;
        t.match(heard, /some of it(\r\n)?$/, `${what}: nothing was made up`);
        if (headers['Content-Length'] === undefined) {
          t.notMatch(heard, /\r\n0\r\n\r\n$/, `${what}: no last chunk`);
          // Without a length or chunks only the end tells, so it must not be a clean one.
          if (version === '1.0') t.equal(seen, 'reset', what);
        }
        cut += 1;
        await lab.logged(() => lab.log.filter(({ code }) => code === 'upstream-cut').length === cut);
        t.match(lab.log.findLast(({ code }) => code === 'upstream-cut'), { form, status: 200, closedBy: 'upstream', level: 'error', bytesReceived: 10 });
      }
    }
    t.equal(await counted(lab, form, 'failed', 'upstream-cut'), cut);
    await proveWell(t, lab);
  }
});

/** At once, because these tests wait for clocks. */
async function inEachForm(run: (form: Form) => Promise<void>): Promise<void> {
  await Promise.all(TERMINATED.map(run));
}

t.test('the upstream breaks while it is sent a large body', async (t) => {
  await inEachForm(async (form) => {
    const lab = await startHeldLab(t);
    const request = beginAsk(lab, form, { method: 'PUT', headers: ['Transfer-Encoding', 'chunked'] });
    const answer = answerOf(request);
    const { req } = await (request.write('first'), lab.next());
    await fill(request);
    req.socket.destroy();
    t.match(await answer, { status: 502, reason: 'Upstream failed: upstream-cut' }, form);
    request.destroy();
    await proveWell(t, lab);
  });
});

t.test('an upstream that is silent runs into our clocks, before and in the middle of its answer', async (t) => {
  await inEachForm(async (form) => {
    const lab = await startHeldLab(t, { configure: (draft) => Object.assign(draft.timeouts, { responseHeaders: '300ms', body: '300ms' }) });
    const late = ask(lab, form);
    const { req } = await lab.next();
    t.match(await late, { status: 504, reason: 'Upstream failed: upstream-silent' }, form);
    await untilClosed(req.socket);
    t.match(lab.log.findLast(({ code }) => code === 'upstream-silent'), { status: 504 });

    const client = await begin(t, lab, form);
    const held = await lab.next();
    held.res.write('some of it');
    t.notMatch((await client.ended).heard, /\r\n0\r\n\r\n$/);
    await untilClosed(held.req.socket);
    t.match(lab.log.findLast(({ code }) => code === 'upstream-silent'), { status: 200, closedBy: 'proxy' });
    t.equal(await counted(lab, form, 'failed', 'upstream-silent'), 2);
  });
});

t.test('a client that has ended its direction: an answer that had not begun ends in order, one that had by a reset', async (t) => {
  const lab = await startHeldLab(t);
  for (const [begun, how] of [[false, 'fin'], [true, 'reset']] as const) {
    const client = await openWire(t, lab.port, { halfOpen: true });
    client.send(`GET /eco/x HTTP/1.1\r\nHost: x\r\n\r\n`);
    const { res } = await lab.next();
    if (begun) {
      res.writeHead(200, { 'Content-Length': '1000' }).write('some of it');
      await client.until('some of it');
    }
    client.socket.end();
    t.equal((await client.ended).how, how, begun ? 'begun' : 'not begun');
  }
});

t.test('a reader that is slow stops the writer, and gets every byte when it goes on', async (t) => {
  await inEachForm(async (form) => {
    const lab = await startHeldLab(t);
    const down = beginAsk(lab, form).end();
    const { res } = await lab.next();
    res.flushHeaders();
    const [response] = (await once(down, 'response')) as [IncomingMessage];
    const written = await fill(res);
    t.ok(written < 64 * 1024 * 1024, `${form}: the upstream is stopped after ${written} bytes`);
    res.end();
    let received = 0;
    for await (const chunk of response) received += (chunk as Buffer).length;
    t.equal(received, written);

    const up = beginAsk(lab, form, { method: 'PUT', headers: ['Transfer-Encoding', 'chunked'] });
    const answer = answerOf(up);
    up.write('first');
    const { req, res: reply } = await lab.next();
    const sent = 5 + (await fill(up));
    t.ok(sent < 64 * 1024 * 1024, `${form}: the client is stopped after ${sent} bytes`);
    up.end();
    let taken = 0;
    for await (const chunk of req) taken += (chunk as Buffer).length;
    reply.end(String(taken));
    t.equal((await answer).text, String(sent));
  });
});

t.test('a reader that never goes on loses its connection, and the upstream its own', async (t) => {
  await inEachForm(async (form) => {
    const lab = await startHeldLab(t, { configure: (draft) => Object.assign(draft.timeouts, { body: '300ms' }) });
    const request = beginAsk(lab, form).end();
    request.on('error', () => {});
    const { req, res } = await lab.next();
    res.flushHeaders();
    await once(request, 'response');
    const stopped = fill(res, Infinity);
    t.match(await lab.logged(({ code }) => code !== undefined), { code: 'client-stalled', form, status: 200, closedBy: 'proxy', detail: /client did not read/ });
    await untilClosed(req.socket);
    await stopped;
    request.destroy();
  });
});

t.test('a thousand aborts in a row leave nothing, and the next request is served', async (t) => {
  const lab = await startHeldLab(t);
  await proveWell(t, lab);
  const before = countSockets();
  const AT_ONCE = 20;
  for (let round = 0; round < 1000 / AT_ONCE; round += 1) {
    await Promise.all(
      Array.from({ length: AT_ONCE }, async (_, i) => {
        const form = TERMINATED[i % 3] ?? 'gateway';
        const client = await begin(t, lab, form, i % 4 === 3 ? UPLOAD : {});
        const { res } = await lab.next();
        if (i % 4 === 1) res.write('some of it');
        if (i % 2 === 0) client.socket.destroy();
        else client.socket.resetAndDestroy();
        await client.ended;
      }),
    );
  }
  await lab.logged(() => lab.log.filter(({ code }) => code === 'client-closed').length === 1000);
  await untilSockets(before);
  let counters = 0;
  for (const form of TERMINATED) counters += (await counted(lab, form, 'aborted', 'client-closed')) ?? 0;
  t.equal(counters, 1000);
  await proveWell(t, lab);
  await lab.service.close();
  await untilDeserted(lab.upstream.https);
  await untilDeserted(lab.upstream.http);
});

t.test('after an answer for an upstream that broke off late, the client has all of its idle time', async (t) => {
  const lab = await startHeldLab(t, { configure: ({ timeouts }) => Object.assign(timeouts, { keepAlive: '3s' }) });
  const wire = await openWire(t, lab.port);
  const begin = 'GET /eco/ HTTP/1.1\r\nHost: x\r\n\r\n';
  wire.send(begin);
  const { req, res } = await lab.next();
  res.writeEarlyHints({ link: '</a>; rel=preload' });
  await delay(4000);
  req.socket.destroy();
  await wire.until(/ 502 [^]*\}\n$/);
  // Several ticks of the clock, each of which would close it.
  await delay(1000);
  wire.send(begin);
  (await lab.next()).res.end('answered');
  await wire.until('answered');
});

/** `eco-egress echo` as a process: its arguments, its log, and its end. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import t, { type Test } from 'tap';
import { runEcho } from '../../src/cli/echo.ts';
import { recordIo } from '../support/command-io.ts';
import { MAIN } from '../support/eco.ts';
import { listen } from '../support/listen.ts';
import { line } from '../support/proxy-header.ts';
import { askRaw } from '../support/wire.ts';

async function startEcho(t: Test, args: readonly string[]) {
  const child = spawn(process.execPath, [MAIN, 'echo', '--listen', '127.0.0.1:0', ...args], { env: { PATH: process.env['PATH'] }, stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'close');
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  const log: Record<string, unknown>[] = [];
  const lines = createInterface({ input: child.stdout }).on('line', (text) => log.push(JSON.parse(text) as Record<string, unknown>));
  await once(lines, 'line');
  return { child, ended, log, port: Number(String(log[0]?.['listen']).split(':')[1]) };
}

t.test('behind a load balancer, until SIGTERM', async (t) => {
  const echo = await startEcho(t, ['--proxy-protocol', '--believe', 'x-forwarded-for', '--trusted-peer', '127.0.0.0/8', '10.9.0.0/16']);
  t.match(echo.log[0], { level: 'info', trustedPeers: ['127.0.0.0/8', '10.9.0.0/16'], proxyProtocol: true, believe: ['x-forwarded-for'], msg: 'eco-egress echo is listening' });
  const request = Buffer.from('GET /json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  t.match(await askRaw(t, echo.port, Buffer.concat([line('TCP4 34.123.45.67 10.0.0.1 5000 80'), request])), /\{"ip":"34\.123\.45\.67","port":5000,"via":"proxy-protocol"\}/);
  echo.child.kill('SIGTERM');
  t.same(await echo.ended, [0, null]);
  t.match(echo.log.at(-1), { msg: 'eco-egress echo has ended' });
});

t.test('wrong arguments end with 2', async (t) => {
  for (const [options, said] of [
    [{ listen: '8080' }, /--listen: .*Write the address too: 0\.0\.0\.0:8080/],
    [{ trustedPeer: ['10.8.1.0/14'], proxyProtocol: true }, /--trusted-peer: .*inside a range/],
    [{ proxyProtocol: true }, /No peer is trusted/],
    [{ believe: 'x-forwarded-for' }, /No peer is trusted/],
    [{ believe: 'forwarded', trustedPeer: ['10.0.0.0/8'] }, /--believe takes x-forwarded-for/],
    [{ trustedPeer: ['10.0.0.0/8'] }, /has no effect alone/],
  ] as const) {
    const io = recordIo();
    t.equal(await runEcho({ listen: '127.0.0.1:0', ...options }, io), 2);
    t.match(io.err(), said);
    t.equal(io.out(), '');
  }
});

t.test('an address that cannot be bound ends with 1', async (t) => {
  const io = recordIo();
  t.equal(await runEcho({ listen: '192.0.2.1:0' }, io), 1);
  t.match(io.err(), /^eco-egress echo could not start: 192\.0\.2\.1 is not an address of this host\. [^\n]*\n$/);
  const port = await listen(t, createServer());
  const taken = recordIo();
  t.equal(await runEcho({ listen: `127.0.0.1:${port}` }, taken), 1);
  t.equal(taken.err(), `eco-egress echo could not start: 127.0.0.1:${port} is in use. End the program that listens there, or change the listener's address.\n`);
});

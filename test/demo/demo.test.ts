/** `demo` as a person uses it: start it, paste every command it prints, look at the log below, press Ctrl-C. */
import t from 'tap';
import type { Test } from 'tap';
import { execFile, spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { get } from 'node:https';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { eco } from '../support/eco.ts';
import { listen } from '../support/listen.ts';

const MAIN = join(import.meta.dirname, '../../src/main.ts');
/** The shell's own proxy settings have no part in this test. */
const ENV = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(https?|no|all)_proxy$/i.test(name)));

interface RunningDemo {
  readonly child: ChildProcessByStdio<null, Readable, Readable>;
  /** All that came out so far. */
  output(): string;
  /** Resolves when the output matches. */
  until(pattern: RegExp): Promise<void>;
  /** Sends the signal; resolves to exit code and signal. */
  stop(signal?: NodeJS.Signals): Promise<unknown[]>;
}

function startDemo(t: Test, args: string[], env: NodeJS.ProcessEnv = ENV): RunningDemo {
  const child = spawn(process.execPath, [MAIN, 'demo', ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  let text = '';
  const more = (chunk: Buffer): void => {
    text += chunk.toString();
  };
  child.stdout.on('data', more);
  child.stderr.on('data', more);
  const exited = once(child, 'exit');
  return {
    child,
    output: () => text,
    async until(pattern) {
      while (!pattern.test(text)) {
        const ended = await Promise.race([once(child.stdout, 'data').then(() => false), exited.then(() => true)]);
        if (ended && !pattern.test(text)) throw new Error(`ended without ${pattern}: ${text}`);
      }
    },
    stop(signal = 'SIGINT') {
      child.kill(signal);
      return exited;
    },
  };
}

const NO_PORTS = ['--port-http', '0', '--port-proxy', '0', '--port-tls', '0', '--port-admin', '0'];

interface Printed {
  readonly name: string;
  readonly expect: string;
  readonly command: string;
}

function readPrinted(text: string): Printed[] {
  return [...text.matchAll(/^# ([^:]+): (.+)\n(curl .+)$/gm)].map(([, name = '', expect = '', command = '']) => ({ name, expect, command }));
}

interface Ran {
  readonly code: number;
  readonly stdout: string;
}

function runInShell(command: string): Promise<Ran> {
  return new Promise((resolve) => {
    execFile('sh', ['-c', command], { env: ENV, timeout: 20_000 }, (error, stdout) => {
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout });
    });
  });
}

const field = (ran: Ran): Record<string, unknown> => JSON.parse(ran.stdout) as Record<string, unknown>;

function checkRefusal(t: Test, ran: Ran): void {
  t.match(ran.stdout, /^HTTP\/1\.1 403 Egress denied: host-not-allowed\r\n/);
  t.match(ran.stdout, /^proxy-status: eco-egress;\s*error=http_request_denied;\s*details="[^"]*evil\.example[^"]*"\r$/im);
  t.match(ran.stdout, /^x-request-id: \S+\r$/im);
}

/** What each printed command has to do: its line of explanation, as code. */
const CHECKS: Record<string, (t: Test, ran: Ran) => void> = {
  connect(t, ran) {
    t.match(field(ran), { status: 'ok', tls: true, path: '/api/status' });
    t.notMatch(field(ran), { headers: { via: String } }, 'the proxy did not see inside');
  },
  forward(t, { stdout }) {
    t.match(stdout, /^eco_sit_requests_total \d+$/m);
    t.notMatch(stdout, /eco_egress/);
  },
  gateway(t, ran) {
    t.match(field(ran), { status: 'ok', tls: true, path: '/api/status', headers: { via: /eco-egress/ } });
  },
  'host-routed'(t, ran) {
    t.match(field(ran), { status: 'ok', tls: false, path: '/api/status' });
  },
  sni(t, ran) {
    t.match(field(ran), { status: 'ok', tls: true, path: '/api/status' });
    t.notMatch(field(ran), { headers: { via: String } }, 'the proxy did not see inside');
  },
  'gateway with a body'(t, { stdout }) {
    t.equal(stdout, '{"problem":"P-1"}');
  },
  refused(t, ran) {
    checkRefusal(t, ran);
    const body = JSON.parse(ran.stdout.split('\r\n\r\n', 2)[1] ?? '') as unknown;
    t.match(body, { status: 403, code: 'host-not-allowed', detail: /evil\.example/, remedy: /evil\.example/ });
  },
  'refused tunnel'(t, ran) {
    checkRefusal(t, ran);
    t.equal(ran.code, 56, 'curl fails, with its code for a refused tunnel');
  },
  metrics(t, { stdout }) {
    const count = (...labels: string[]): number =>
      stdout
        .split('\n')
        .filter((line) => line.startsWith('eco_egress_requests_total{') && labels.every((label) => line.includes(label)))
        .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
    t.equal(count('form="forward"', 'destination="eco-sit"', 'client="this-machine"', 'code="ok"'), 1);
    t.equal(count('form="gateway"', 'code="ok"'), 2);
    t.equal(count('form="host-routed"', 'code="ok"'), 1);
    t.equal(count('form="connect"', 'destination="eco-sit"', 'code="ok"'), 1);
    t.equal(count('form="sni"', 'destination="eco-sit"', 'client="this-machine"', 'code="ok"'), 1);
    t.equal(count('outcome="denied"', 'destination="-"', 'code="host-not-allowed"'), 2);
  },
  readiness(t, { stdout }) {
    t.match(stdout, /^HTTP\/1\.1 200 /);
  },
};

t.test('every printed command does what its line says', async (t) => {
  const demo = startDemo(t, NO_PORTS);
  await demo.until(/Ctrl-C ends the demo\.\n/);
  const printed = readPrinted(demo.output());
  t.strictSame(printed.map(({ name }) => name), Object.keys(CHECKS), 'in this order, nothing else');
  t.notMatch(demo.output(), /is taken/);

  if ((await runInShell('curl --version')).code === 0) {
    for (const { name, expect, command } of printed) {
      t.comment(`${name}: ${expect}`);
      CHECKS[name]?.(t, await runInShell(command));
    }
    await demo.until(/forward GET evil\.example:80\/ .*403 host-not-allowed/);
    t.match(demo.output(), /gateway POST eco-sit\.telus\.internal:\d+\/echo .*200 ok/, 'the access log appears below');
    t.match(demo.output(), /connect eco-sit\.telus\.internal:\d+ .*200 ok/);
  } else {
    t.comment('curl is not installed here, so the printed commands were not run');
  }

  const [caFile = ''] = /\S+ca\.pem/.exec(demo.output()) ?? [];
  t.ok(existsSync(caFile), 'the CA is there for curl');
  t.strictSame(await demo.stop(), [0, null], 'Ctrl-C ends it well');
  t.notOk(existsSync(join(caFile, '..')), 'and its directory is gone');
});

t.test('the usual ports are taken: free ones, and it says so', async (t) => {
  const holders = [8080, 3128, 8443, 9090].map((port) => {
    const server = createServer();
    // Somebody else may hold it already, which will do as well.
    server.once('error', () => {});
    server.listen(port, '127.0.0.1');
    t.teardown(() => server.close());
    return Promise.race([once(server, 'listening'), once(server, 'close'), new Promise((resolve) => server.once('error', resolve))]);
  });
  await Promise.all(holders);

  const demo = startDemo(t, []);
  await demo.until(/Ctrl-C ends the demo\.\n/);
  for (const port of [8080, 3128, 8443, 9090]) t.match(demo.output(), new RegExp(String.raw`port +${port} is taken, so \d+ is used instead`));
  t.notMatch(readPrinted(demo.output()).map(({ command }) => command).join('\n'), /:(8080|3128|8443|9090)\b/);
  const [, page = ''] = /^\s*watch +(\S+) in a browser/.exec(demo.output()) ?? [];
  const shown = await fetch(page, { headers: { accept: 'text/html' } });
  t.match(await shown.text(), /<title>[^<]*eco-egress/, 'the first address that it prints is that of the status page');
  t.strictSame(await demo.stop('SIGTERM'), [0, null]);
});

t.test('a tunnel that is open does not hold the end up for long, and a second Ctrl-C breaks nothing', async (t) => {
  const demo = startDemo(t, [...NO_PORTS, '--json']);
  await demo.until(/\n/);
  const { proxy, ecoHttps, caFile, commands } = JSON.parse(demo.output().split('\n', 1)[0] ?? '') as Record<string, string>;
  t.equal(commands?.length, Object.keys(CHECKS).length);

  const { hostname, port } = new URL(proxy ?? '');
  const socket = connect(Number(port), hostname);
  t.teardown(() => socket.destroy());
  socket.write(`CONNECT ${new URL(ecoHttps ?? '').host} HTTP/1.1\r\nHost: ${new URL(ecoHttps ?? '').host}\r\n\r\n`);
  const [answer] = (await once(socket, 'data')) as [Buffer];
  t.match(answer.toString(), /^HTTP\/1\.1 200 /);
  socket.on('error', () => {});

  demo.child.kill('SIGINT');
  await demo.until(/draining/);
  t.strictSame(await demo.stop(), [0, null]);
  t.notOk(existsSync(caFile ?? ''));
});

t.test('no place for the CA: says what to change, and leaves nothing', async (t) => {
  const demo = startDemo(t, NO_PORTS, { ...ENV, TMPDIR: '/nowhere' });
  await once(demo.child, 'close');
  t.equal(demo.child.exitCode, 1);
  t.match(demo.output(), /set TMPDIR to a directory it can write to/);
});

t.test('no room for the CA: the same', async (t) => {
  const directory = t.testdir();
  // A limit of file sizes, as any user can set it, in place of a full disk.
  const child = spawn('sh', ['-c', `ulimit -f 0; exec "$0" "$@"`, process.execPath, MAIN, 'demo', ...NO_PORTS], { env: { ...ENV, TMPDIR: directory }, stdio: ['ignore', 'ignore', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  const message = await text(child.stderr);
  t.match(message, /set TMPDIR to a directory it can write to/);
  t.strictSame(readdirSync(directory), []);
});

t.test('TMPDIR relative to the working directory', async (t) => {
  const demo = startDemo(t, NO_PORTS, { ...ENV, TMPDIR: relative(process.cwd(), t.testdir()) });
  await demo.until(/its CA {3}\/.*\n/);
  t.strictSame(await demo.stop(), [0, null]);
});

t.test('the stand-in alone, on a port that is taken', async (t) => {
  const directory = t.testdir();
  const port = await listen(t, createServer());
  const { code, err } = await eco(['demo', '--stand-in-only', `--certificates=${directory}`, `--listen-https=127.0.0.1:${port}`, '--listen-http=127.0.0.1:0']);
  t.equal(code, 1);
  t.equal(err, `eco-egress demo could not start: 127.0.0.1:${port} is in use. End the program that listens there, or change the listener's address.\n`);
});

t.test('the stand-in alone, on what is no address', async (t) => {
  for (const address of ['1:2:3:4', '::1:443', 'abc:443']) t.match(await eco(['demo', '--stand-in-only', `--listen-https=${address}`]), { code: 2, out: '', err: /'--listen-https <address:port>' argument '.*' is invalid\. [^\n]* Write / }, address);
});

t.test('the stand-in alone, as docker-compose.yml starts it', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'eco-egress-test-'));
  t.teardown(() => {
    rmSync(directory, { recursive: true });
  });
  const args = ['--stand-in-only', `--certificates=${directory}`, '--listen-https=127.0.0.1:0', '--listen-http=127.0.0.1:0', '--name=eco.example'];
  const demo = startDemo(t, args);
  await demo.until(/its CA is .*\n/);
  const [, https = ''] = /https (\S+) and/.exec(demo.output()) ?? [];
  const request = get({ host: '127.0.0.1', port: Number(https.split(':')[1]), servername: 'eco.example', ca: readFileSync(join(directory, 'ca.pem')), agent: false });
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  t.equal(response.statusCode, 200);
  response.destroy();
  t.strictSame(await demo.stop('SIGTERM'), [0, null]);
});

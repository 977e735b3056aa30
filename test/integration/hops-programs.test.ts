/** Parents as people run them: Squid and tinyproxy, each where the machine has it. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { ask, FORMS } from '../support/ask.ts';
import { findUnusedPort } from '../support/unused-port.ts';
import { LOGIN, startHopLab } from '../support/hop-lab.ts';
import { ECO } from '../support/lab.ts';
import type { TlsLab } from '../support/tls-lab.ts';

const isHere = (program: string): boolean => spawnSync(program, ['-v'], { stdio: 'ignore', env: ENV }).error === undefined;
const ENV = { PATH: `${process.env['PATH'] ?? ''}:/usr/sbin` };

/** Runs until the test ends; settles when it takes connections. */
async function run(t: Test, program: string, args: readonly string[], port: number): Promise<void> {
  const child = spawn(program, args, { stdio: 'ignore', env: ENV });
  const exited = once(child, 'exit');
  t.teardown(async () => {
    child.kill('SIGKILL');
    await exited;
  });
  for (;;) {
    const socket = connect(port, '127.0.0.1');
    const taken = await new Promise<boolean>((resolve) => socket.on('connect', () => { resolve(true); }).on('error', () => { resolve(false); }));
    socket.destroy();
    if (taken) return;
    if (child.exitCode !== null) throw new Error(`${program} has ended`);
    await delay(20);
  }
}

/** What came of one request in each form. */
async function outcomes(lab: TlsLab): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const form of FORMS) {
    try {
      const { status, text } = await ask(lab, form, { path: `/${form}` });
      found[form] = status === 200 ? 'ok' : (JSON.parse(text) as { code: string }).code;
    } catch (error) {
      // Node's client shows no more than the status line of a refused CONNECT.
      found[form] = /: ([\w-]+)\s*$/.exec((error as Error).message)?.[1] ?? String(error);
    }
  }
  return found;
}

async function remedyOf(lab: TlsLab, form: 'gateway' | 'forward'): Promise<{ detail: string; remedy: string }> {
  return JSON.parse((await ask(lab, form)).text) as { detail: string; remedy: string };
}

t.test('Squid', { skip: isHere('squid') ? false : 'squid is not on this machine' }, async (t) => {
  const port = await findUnusedPort();
  const lab = await startHopLab(t, { hops: { gate: { url: `http://squid.test:${port}` } } });
  const { httpsPort, httpPort } = lab.upstream;
  const directory = t.testdir({ hosts: `127.0.0.1 ${ECO}\n`, 'squid.conf': '' });
  const settings = `http_port 127.0.0.1:${port}
hosts_file ${directory}/hosts
pid_filename none
cache_log /dev/null
access_log none
cache deny all
pinger_enable off
coredump_dir none
acl SSL_ports port ${httpsPort} 1
http_access deny CONNECT !SSL_ports
http_access allow all
`;
  writeFileSync(`${directory}/squid.conf`, settings);
  await run(t, 'squid', ['-N', '-f', `${directory}/squid.conf`], port);

  t.strictSame(await outcomes(lab), { connect: 'ok', gateway: 'ok', forward: 'hop-refused', 'host-routed': 'hop-refused' });
  const { detail, remedy } = await remedyOf(lab, 'forward');
  t.match(detail, new RegExp(`^hop gate \\(squid\\.test:${port}\\): answered "HTTP/1\\.1 403 Forbidden" to CONNECT 127\\.0\\.0\\.1:${httpPort}, X-Squid-Error: "ERR_ACCESS_DENIED`));
  t.match(remedy, /SSL_ports/);

  await lab.reload((draft) => Object.assign(draft.destinations.eco, { resolve: 'parent', addresses: undefined }));
  t.strictSame(await outcomes(lab), { connect: 'ok', gateway: 'ok', forward: 'hop-refused', 'host-routed': 'hop-refused' }, 'by name');
  t.equal((await lab.logged((line) => line['form'] === 'gateway' && line['upstreamAddress'] === '-')).code, 'ok');

  await lab.reload((draft) => Object.assign(draft.destinations.eco, { ports: [1], gateway: { prefix: '/eco', url: `http://${ECO}:1` } }));
  t.match(await remedyOf(lab, 'gateway'), { code: 'hop-upstream-failed', detail: /503 Service Unavailable.*ERR_CONNECT_FAIL/ });
});

t.test('tinyproxy', { skip: isHere('tinyproxy') ? false : 'tinyproxy is not on this machine' }, async (t) => {
  const port = await findUnusedPort();
  const lab = await startHopLab(t, { hops: { gate: { url: `http://tiny.test:${port}`, credentialsFile: 'hop.txt' } }, files: { '/lab/hop.txt': LOGIN } });
  const { httpsPort, httpPort } = lab.upstream;
  const settings = `Port ${port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\nBasicAuth ${LOGIN.replace(':', ' ')}\nConnectPort ${httpsPort}\nConnectPort ${httpPort}\nConnectPort 1\n`;
  await run(t, 'tinyproxy', ['-d', '-c', `${t.testdir({ 'tinyproxy.conf': settings })}/tinyproxy.conf`], port);

  t.strictSame(await outcomes(lab), { connect: 'ok', forward: 'ok', gateway: 'ok', 'host-routed': 'ok' });

  await lab.reload((draft) => Object.assign(draft.destinations.eco, { ports: [1], gateway: { prefix: '/eco', url: `http://${ECO}:1` } }));
  t.match(await remedyOf(lab, 'gateway'), { code: 'hop-failed', detail: /500 Unable to connect/ });
  await lab.reload((draft) => Object.assign(draft.destinations.eco, { ports: [2], gateway: { prefix: '/eco', url: `http://${ECO}:2` } }));
  t.match(await remedyOf(lab, 'gateway'), { code: 'hop-refused', detail: /403 Access violation/, remedy: /SSL_ports/ });

  lab.files['/lab/hop.txt'] = 'eco-egress:wrong';
  await lab.reload(() => {});
  t.match(await remedyOf(lab, 'gateway'), { code: 'hop-credentials', detail: /tiny\.test/, remedy: /hops\.gate\.credentialsFile/ });
});

/**
 * How many connections reach the partner, each of them a NAT port, for the
 * same 10,000 requests: by our gateway, our forward form, and CONNECT; by
 * Squid and tinyproxy, where they are installed. 100 clients call at once, 100
 * requests each. The upstream counts, in a process of its own.
 * Run, under a minute: bin/node bench/ports.ts [PROXY]
 */
import { type ChildProcess, fork, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request, type RequestListener } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { stringify } from 'yaml';
import { createAuthority } from '../src/demo/authority.ts';
import { chooseByName, readCommandLine } from '../test/support/command-line.ts';
import { findUnusedPort } from '../test/support/unused-port.ts';

const CLIENTS = 100;
const REQUESTS = 100;
const HOST = '127.0.0.1';

interface Upstream {
  readonly http: number;
  readonly https: number;
  readonly ca: string;
}

interface Place extends Upstream {
  readonly directory: string;
  /** Where the proxy has to listen. */
  readonly port: number;
}

interface Proxy {
  readonly name: string;
  readonly program: string;
  /** Writes its configuration. */
  readonly args: (place: Place) => readonly string[];
}

type Way = 'gateway' | 'forward' | 'a tunnel each';

const PROXIES: readonly (readonly [Proxy, readonly Way[]])[] = [
  [{ name: 'eco-egress', program: process.execPath, args: ours }, ['gateway', 'forward', 'a tunnel each']],
  [{ name: 'squid', program: 'squid', args: squid }, ['forward', 'a tunnel each']],
  [{ name: 'tinyproxy', program: 'tinyproxy', args: tinyproxy }, ['forward', 'a tunnel each']],
];

const USAGE = `bin/node bench/ports.ts [NAME]
  NAME  of ${PROXIES.map(([{ name }]) => name).join(', ')}; all by default
`;
const [only = ''] = readCommandLine({}, USAGE).positionals;
if (only === 'upstream') await serve();
else await compare(chooseByName(PROXIES, only, ([{ name }]) => name, USAGE));

async function compare(proxies: typeof PROXIES): Promise<void> {
  const upstream = fork(import.meta.filename, ['upstream']);
  const [ports] = (await once(upstream, 'message')) as [Upstream];
  print(`${CLIENTS} clients, ${REQUESTS} requests each\n\n${row('proxy', 'way', 'connections', 'seconds')}`);
  for (const [proxy, ways] of proxies) {
    if (proxy.program !== process.execPath && spawnSync('which', [proxy.program]).status !== 0) print(row(proxy.name, 'not installed', '', ''));
    else for (const way of ways) print(await measure(proxy, way, ports, upstream));
  }
  upstream.kill();
}

async function measure(proxy: Proxy, way: Way, ports: Upstream, upstream: ChildProcess): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'ports-'));
  // Squid, started by root, becomes another user.
  chmodSync(directory, 0o777);
  const place: Place = { ...ports, directory, port: await findUnusedPort() };
  const running = spawn(proxy.program, proxy.args(place), { stdio: ['ignore', 'ignore', 'inherit'] });
  const ended = once(running, 'exit');
  try {
    await Promise.race([untilListening(place.port), ended.then(() => { throw new Error(`${proxy.name} did not start`); })]);
    const before = await countOf(upstream);
    const began = performance.now();
    await Promise.all(Array.from({ length: CLIENTS }, () => (way === 'a tunnel each' ? callByTunnels(place) : callByProxy(place, way))));
    const seconds = (performance.now() - began) / 1000;
    return row(proxy.name, way, String((await countOf(upstream)) - before), seconds.toFixed(1));
  } finally {
    running.kill('SIGKILL');
    await ended;
    rmSync(directory, { recursive: true });
  }
}

/** One client with a new connection to the proxy for each request: the worst that a client can do. */
async function callByProxy({ port, http }: Place, way: Way): Promise<void> {
  const path = way === 'gateway' ? '/eco/x' : `http://${HOST}:${http}/x`;
  for (let i = 0; i < REQUESTS; i += 1) {
    await new Promise<void>((resolve, reject) => {
      const req = request({ host: HOST, port, path, agent: false, headers: { host: way === 'gateway' ? 'eco-egress' : `${HOST}:${http}` } }, (res) => {
        res.resume();
        if (res.statusCode === 200) res.once('end', resolve);
        else reject(new Error(`${way}: ${String(res.statusCode)}`));
      });
      req.once('error', reject).end();
    });
  }
}

/** One client that opens a tunnel for each request, as programs do that keep no connection. */
async function callByTunnels({ port, http }: Place): Promise<void> {
  for (let i = 0; i < REQUESTS; i += 1) {
    const socket = connect(port, HOST);
    socket.setEncoding('latin1').write(`CONNECT ${HOST}:${http} HTTP/1.1\r\nHost: ${HOST}:${http}\r\n\r\n`);
    let asked = false;
    let heard = '';
    for await (const text of socket) {
      heard += String(text);
      if (!asked && heard.includes('\r\n\r\n')) {
        asked = true;
        socket.write(`GET /x HTTP/1.1\r\nHost: ${HOST}\r\nConnection: close\r\n\r\n`);
      }
    }
    if (!heard.endsWith('ok')) throw new Error(`a tunnel ended with ${heard}`);
  }
}

function ours({ directory, port, http, https, ca }: Place): readonly string[] {
  const file = join(directory, 'egress.yaml');
  writeFileSync(join(directory, 'ca.pem'), ca);
  writeFileSync(
    file,
    stringify({
      version: 1,
      listeners: { http: `${HOST}:${port}`, tls: 'off', admin: `${HOST}:0` },
      clients: { local: { addresses: [`${HOST}/32`] } },
      destinations: {
        partner: { hosts: [HOST], ports: [http, https], addresses: [`${HOST}/32`], gateway: { prefix: '/eco', url: `https://${HOST}:${https}` }, tls: { caFile: 'ca.pem' } },
      },
      rules: [{ clients: ['local'], destinations: ['partner'] }],
      log: { level: 'error' },
    }),
  );
  return [join(import.meta.dirname, '../src/main.ts'), 'serve', '--config', file];
}

function squid({ directory, port, http }: Place): readonly string[] {
  const file = join(directory, 'squid.conf');
  writeFileSync(
    file,
    `http_port ${HOST}:${port}\nacl ports port ${http}\nhttp_access allow ports\nhttp_access deny all\ncache deny all\naccess_log none\ncache_log ${directory}/cache.log\npid_filename none\ncoredump_dir ${directory}\nshutdown_lifetime 0 seconds\n`,
  );
  return ['-N', '-f', file];
}

function tinyproxy({ directory, port, http }: Place): readonly string[] {
  const file = join(directory, 'tinyproxy.conf');
  writeFileSync(file, `Port ${port}\nListen ${HOST}\nTimeout 60\nMaxClients 500\nLogFile "${directory}/log"\nLogLevel Error\nAllow ${HOST}\nConnectPort ${http}\n`);
  return ['-d', '-c', file];
}

/** The upstream: answers `ok`, and counts connections. */
async function serve(): Promise<void> {
  const authority = await createAuthority('bench CA');
  const { certPem, keyPem } = await authority.issue({ names: [], addresses: [HOST] });
  let count = 0;
  const answer: RequestListener = (_req, res) => res.end('ok');
  const ports: number[] = [];
  for (const server of [createServer(answer), createHttpsServer({ cert: certPem, key: keyPem }, answer)]) {
    server.keepAliveTimeout = 60_000;
    server.on('connection', () => {
      count += 1;
    });
    server.listen(0, HOST, 1024);
    await once(server, 'listening');
    ports.push((server.address() as AddressInfo).port);
  }
  const [http, https] = ports;
  process.on('message', () => process.send?.(count));
  process.on('disconnect', () => process.exit());
  process.send?.({ http, https, ca: authority.certPem });
}

async function countOf(upstream: ChildProcess): Promise<number> {
  upstream.send('count');
  const [count] = (await once(upstream, 'message')) as [number];
  return count;
}

async function untilListening(port: number): Promise<void> {
  for (let tries = 0; tries < 200; tries += 1) {
    const socket = connect(port, HOST);
    const up = await Promise.race([once(socket, 'connect').then(() => true), once(socket, 'close').then(() => false)]).catch(() => false);
    socket.destroy();
    if (up) return;
    await delay(50);
  }
  throw new Error('the proxy did not start');
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

function row(...cells: readonly [string, string, string, string]): string {
  const [proxy, way, connections, seconds] = cells;
  return `${proxy.padEnd(12)}${way.padEnd(16)}${connections.padStart(12)}${seconds.padStart(10)}`;
}

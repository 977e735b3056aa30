/**
 * What impolite partners do to this proxy and to others, on the same wire: the
 * table of test/partners/ driven against each that is installed. Prints Markdown.
 * Run: npm run bench -- --partners, or bin/node bench/partners.ts with options: --help
 */
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import type { Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createAuthority } from '../src/demo/authority.ts';
import { type Behaviour, BEHAVIOURS, judge } from '../test/partners/behaviours.ts';
import { exchange, type Place, type Route } from '../test/partners/exchange.ts';
import { createPartner, type Script } from '../test/partners/partner.ts';
import { createRelay } from '../test/partners/relay.ts';
import type { Contender, Way } from './contenders/contender.ts';
import { CONTENDERS } from './contenders/list.ts';
import { chooseByName, readCount, readOptions } from '../test/support/command-line.ts';
import { findUnusedPort } from '../test/support/unused-port.ts';
import { startProgram } from './machine/program.ts';
import { choose } from './options.ts';
import { renderTable } from './report/table.ts';

const HOST = 'localhost';
/** Of a direction, ms. */
const MOST_DELAY = 10;
/** Of a client, ms. */
const PATIENCE = 4000;
/** By each way, what a contender is asked: the parts that most of them have. */
const ROUTES: Readonly<Record<Way, Route>> = {
  tunnel: { form: 'connect', tls: false },
  forward: { form: 'forward', tls: false },
  gateway: { form: 'gateway', tls: true },
};
const NAMES = ['ours', 'squid', 'haproxy', 'nginx'];

/** Those with clocks of their own would have every peer's defaults waited for. */
const USUAL = BEHAVIOURS.filter(({ timeouts }) => timeouts === undefined);

export interface PartnerOptions {
  /** Names of contenders; those that are not installed are left out. */
  readonly contenders?: readonly string[];
  /** Exchanges one after the other, and as many at once, for each cell of the table. */
  readonly times?: number;
  readonly behaviours?: readonly Behaviour[];
}

/** @returns a Markdown table: behaviours down, contenders and ways across, exchanges that came out right in the cells */
export async function comparePartners({ contenders = NAMES, times = 20, behaviours = USUAL }: PartnerOptions = {}): Promise<string> {
  const there = choose(CONTENDERS, contenders, 'contender').filter((contender) => contender.version() !== null);
  const directory = mkdtempSync(join(tmpdir(), 'eco-egress-partners-'));
  const columns: { readonly title: string; readonly cells: readonly string[] }[] = [];
  try {
    for (const contender of there) {
      for (const [way, kind] of Object.entries(contender.ways) as [Way, string][]) {
        // A tunnel without CONNECT is another thing.
        if (kind === 'L4') continue;
        columns.push({ title: `${contender.name}, ${way}`, cells: await driveAll(contender, way, behaviours, { directory, times }).catch((error: unknown) => [`failed: ${error instanceof Error ? error.message : String(error)}`]) });
      }
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  const versions = there.map((contender) => `${contender.name} ${contender.version() ?? ''}`).join(', ');
  const table = renderTable(['partner', ...columns.map(({ title }) => title)], behaviours.map(({ name }, row) => [name.replaceAll('|', '\\|'), ...columns.map(({ cells }) => cells[row] ?? '')]));
  return `${2 * times} exchanges for each cell, half of them one after the other and half at once, ${MOST_DELAY} ms of delay at most in each direction on each side. Gateways have TLS to the partner. An empty cell: nobody reads what is in a tunnel. ${versions}.\n\n${table}`;
}

async function driveAll(contender: Contender, way: Way, behaviours: readonly Behaviour[], { directory, times }: { readonly directory: string; readonly times: number }): Promise<string[]> {
  const own = join(directory, `${contender.name}-${way}`);
  mkdirSync(own);
  const authority = await createAuthority('partners CA');
  const caFile = join(own, 'ca.pem');
  writeFileSync(caFile, authority.certPem);
  // Some answer by the partner alone: until then it is a polite one.
  let script: Script = async (side) => {
    await side.request();
    await side.send('HTTP/1.1 204 No Content\r\n\r\n');
  };
  const certificate = await authority.issue({ names: [HOST], addresses: ['127.0.0.1'] });
  const servers = new Servers();
  const partner = async (secure: boolean): Promise<number> => {
    const { server } = createPartner({ script: (side) => script(side), certificate: secure ? certificate : null });
    return servers.listen(createRelay({ port: await servers.listen(server), most: MOST_DELAY, seed: 1 }));
  };
  const [plainPort, securePort] = [await partner(false), await partner(true)];
  const [port, gatewayPort] = [await findUnusedPort(), await findUnusedPort()];
  const program = await startProgram(contender.launch({ directory: own, port, gatewayPort, upstreamHost: HOST, plainPort, securePort, caFile, cold: false }), own, way === 'gateway' && contender.gatewayOn === 'gatewayPort' ? gatewayPort : port);
  const near = await servers.listen(createRelay({ port: contender.gatewayOn === 'gatewayPort' && way === 'gateway' ? gatewayPort : port, most: MOST_DELAY, seed: 2 }));
  const place: Place = { port: near, gatewayPort: near, tlsPort: 0, ownName: 'proxy.internal', host: HOST, plainPort, securePort, plainPrefix: '/eco', securePrefix: '/eco', ca: authority.certPem };
  const route = ROUTES[way];
  try {
    const cells: string[] = [];
    for (const behaviour of behaviours) {
      process.stderr.write(`${contender.name}, ${way}: ${behaviour.name}\n`);
      if (behaviour.routes?.(route) === false) {
        cells.push('');
        continue;
      }
      ({ script } = behaviour);
      // Connections that a proxy has kept would go on with the script before.
      await servers.cut();
      cells.push(await drive(place, route, behaviour, times, contender.name === 'ours'));
    }
    return cells;
  } finally {
    await program.stop();
    await servers.close();
  }
}

async function drive(place: Place, route: Route, { question = {}, expected }: Behaviour, times: number, ours: boolean): Promise<string> {
  let right = 0;
  let done = 0;
  const ask = async (): Promise<boolean> => {
    const seen = await exchange(place, route, question, PATIENCE);
    done += 1;
    if (judge(seen, expected, ours) === null) right += 1;
    return seen.end === 'silent';
  };
  // Of one that hangs, one is enough.
  for (let i = 0; i < times; i += 1) if (await ask()) break;
  if (done === times) await Promise.all(Array.from({ length: times }, ask));
  return right === done ? 'all' : `${right} of ${done}`;
}

/** Servers on loopback, and all their sockets. */
class Servers {
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();

  async listen(server: Server): Promise<number> {
    this.#servers.push(server);
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.once('close', () => this.#sockets.delete(socket));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('not a TCP server');
    return address.port;
  }

  /** Settles when every connection has ended. */
  async cut(): Promise<void> {
    await Promise.all(
      [...this.#sockets].map(async (socket) => {
        const closed = once(socket, 'close');
        socket.destroy();
        await closed;
      }),
    );
  }

  async close(): Promise<void> {
    await this.cut();
    await Promise.all(
      this.#servers.map(async (server) => {
        const closed = once(server, 'close');
        server.close();
        await closed;
      }),
    );
  }
}

// Last: what it uses is defined by then.
if (process.argv[1] === import.meta.filename) {
  const usage = `bin/node bench/partners.ts [--contenders NAME,…] [--times N] [--only TEXT]
  --contenders NAME,…  these proxies, as far as they are installed; ${NAMES.join(',')} by default
  --times N            exchanges one after the other, and as many at once; 20 by default
  --only TEXT          only behaviours with that in their name
`;
  const { contenders, times, only } = readOptions({ contenders: { type: 'string', default: NAMES.join(',') }, times: { type: 'string', default: '20' }, only: { type: 'string', default: '' } }, usage);
  process.stdout.write(`${await comparePartners({ contenders: contenders.split(','), times: readCount('--times', times, usage, 1), behaviours: chooseByName(USUAL, only, ({ name }) => name, usage) })}\n`);
}

/**
 * Requests to a stand-in partner on loopback, through a separate proxy in this
 * process, before the real one listens. V8 compiles code that runs often; the
 * first clients of a new pod do not wait for that. Nothing is counted, logged
 * or remembered: it uses a separate service, which ends with it.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import { stringify } from 'yaml';
import { formatWarning } from '../config/finding.ts';
import { loadConfig } from '../config/load.ts';
import { createAuthority } from '../demo/authority.ts';
import { discardOutput, Service } from '../service.ts';

/** Connections at once. */
const AT_ONCE = 4;
/** Rounds of each: an exchange, a forwarded one and two kinds of tunnel. */
const ROUNDS = 50;
/** Exchanges on each connection that can have several. */
const EXCHANGES = 20;
/** Never the name of a partner (RFC 6761 §6.4). */
const PARTNER = 'warm-up.invalid';
/** Files of no disk. */
const [WARM_CONFIG, WARM_CA] = ['/warm-up/egress.yaml', '/warm-up/ca.pem'];
const END = 'X';
const ANSWER = `HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n${END.padStart(1024)}`;

/**
 * Resolves when every form has had its requests, or `budget` ms are over, to how many were answered.
 * @throws the reason of a failure. Nothing is left open in either case
 */
export async function warmUp(budget: number): Promise<number> {
  const over = delay(budget, undefined, { ref: false });
  const sockets: Socket[] = [];
  const own = (socket: Socket): Socket => {
    sockets.push(socket);
    return socket.on('error', () => {});
  };
  const answer = (socket: Socket): void => {
    own(socket).on('data', () => socket.write(ANSWER));
  };
  const authority = await createAuthority('eco-egress warm-up');
  const { certPem: cert, keyPem: key } = await authority.issue({ names: [PARTNER] });
  const servers = [createServer(answer), createTlsServer({ cert, key }, answer)] as const;
  let service: Service | null = null;
  let answered = 0;
  try {
    const [http, https] = [await listenOn(servers[0]), await listenOn(servers[1])];
    const files = new Map([
      [WARM_CONFIG, stringify(configFor(http, https))],
      [WARM_CA, authority.certPem],
    ]);
    const loaded = loadConfig({ file: WARM_CONFIG, env: {}, readFile: (path) => files.get(path) ?? '' });
    if (!loaded.ok) throw new Error(loaded.faults.map(formatWarning).join('; '));
    service = new Service(loaded.config, {
      logDestination: discardOutput(),
      lookup: () => Promise.resolve({ addresses: ['127.0.0.1'], ttl: null }),
    });
    await service.start();
    const { addresses } = service;
    const [port, tlsPort] = [addresses.http[0]?.port ?? 0, addresses.tls[0]?.port ?? 0];
    const origin = `${PARTNER}:${http}`;
    const plain = (): Socket => own(connect(port, '127.0.0.1'));
    const secure = (): Socket => own(connectTls({ port: tlsPort, host: '127.0.0.1', servername: PARTNER, ca: authority.certPem }));
    const onAnswer = (): void => {
      answered += 1;
    };
    const connectionOf = async (): Promise<void> => {
      for (let round = 0; round < ROUNDS; round += 1) {
        await ask(plain(), repeat(get('/warm-up/status?of=all', 'proxy.internal')), onAnswer);
        await ask(plain(), repeat(get(`http://${origin}/status?of=all`, origin)), onAnswer);
        await ask(plain(), [`CONNECT ${origin} HTTP/1.1\r\nHost: ${origin}\r\n\r\n`, get('/status', origin)], onAnswer);
        await ask(secure(), [get('/status', PARTNER)], onAnswer);
      }
    };
    await Promise.race([over, Promise.all(Array.from({ length: AT_ONCE }, connectionOf))]);
    return answered;
  } finally {
    await service?.close();
    for (const server of servers) server.close();
    for (const socket of sockets) socket.destroy();
  }
}

function configFor(http: number, https: number): object {
  return {
    version: 1,
    listeners: { http: ['127.0.0.1:0'], tls: ['127.0.0.1:0'], admin: '127.0.0.1:0' },
    selfTest: { every: 'off' },
    clients: { itself: { addresses: ['127.0.0.0/8'] } },
    destinations: {
      partner: {
        hosts: [PARTNER],
        ports: [https, http],
        addresses: ['127.0.0.0/8'],
        gateway: { prefix: '/warm-up', url: `https://${PARTNER}:${https}` },
        tls: { caFile: WARM_CA },
      },
    },
    rules: [{ clients: ['itself'], destinations: ['partner'] }],
  };
}

async function listenOn(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

function get(target: string, host: string): string {
  return `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: warm-up\r\nAccept: */*\r\n\r\n`;
}

function repeat(request: string): string[] {
  return Array.from({ length: EXCHANGES }, () => request);
}

/** Sends each request when the previous one is answered, and closes. Rejects if one is not answered. */
function ask(socket: Socket, requests: readonly string[], onAnswer: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    let asked = 0;
    const next = (): void => {
      const request = requests[asked];
      asked += 1;
      if (request !== undefined) socket.write(request);
      else {
        resolve();
        socket.destroy();
      }
    };
    socket.once('connect', next).on('data', (bytes: Buffer) => {
      // The answer to CONNECT has no content.
      const text = bytes.toString('latin1');
      if (!text.endsWith(END) && !/^HTTP\/1\.1 200 [^]*\r\n\r\n$/.test(text)) return;
      onAnswer();
      next();
    });
    socket.once('close', () => {
      reject(new Error(`a request to the proxy was not answered: ${requests[asked - 1]?.split('\r\n')[0] ?? ''}`));
    });
  });
}

/** Partners that want to know the client: the PROXY header before each connection, by every form, and one pool for each client. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import t, { type Test } from 'tap';
import { formatAnswer } from '../../src/explain/answer.ts';
import { FORMS, TERMINATED } from '../support/ask.ts';
import { type Draft, ECO, type Lab, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { POD, POD6, startPeerLab, STRANGER, TRUSTED, wireRequest } from '../support/peer-lab.ts';
import { binary, block4, block6, line, PROXY, TCP4, TCP6 } from '../support/proxy-header.ts';
import { type ProxiedFront, startProxiedFront } from '../support/proxied-front.ts';
import { openTls, tlsPortOf } from '../support/tls-lab.ts';
import { askRaw, openWire } from '../support/wire.ts';

const LISTENER = { proxyProtocol: 'from-trusted', believe: ['x-forwarded-for'] };
const OTHER_POD = '10.8.3.18';

interface FrontedLab extends Lab {
  readonly plain: ProxiedFront;
  readonly secure: ProxiedFront;
}

/** A lab whose partner is reached through fronts alone. What `configure` does, a reload has to do again. */
async function startFrontedLab(t: Test, version: string, configure: (draft: Draft) => void = () => {}): Promise<FrontedLab> {
  const [plain, secure] = [await startProxiedFront(t), await startProxiedFront(t)];
  const lab = await startPeerLab(t, {
    listener: LISTENER,
    configure: (draft) => {
      throughFronts(draft, plain, secure, version);
      configure(draft);
    },
  });
  [plain.target, secure.target] = [lab.upstream.httpPort, lab.upstream.httpsPort];
  const upstream = { ...lab.upstream, httpPort: plain.port, httpsPort: secure.port };
  return { ...lab, upstream, plain, secure };
}

function throughFronts(draft: Draft, plain: ProxiedFront, secure: ProxiedFront, version: string): void {
  Object.assign(draft.destinations.eco, { ports: [secure.port, plain.port], gateway: { prefix: '/eco', url: `https://${ECO}:${secure.port}` }, proxyProtocol: version });
}

const from = (address: string, port = 56_324): Buffer => line(`TCP${address.includes(':') ? '6' : '4'} ${address} ${address.includes(':') ? '::1' : '10.0.0.1'} ${port} 8080`);
const after = (header: Buffer, request: string): Buffer => Buffer.concat([header, Buffer.from(request, 'latin1')]);

/** Address and port as eight bytes, in hexadecimal: client and upstream. */
const ports = (client: number, upstream: number): string => client.toString(16).padStart(4, '0') + upstream.toString(16).padStart(4, '0');

t.test('every form: a tunnel names its client with its port, exchanges name it without', async (t) => {
  for (const version of ['v1', 'v2']) {
    for (const form of FORMS) {
      const lab = await startFrontedLab(t, version);
      const front = form === 'gateway' ? lab.secure : lab.plain;
      for (const [client, told] of [
        [POD, [`TCP4 ${POD} 127.0.0.1`, (at: string) => binary(PROXY, TCP4, block4(POD, '127.0.0.1', at))]],
        [POD6, [`TCP6 ${POD6} ::ffff:7f00:1`, (at: string) => binary(PROXY, TCP6, block6('20010db8000800000000000000000007', '00000000000000000000ffff7f000001', at))]],
      ] as const) {
        front.headers.length = 0;
        const heard = await askRaw(t, lab.port, after(from(client), wireRequest(lab, form)));
        t.match(heard, `"url":"/${form}"`, `${version}, ${form} from ${client}: the partner answered`);
        const port = form === 'connect' ? 56_324 : 0;
        const header = version === 'v1' ? line(`${told[0]} ${port} ${front.port}`) : told[1](ports(port, front.port));
        t.strictSame(front.headers, [header.toString('latin1')], `${version}, ${form} from ${client}`);
      }
    }
  }
});

t.test('a client that no peer speaks for is named by its own address and port, and by the address alone where a header named it', async (t) => {
  const lab = await startFrontedLab(t, 'v1');
  const wire = await openWire(t, lab.port, { from: STRANGER });
  const port = wire.socket.localPort ?? 0;
  wire.send(wireRequest(lab, 'connect'));
  await wire.ended;
  await askRaw(t, lab.port, after(line('UNKNOWN'), wireRequest(lab, 'connect', [`X-Forwarded-For: ${POD}`])));
  t.strictSame(lab.plain.headers, [line(`TCP4 ${STRANGER} 127.0.0.1 ${port} ${lab.plain.port}`).toString(), line(`TCP4 ${POD} 127.0.0.1 0 ${lab.plain.port}`).toString()]);
});

t.test('steered TLS: the header stands before the bytes that pass', async (t) => {
  const lab = await startFrontedLab(t, 'v2', (draft) => {
    draft.listeners['tls'] = [{ address: '127.0.0.1:0' }];
    draft.clients['local'] = { addresses: [`${TRUSTED}/32`] };
    // A ClientHello names no port: the one listed first is meant.
    draft.rules.push({ clients: ['local'], destinations: ['eco'] });
  });
  const socket = await openTls(t, tlsPortOf(lab), { servername: ECO });
  const client = socket.localPort ?? 0;
  t.strictSame(lab.secure.headers, [binary(PROXY, TCP4, block4(TRUSTED, '127.0.0.1', ports(client, lab.secure.port))).toString('latin1')]);
});

t.test('a pooled connection speaks for one client: it is used again for that one, and for no other', async (t) => {
  const lab = await startFrontedLab(t, 'v1');
  const clients = [POD, OTHER_POD, POD6, POD, OTHER_POD, POD6, POD];
  for (const form of TERMINATED) {
    for (const client of clients) t.match(await askRaw(t, lab.port, after(from(client, 1), wireRequest(lab, form))), /^HTTP\/1\.1 200 /, form);
  }
  const told = (front: ProxiedFront): (string | undefined)[] => front.headers.map((header) => header.split(' ')[2]);
  t.strictSame(told(lab.plain), [POD, OTHER_POD, POD6], 'forward and host-routed share them');
  t.strictSame(told(lab.secure), [POD, OTHER_POD, POD6]);
  t.equal(lab.upstream.requests.length, TERMINATED.length * clients.length);
});

t.test('a reload that asks for the header, or for none, puts the connections of before out of use', async (t) => {
  const lab = await startFrontedLab(t, 'v1');
  const reload = (version: string): Promise<unknown> =>
    lab.reload((draft) => {
      draft.listeners['http'] = [{ address: '127.0.0.1:0', trustedPeers: [`${TRUSTED}/32`, '10.9.0.0/16'], ...LISTENER }];
      Object.assign(draft.clients, { pods: { addresses: ['10.8.0.0/14'] } });
      draft.rules[0] = { clients: ['pods'], destinations: ['eco'] };
      throughFronts(draft, lab.plain, lab.secure, version);
    });
  const request = after(from(POD), wireRequest(lab, 'forward'));
  for (const version of ['v1', 'v2', 'v1']) {
    t.match(await reload(version), { result: 'applied' });
    t.match(await askRaw(t, lab.port, request), /^HTTP\/1\.1 200 /);
    t.match(await askRaw(t, lab.port, request), /^HTTP\/1\.1 200 /);
  }
  const [one = '', two = '', three = '', ...more] = lab.plain.headers;
  t.match([one, two, three], [/^PROXY TCP4/, /^\r\n\r\n\0/, /^PROXY TCP4/]);
  t.strictSame(more, []);
  await reload('off');
  t.match(await askRaw(t, lab.port, request), /^HTTP\/1\.1 502 /);
  t.match(lab.plain.headers.at(-1), /^GET \/forward/, 'the front misses its header');
});

t.test('two proxies in a row: the second believes the first', async (t) => {
  const second = await startPeerLab(t, { listener: { proxyProtocol: 'from-trusted' }, configure: (draft) => (draft.name = 'second') });
  const target = `${ECO}:${second.port}`;
  const first = await startPeerLab(t, {
    listener: LISTENER,
    configure: (draft) => {
      draft.name = 'first';
      Object.assign(draft.destinations.eco, { ports: [second.port], gateway: undefined, proxyProtocol: 'v2' });
    },
  });
  // The second knows ECO by its own port.
  const inner = `GET http://${ECO}:${second.upstream.httpPort}/x HTTP/1.1\r\nHost: ${ECO}:${second.upstream.httpPort}\r\nConnection: close\r\n\r\n`;
  t.match(await askRaw(t, first.port, after(from(POD6), `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n${inner}`)), /"url":"\/x"/);
  t.match(await second.logged((entry) => 'clientAddress' in entry), { clientAddress: POD6, client: 'pods', code: 'ok' });
});

t.test('behind a parent the header comes after its answer, with the address that was asked for, or none where the parent resolves', async (t) => {
  for (const [resolve, address] of [['here', '127.0.0.1'], ['parent', '0.0.0.0']] as const) {
    for (const form of ['connect', 'forward', 'gateway'] as const) {
      const [plain, secure] = [await startProxiedFront(t), await startProxiedFront(t)];
      // The parent permits what it is asked for, by address or by name.
      const parent = await startLab(t, {
        configure: (draft) => {
          draft.name = 'parent';
          Object.assign(draft.destinations.eco, { hosts: [ECO, '127.0.0.1'], ports: [plain.port, secure.port], gateway: undefined });
        },
      });
      const lab = await startPeerLab(t, {
        listener: LISTENER,
        configure: (draft) => {
          draft.hops = { edge: { url: `http://127.0.0.1:${parent.port}`, addresses: ['127.0.0.0/8'] } };
          throughFronts(draft, plain, secure, 'v1');
          Object.assign(draft.destinations.eco, { via: 'edge', resolve, ...(resolve === 'parent' ? { addresses: undefined } : {}) });
        },
      });
      [plain.target, secure.target] = [lab.upstream.httpPort, lab.upstream.httpsPort];
      const there = { ...lab, upstream: { ...lab.upstream, httpPort: plain.port, httpsPort: secure.port } };
      t.match(await askRaw(t, lab.port, after(from(POD), wireRequest(there, form))), `"url":"/${form}"`, `${resolve}, ${form}`);
      const front = form === 'gateway' ? secure : plain;
      t.strictSame(front.headers, [line(`TCP4 ${POD} ${address} ${form === 'connect' ? 56_324 : 0} ${front.port}`).toString()], `${resolve}, ${form}`);
    }
  }
});

t.test('explain says so', async (t) => {
  const lab = await startLab(t, { configure: (draft) => (draft.destinations.eco['proxyProtocol'] = 'v2') });
  const answer = await lab.service.explainer.explain({ client: 'pods', user: null, subject: null, sans: [], method: 'CONNECT', target: `${ECO}:${lab.upstream.httpsPort}`, host: null, resolve: true });
  if (typeof answer === 'string') throw new Error(answer);
  t.match(answer.notes, [/^Each connection to eco begins with a PROXY protocol header \(v2\) that names the client\.$/]);
  t.match(formatAnswer(answer), /PROXY protocol header/);
});

/** What HAProxy takes a client for. */
async function startHaproxy(t: Test): Promise<number | null> {
  const probe = createServer();
  const port = await listen(t, probe);
  probe.close();
  await once(probe, 'close');
  const directory = t.testdir({
    'haproxy.cfg': `defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
frontend partner
  bind 127.0.0.1:${port} accept-proxy
  http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst] %[dst_port]"
`,
  });
  const child = spawn('haproxy', ['-db', '-f', `${directory}/haproxy.cfg`], { stdio: 'ignore' });
  const gone = once(child, 'exit').catch(() => null);
  t.teardown(async () => {
    child.kill('SIGKILL');
    await gone;
  });
  const missing = await new Promise<boolean>((resolve) => {
    child.once('error', () => {
      resolve(true);
    });
    child.once('spawn', () => {
      resolve(false);
    });
  });
  if (missing) return null;
  for (let ready = false; !ready; ) {
    const socket = connect(port, '127.0.0.1');
    ready = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.destroy();
  }
  return port;
}

t.test('HAProxy reads the header as it is meant', async (t) => {
  const port = await startHaproxy(t);
  if (port === null) {
    t.comment('haproxy is not installed here (apt-get install haproxy)');
    return;
  }
  for (const version of ['v1', 'v2']) {
    const lab = await startPeerLab(t, {
      listener: LISTENER,
      configure: (draft) => {
        Object.assign(draft.destinations.eco, { ports: [port], gateway: undefined, proxyProtocol: version });
      },
    });
    const there = { ...lab, upstream: { ...lab.upstream, httpPort: port } };
    for (const [client, told] of [
      [POD, `${POD} # 127.0.0.1 ${port}`],
      [POD6, `${POD6} # ::ffff:127.0.0.1 ${port}`],
    ] as const) {
      for (const form of ['connect', 'forward', 'forward', 'host-routed'] as const) {
        const heard = await askRaw(t, lab.port, after(from(client), wireRequest(there, form)));
        // Port 0 is none to HAProxy.
        t.equal(heard.split('\r\n\r\n').at(-1), told.replace('#', form === 'connect' ? '56324' : ''), `${version}, ${form}`);
      }
    }
  }
});

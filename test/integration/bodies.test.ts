/**
 * A large body each way through each form: what arrives is what was sent, and
 * the memory of the proxy, a process of its own here, stays flat.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { type ClientRequest, type IncomingMessage, request, type RequestListener } from 'node:http';
import type { Socket } from 'node:net';
import type { Writable } from 'node:stream';
import { crc32 } from 'node:zlib';
import t from 'tap';
import { type AskOptions, beginAsk, FORMS, type Reach } from '../support/ask.ts';
import { startDnsServer } from '../support/dns-server.ts';
import { FULL } from '../support/full.ts';
import { baseDraft, ECO, labCertificates, startUpstream } from '../support/lab.ts';
import { portsOf, serve } from '../support/serve.ts';

const MIB = 1024 * 1024;
const SIZE = (FULL ? 1024 : 256) * MIB;
/** Of the two bodies together, a quarter here, a sixteenth in full: what collections leave until later. */
const MAY_GROW = 128 * MIB;
/** Repeated to make up a body; its odd length keeps pieces of the same size from looking alike. */
const BLOCK = randomBytes(MIB - 7);

interface Sum {
  readonly bytes: number;
  readonly crc: number;
}

/** The piece of a body that follows after so many bytes. */
function pieceAt(bytes: number, size: number): Buffer {
  return size - bytes < BLOCK.length ? BLOCK.subarray(0, size - bytes) : BLOCK;
}

function sumOfBody(size: number): Sum {
  let crc = 0;
  for (let bytes = 0; bytes < size; bytes += BLOCK.length) crc = crc32(pieceAt(bytes, size), crc);
  return { bytes: size, crc };
}

/** Writes a body as fast as it is taken, and ends. What breaks it shows at the receiver. */
function send(out: Writable, size: number): void {
  let bytes = 0;
  const more = (): void => {
    while (bytes < size) {
      const piece = pieceAt(bytes, size);
      bytes += piece.length;
      if (!out.write(piece)) return;
    }
    out.off('drain', more);
    out.end();
  };
  out.on('drain', more);
  more();
}

function sumOf(stream: IncomingMessage): Promise<Sum> {
  let bytes = 0;
  let crc = 0;
  stream.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    crc = crc32(chunk, crc);
  });
  return new Promise((resolve, reject) => {
    stream.once('end', () => {
      resolve({ bytes, crc });
    });
    stream.once('error', reject);
  });
}

/** `GET /N` sends N bytes, `PUT` tells what it has received. */
const onRequest: RequestListener = (req, res) => {
  const size = Number(req.url?.slice(1));
  if (req.method === 'GET') {
    res.writeHead(200, { 'Content-Length': size });
    send(res, size);
    return;
  }
  sumOf(req).then(
    (sum) => res.end(JSON.stringify(sum)),
    () => res.destroy(),
  );
};

/** What is inside a tunnel is nothing to the proxy: plain HTTP spares this process the work of both ends of TLS. */
async function begin(lab: Reach, form: (typeof FORMS)[number], options: Omit<AskOptions, 'body'>): Promise<ClientRequest> {
  if (form !== 'connect') return beginAsk(lab, form, options);
  const authority = `${ECO}:${lab.upstream.httpPort}`;
  const connect = request({ host: '127.0.0.1', port: lab.port, method: 'CONNECT', path: authority, headers: { Host: authority } }).end();
  const [{ statusCode }, socket] = (await once(connect, 'connect')) as [IncomingMessage, Socket];
  if (statusCode !== 200) throw new Error(`CONNECT was answered with ${statusCode ?? 0}`);
  const { method, path, headers = [] } = options;
  return request({ createConnection: () => socket, method, path, headers: ['Host', authority, ...headers] });
}

async function download(lab: Reach, form: (typeof FORMS)[number], size: number): Promise<Sum> {
  const get = await begin(lab, form, { method: 'GET', path: `/${size}` });
  const [response] = (await once(get.end(), 'response')) as [IncomingMessage];
  return sumOf(response);
}

/** @returns what the upstream says it received */
async function upload(lab: Reach, form: (typeof FORMS)[number], size: number): Promise<Sum> {
  // The length is told for one form only, the others send chunks.
  const framing = form === 'forward' ? ['Content-Length', String(size)] : ['Transfer-Encoding', 'chunked'];
  const put = await begin(lab, form, { method: 'PUT', path: '/', headers: framing });
  send(put, size);
  const [response] = (await once(put, 'response')) as [IncomingMessage];
  let text = '';
  for await (const part of response.setEncoding('utf8')) text += String(part);
  return JSON.parse(text) as Sum;
}

/** Resident memory of a process: now, or the most since `forgetPeak`; bytes. */
function memoryOf(pid: number, which: 'VmRSS' | 'VmHWM'): number {
  const [, kib] = new RegExp(`^${which}:\\s+(\\d+) kB$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kib) * 1024;
}

const forgetPeak = (pid: number): void => {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
};

// Half a minute on two free cores; a machine that is busy otherwise takes longer.
t.setTimeout(300_000);
t.test(`${SIZE / MIB} MiB up and as much down through each form, at flat memory`, async (t) => {
  const { authority, certPem, keyPem } = await labCertificates();
  const upstream = await startUpstream(t, certPem, keyPem, onRequest);
  const dns = await startDnsServer(({ type }) => (type === 'A' ? { addresses: ['127.0.0.1'], ttl: 60 } : null));
  t.teardown(() => dns.close());
  const draft = baseDraft({ https: upstream.httpsPort, http: upstream.httpPort });
  draft.dns['servers'] = [dns.address];
  const served = serve(t, { config: draft, files: { 'ca.pem': authority.certPem } });
  const [port = 0] = (await portsOf(served)).http;
  const lab: Reach = { port, url: `http://127.0.0.1:${port}`, authority, upstream };
  const pid = served.child.pid ?? 0;
  // A connection and its buffers, compiled code, the first collections: what any traffic costs once.
  for (const form of FORMS) await Promise.all([download(lab, form, 48 * MIB), upload(lab, form, 48 * MIB)]);

  const whole = sumOfBody(SIZE);
  for (const form of FORMS) {
    forgetPeak(pid);
    const before = memoryOf(pid, 'VmRSS');
    const started = performance.now();
    const [down, up] = await Promise.all([download(lab, form, SIZE), upload(lab, form, SIZE)]);
    const grown = memoryOf(pid, 'VmHWM') - before;
    t.same(up, whole, `${form}: the upstream received what the client sent`);
    t.same(down, whole, `${form}: the client received what the upstream sent`);
    t.ok(grown < MAY_GROW, `${form}: memory grew by ${Math.round(grown / MIB)} MiB over ${Math.round(before / MIB)} MiB, in ${Math.round(performance.now() - started)} ms`);
    const line = await served.logged((line) => line['form'] === form && Number(line['bytesReceived']) >= SIZE);
    t.match(line, { code: 'ok', ...(form === 'connect' ? {} : { bytesReceived: SIZE }) });
  }
  t.equal(served.log.filter(({ code }) => code !== undefined && code !== 'ok').length, 0);
});

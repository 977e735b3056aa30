/**
 * A partner that misbehaves as a file says: `{"mode":"ok","certificate":"good"}`
 * is read at each connection and request. Run: node partner.ts STATE DIRECTORY
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { createSecureContext, TLSSocket } from 'node:tls';

/** What it does with a request or a handshake. */
export interface PartnerState {
  readonly mode: 'ok' | 'silent' | 'reset' | 'slow' | 'garbage' | 'half' | 'error' | 'tls-cut';
  readonly certificate: 'good' | 'next' | 'expired' | 'other';
}

const [stateFile = '', directory = ''] = process.argv.slice(2);
const SLOW_MS = 1000;
const state = (): PartnerState => JSON.parse(readFileSync(stateFile, 'utf8')) as PartnerState;
const contexts = Object.fromEntries(
  ['good', 'next', 'expired', 'other'].map((name) => [name, createSecureContext({ cert: readFileSync(join(directory, `${name}.pem`)), key: readFileSync(join(directory, `${name}.key`)) })]),
);

async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { mode } = state();
  request.resume();
  switch (mode) {
    case 'silent':
      return;
    case 'reset':
      // The end of a TLS connection has no handle of its own to reset.
      if (request.socket instanceof TLSSocket) request.socket.destroy();
      else request.socket.resetAndDestroy();
      return;
    case 'garbage':
      request.socket.end('what is this\r\n\r\n');
      return;
    case 'half':
      response.writeHead(200, { 'content-length': '100' }).write('half of');
      request.socket.destroySoon();
      return;
    case 'error':
      response.writeHead(500).end('broken');
      return;
    case 'slow':
      await pause(SLOW_MS);
      break;
    case 'ok':
    case 'tls-cut':
  }
  response.end('ok');
}

const answer = (request: IncomingMessage, response: ServerResponse): void => void handle(request, response);
const options = { keepAliveTimeout: 120_000 };
const http = createHttp(options, answer);
const https = createHttps({ ...options, SNICallback: (_name, done) => { done(null, contexts[state().certificate]); } }, answer);
https.on('tlsClientError', () => {});
/** With another certificate, sessions are not resumed: their handshake would show none. */
let shown = state().certificate;
for (const server of [http, https]) server.on('clientError', (_error, socket) => socket.destroy());
// Before TLS: what cuts a handshake has to see its first bytes.
const front = createServer((socket: Socket) => {
  socket.on('error', () => {});
  const { mode, certificate } = state();
  if (certificate !== shown) https.setTicketKeys(randomBytes(48));
  shown = certificate;
  if (mode !== 'tls-cut') https.emit('connection', socket);
  else socket.once('data', () => socket.destroy());
});
await Promise.all([new Promise<void>((resolve) => http.listen(80, '0.0.0.0', resolve)), new Promise<void>((resolve) => front.listen(443, '0.0.0.0', resolve))]);
process.stdout.write('ready\n');

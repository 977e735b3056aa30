/**
 * Writes the pictures of the documentation: `npm run screenshots`. Starts the
 * demo, keeps it busy for a while, so that the curves have something to show,
 * and takes the page with a real browser.
 */
import { mkdirSync, statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { type Demo, startDemo } from '../../src/demo/demo.ts';
import { openBrowser } from '../support/browser.ts';
import { readNumber, readOptions } from '../support/command-line.ts';

const USAGE = `npm run screenshots -- [--seconds N] [--out DIR] [--all]
  --seconds N  how long the demo is kept busy first; 320 by default
  --out DIR    where the pictures go; docs/images by default
  --all        also those that the documentation does not have: dark, whole pages, a phone, without JavaScript
`;
const values = readOptions({ seconds: { type: 'string', default: '320' }, out: { type: 'string', default: join(import.meta.dirname, '../../docs/images') }, all: { type: 'boolean', default: false } }, USAGE);
const SECONDS = readNumber('--seconds', values.seconds, USAGE, 0);
const OUT = values.out;
/** Largest picture of the documentation, bytes. */
const MOST_BYTES = 200_000;

const PICTURES = [
  { name: 'status-page', width: 1360, height: 830, scheme: 'light', scripts: true, full: false, always: true },
  { name: 'dark', width: 1360, height: 900, scheme: 'dark', scripts: true, full: true, always: false },
  { name: 'light', width: 1360, height: 900, scheme: 'light', scripts: true, full: true, always: false },
  { name: 'phone', width: 360, height: 800, scheme: 'light', scripts: true, full: true, always: false },
  { name: 'without-scripts', width: 1360, height: 900, scheme: 'light', scripts: false, full: true, always: false },
] as const;

async function main(): Promise<void> {
  const discard = new Writable({ write: (_chunk, _encoding, done) => { done(); } });
  await using stack = new AsyncDisposableStack();
  const demo = await startDemo({ http: 8080, proxy: 3128, tls: 8443, admin: 9090 }, discard);
  stack.defer(() => demo.close());
  const busy = new AbortController();
  const traffic = keepBusy(demo, busy.signal);
  stack.defer(async () => {
    busy.abort();
    await traffic;
  });
  await delay(SECONDS * 1000);
  const browser = await openBrowser();
  stack.defer(() => browser.close());
  mkdirSync(OUT, { recursive: true });
  for (const { name, width, height, scheme, scripts, full, always } of PICTURES) {
    if (!always && !values.all) continue;
    const page = await browser.newPage({ viewport: { width, height }, colorScheme: scheme, javaScriptEnabled: scripts });
    await page.goto(`${demo.places.admin}/`);
    if (scripts) await page.locator('.chart canvas').first().waitFor();
    const path = join(OUT, `${name}.png`);
    await page.screenshot({ path, fullPage: full });
    await page.close();
    const { size } = statSync(path);
    process.stdout.write(`${path}: ${size} bytes\n`);
    if (always && size > MOST_BYTES) throw new Error(`${path} has more than ${MOST_BYTES} bytes`);
  }
}

/** Requests of every form, a few tunnels that stay, and now and then a denial. */
async function keepBusy({ places }: Demo, signal: AbortSignal): Promise<void> {
  const tunnels: Socket[] = [];
  const proxy = new URL(places.proxy);
  const open = (authority: string): void => {
    const socket = connect(Number(proxy.port), proxy.hostname);
    // It ends with the demo.
    socket.on('error', () => {});
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
    socket.resume();
    tunnels.push(socket);
  };
  const { host } = new URL(places.ecoHttp);
  for (let i = 0; i < 6; i += 1) open(host);
  for (let beat = 0; !signal.aborted; beat += 1) {
    const now = 3 + Math.round(2 * Math.sin(beat / 40) + Math.random());
    const asked = Array.from({ length: now }, () => fetch(`${places.http}/eco/api/status`).then((response) => response.arrayBuffer()));
    // One that carries nothing is closed by the partner.
    if (beat % 20 === 10) for (const socket of tunnels.slice(0, 6)) socket.write(`GET /api/status HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    if (beat % 90 === 30) open('evil.example:443');
    if (beat % 120 === 60) asked.push(fetch(`${places.http}/eco/status/503`).then((response) => response.arrayBuffer()));
    await Promise.allSettled([...asked, delay(200)]);
  }
  for (const socket of tunnels) socket.destroy();
}

await main();

/**
 * docs/operations-day.md, replayed: its configuration file, a proxy of its own
 * process, a stand-in partner that stops and comes back where the page says so.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createAuthority } from '../../src/demo/authority.ts';
import { createPartner } from '../../src/demo/partner.ts';
import { startDnsServer } from './dns-server.ts';
import { readCommands } from './doc-blocks.ts';
import { createCanon, formatCommand, openShell } from './transcript.ts';
import { findUnusedPort } from './unused-port.ts';

export const PAGE = 'docs/operations-day.md';
const ROOT = join(import.meta.dirname, '../..');
const HOST = '127.0.0.1';
const ECO = 'eco-sit.telus.internal';
const OWN = 'eco-egress.eco-egress.svc';
/** Ports of the page: proxy, TLS, admin, and of the stand-ins HTTPS, HTTP and DNS. */
const PORTS = ['3128', '8443', '9090', '9443', '9080', '9053'] as const;
/** Of four digits, as the page's: first and how many. */
const FOUR_DIGITS = [7000, 1000] as const;

const LOG = 'egress.log';
const BETWEEN_MS = 50;
/** Looks at the log for a line that may be on its way; a page that shows none is then found to differ. */
const MOST_TRIES = 400;
/** What differs from run to run, besides ports and the directory. */
const VARYING = [
  { pattern: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g, shown: '2026-03-02T03:12:00.000Z' },
  { pattern: /\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT/g, shown: 'Mon, 02 Mar 2026 03:12:00 GMT' },
  { pattern: /(?<=until )\d{4}-\d\d-\d\d/g, shown: '2027-03-01' },
  { pattern: /(?<=_seconds\{[^}]*\} )\d{10}(?:\.\d+)?/g, shown: '1772421120.5' },
  { pattern: /(?<="\w+Ms":)[\d.]+/g, shown: '1.5' },
  { pattern: /(?<= in )\d+(?= ms)/g, shown: '2' },
  { pattern: /(?<="clientPort":)\d+/g, shown: '51022' },
  // A request id, and the hash of a configuration.
  { pattern: /\b[0-9a-f]{12}-[0-9a-z]{9}\b/g, shown: ['3f9c1a7be204-000000001', '3f9c1a7be204-000000002', '3f9c1a7be204-000000003'] },
  { pattern: /\b[0-9a-f]{16}\b/g, shown: ['6a0f53a1c7e2b81d', 'b81d4c90fe370c5e', '0c5e7792ad16d443', 'd4437fe0b95a6a0f'] },
];

/** The page, and the page as its commands write it now. */
export async function replayDay(directory: string): Promise<{ readonly page: string; readonly replayed: string }> {
  const page = readFileSync(join(ROOT, PAGE), 'utf8');
  await using opened = new AsyncDisposableStack();
  const ports = new Map<string, string>();
  for (const port of PORTS) ports.set(port, String(await findUnusedPort(FOUR_DIGITS)));
  const portOf = (port: string): number => Number(ports.get(port));
  const names = await startDnsServer(({ type }) => (type === 'A' ? { addresses: [HOST], ttl: 60 } : null), { host: HOST, port: portOf('9053') });
  opened.defer(() => names.close());

  const authority = await createAuthority('ECO SIT authority');
  const [own, other] = await Promise.all([authority.issue({ names: [OWN] }), authority.issue({ names: [OWN] })]);
  const files = { 'ca.pem': authority.certPem, 'tls.crt': own.certPem, 'tls.key': own.keyPem, 'issued.crt': own.certPem, 'issued.key': own.keyPem, 'other.key': other.keyPem };
  for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content, { mode: 0o600 });
  const openPartner = (): ReturnType<typeof createPartner> => createPartner({ authority, name: ECO, https: { host: HOST, port: portOf('9443') }, http: { host: HOST, port: portOf('9080') } });
  let partner = openPartner();
  opened.defer(() => partner.close());
  await partner.start();

  // As in the image: the command is in PATH, and needs no npm.
  mkdirSync(join(directory, 'tools'));
  writeFileSync(join(directory, 'tools/npx'), '#!/bin/sh\nexec "$@"\n', { mode: 0o755 });
  const shell = openShell(directory, { PATH: `${join(directory, 'tools')}:${join(ROOT, 'bin')}:${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`, HOME: directory, LC_ALL: 'C.UTF-8' });
  opened.defer(() => shell.close());
  // Doctor says how many files may be open.
  await shell.run('ulimit -n 8192');
  const here = new Map([...ports].map(([shown, real]) => [real, shown]));
  const local = (text: string): string => text.replaceAll(/\b\d{4}\b/g, (port) => ports.get(port) ?? port);
  const canon = createCanon(VARYING);
  const asShown = (text: string): string => canon(text.replaceAll(directory, '/etc/eco-egress').replaceAll(/\b\d{4}\b/g, (port) => here.get(port) ?? port));

  let replayed = page;
  for (const [block, language = '', what = '', body = ''] of page.matchAll(/^```(\S*) ?(.*)\n([^]*?)^```$/gm)) {
    if (language === 'yaml') writeFileSync(join(directory, what), local(body));
    if (language !== 'console') continue;
    if (what === 'partner-stops') await partner.close();
    if (what === 'partner-returns') {
      partner = openPartner();
      await partner.start();
    }
    const shown: string[] = [];
    for (const { command } of readCommands(body)) {
      let output = await shell.run(local(command));
      // Log lines are written in batches: what the page looks for is on its way.
      for (let tries = 0; command.endsWith(LOG) && output === '' && tries < MOST_TRIES; tries += 1) {
        await delay(BETWEEN_MS);
        output = await shell.run(local(command));
      }
      while (command.endsWith('&') && !(await acceptsAt(portOf('9090')))) {
        if ((await shell.run('jobs -r')) === '') throw new Error(`it has ended: ${command}\n${output}`);
        await delay(BETWEEN_MS);
      }
      shown.push(formatCommand(command, asShown(output)));
    }
    replayed = replayed.replace(block, () => `\`\`\`console${what === '' ? '' : ` ${what}`}\n${shown.join('\n')}\n\`\`\``);
  }
  return { page, replayed };
}

/** Whether something listens there: what was started in the background is ready. */
function acceptsAt(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, HOST);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  });
}

/** The fronting guard before real TLS clients: Node, curl and openssl, fronting and not, in every mode. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import t from 'tap';
import { ECO, startLab } from '../support/lab.ts';
import { openWire } from '../support/wire.ts';

const MODES = ['require', 'report', 'off'] as const;

/** Answered by the lab's certificate, and not the host that is asked for. */
const OTHER = 'other.telus.internal';
const ESTABLISHED = /^HTTP\/1\.1 200 Connection Established\r\nX-Request-Id: [\w-]+\r\n\r\n/;

t.test('real TLS through the tunnel: what passes and what is said of it', async (t) => {
  for (const mode of MODES) {
    for (const [servername, verdict] of [
      [ECO, 'matches'],
      [ECO.toUpperCase(), 'matches'],
      [OTHER, 'differs'],
      ['', 'differs'],
    ] as const) {
      const lab = await startLab(t, { configure: (draft) => (draft.destinations.eco['tunnelSni'] = mode) });
      const wire = await openWire(t, lab.port);
      const target = `${ECO}:${lab.upstream.httpsPort}`;
      wire.send(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`);
      await wire.until(ESTABLISHED);
      wire.socket.removeAllListeners('data');
      const socket = connectTls({ socket: wire.socket, servername, ca: lab.authority.certPem, checkServerIdentity: () => undefined });
      const outcome = await once(socket, 'secureConnect').then(
        () => 'connected',
        (error: unknown) => (error as NodeJS.ErrnoException).code,
      );
      const what = `${mode}, ${servername === '' ? 'no name' : servername}`;
      if (mode === 'require' && verdict === 'differs') {
        t.equal(outcome, 'ERR_SSL_TLSV1_UNRECOGNIZED_NAME', what);
        t.equal(lab.upstream.requests.length, 0);
        t.match(await lab.logged((line) => line['form'] === 'connect'), { verdict: 'deny', code: 'sni-mismatch', destination: 'eco', closedBy: 'proxy', bytesSent: 0, level: 'warn', detail: /eco-sit\.telus\.internal was permitted; let the TLS .* destinations\.eco\.tunnelSni/ });
        t.match((await lab.scrape()).samples.get('eco_egress_requests_total{form="connect",destination="eco",client="pods",outcome="denied",code="sni-mismatch"}'), 1);
        continue;
      }
      t.equal(outcome, 'connected', what);
      t.match(await getInside(socket), /"url":"\/inside"/);
      const line = await lab.logged((line) => line['form'] === 'connect');
      t.match(line, { code: 'ok', status: 200 });
      if (mode === 'report' && verdict === 'differs') t.match(line, { verdict: 'report', wouldDeny: 'sni-mismatch', detail: servername === '' ? /names no host/ : /is for other\.telus\.internal/, msg: 'reported: sni-mismatch', level: 'warn' });
      else t.match(line, { verdict: 'allow', wouldDeny: undefined, detail: undefined }, what);
      const counted = (await lab.scrape()).samples.get('eco_egress_would_deny_total{form="connect",destination="eco",client="pods",code="sni-mismatch"}');
      t.equal(counted, mode === 'report' && verdict === 'differs' ? 1 : undefined);
    }
  }
});

async function getInside(socket: TLSSocket): Promise<string> {
  let heard = '';
  socket.on('data', (chunk: Buffer) => (heard += chunk.toString()));
  socket.write(`GET /inside HTTP/1.1\r\nHost: ${ECO}\r\nConnection: close\r\n\r\n`);
  await once(socket, 'end');
  socket.end();
  return heard;
}

function run(program: string, args: readonly string[]): Promise<{ code: number | string; output: string } | null> {
  return new Promise((resolve) => {
    const child = execFile(program, args, { timeout: 10_000, env: { PATH: process.env['PATH'] } }, (error, stdout, stderr) => {
      if (error?.code === 'ENOENT') resolve(null);
      else resolve({ code: error?.code ?? 0, output: stdout + stderr });
    });
    child.stdin?.end();
  });
}

t.test('curl and openssl, fronting and not', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'eco-egress-fronting-'));
  t.teardown(() => {
    rmSync(folder, { recursive: true });
  });
  for (const mode of MODES) {
    const lab = await startLab(t, { configure: (draft) => (draft.destinations.eco['tunnelSni'] = mode) });
    const ca = join(folder, 'ca.pem');
    writeFileSync(ca, lab.authority.certPem);
    const port = lab.upstream.httpsPort;
    const passes = (fronted: boolean): boolean => mode !== 'require' || !fronted;
    for (const [host, fronted] of [[ECO, false], [OTHER, true]] as const) {
      const answer = await run('curl', ['-sS', '--proxy', lab.url, '--cacert', ca, '--connect-to', `${host}:${port}:${ECO}:${port}`, `https://${host}:${port}/by-curl`]);
      if (answer === null) t.comment('curl is not installed here');
      else if (passes(fronted)) t.match(answer, { code: 0, output: /"url":"\/by-curl"/ }, `${mode}: curl, ${host}`);
      else t.match(answer, { code: 35, output: /unrecognized name/ }, `${mode}: curl, ${host}`);

      const shown = await run('openssl', ['s_client', '-proxy', `127.0.0.1:${lab.port}`, '-connect', `${ECO}:${port}`, '-CAfile', ca, ...(fronted ? ['-noservername'] : ['-servername', ECO])]);
      if (shown === null) t.comment('openssl is not installed here');
      else if (passes(fronted)) t.match(shown.output, /Verify return code: 0 \(ok\)/, `${mode}: openssl`);
      else t.match(shown.output, /unrecognized name/, `${mode}: openssl`);
    }
  }
});

/**
 * Programs as people have them, told of the proxy by their environment: each
 * fetches from ECO, and each shows a refusal in its own way, which the pages
 * under docs/clients describe.
 */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { ECO, type Lab, startLab } from '../support/lab.ts';

interface Program {
  readonly name: string;
  /** Says that it is there, and which. */
  readonly probe: readonly [command: string, args: readonly string[], fits?: RegExp];
  readonly fetch: (url: string, lab: { ca: string; port: number }) => readonly [command: string, args: readonly string[]];
  readonly env?: (ca: string) => Record<string, string>;
  /** What it prints of a refused CONNECT, and of a refused http:// request. */
  readonly refused: { readonly connect: RegExp; readonly forward: RegExp };
}

const REASON = /403 Egress denied: host-not-allowed/;
const source = (name: string): string => fileURLToPath(new URL(`../support/programs/${name}`, import.meta.url));

const PROGRAMS: readonly Program[] = [
  {
    name: 'curl',
    probe: ['curl', ['--version']],
    fetch: (url, { ca }) => ['curl', ['--silent', '--show-error', '--include', '--cacert', ca, url]],
    // Its --include shows the answer of the proxy too: status line, Proxy-Status and all.
    refused: { connect: /^HTTP\/1\.1 403 Egress denied: host-not-allowed\r\n[^]*Proxy-Status: eco-egress;error=http_request_denied;[^]*curl: \(56\) .*403/, forward: REASON },
  },
  {
    name: 'wget',
    probe: ['wget', ['--version']],
    fetch: (url, { ca }) => ['wget', ['--no-verbose', '--tries=1', `--ca-certificate=${ca}`, '--output-document=-', url]],
    refused: { connect: /Proxy tunneling failed: Egress denied: host-not-allowed/, forward: /ERROR 403: Egress denied: host-not-allowed/ },
  },
  {
    name: 'Python urllib',
    probe: ['python3', ['--version']],
    fetch: (url, { ca }) => ['python3', [source('fetch.py'), ca, url]],
    refused: { connect: /Tunnel connection failed: 403 Egress denied: host-not-allowed/, forward: /HTTP Error 403: Egress denied: host-not-allowed\n{"type":/ },
  },
  {
    name: "Java's HttpClient",
    // The compiler is what runs a source file; a bare runtime has none.
    probe: ['java', ['--list-modules'], /^jdk\.compiler@/m],
    fetch: (url, { ca, port }) => ['java', ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', source('Fetch.java'), ca, String(port), url]],
    // Of a refused CONNECT it shows no more than the status: the reason is in the log of the proxy.
    refused: { connect: /java\.io\.IOException: Tunnel failed, got: 403/, forward: /403 eco-egress;error=http_request_denied;[^]*"code":"host-not-allowed"/ },
  },
  {
    name: "Node's fetch",
    probe: [process.execPath, ['--version']],
    fetch: (url) => [process.execPath, [source('fetch.mjs'), url]],
    env: (ca) => ({ NODE_USE_ENV_PROXY: '1', NODE_EXTRA_CA_CERTS: ca }),
    // The message is `fetch failed`; the status stands at the end of its causes, the reason nowhere.
    refused: { connect: /^fetch failed\n[^]*Proxy response \(403\) !== 200 when HTTP Tunneling/, forward: REASON },
  },
  {
    name: 'git',
    probe: ['git', ['--version']],
    fetch: (url) => ['git', ['ls-remote', url.replace('/hello', '/repo.git')]],
    env: (ca) => ({ GIT_SSL_CAINFO: ca, GIT_CONFIG_NOSYSTEM: '1', GIT_TERMINAL_PROMPT: '0' }),
    refused: { connect: /unable to access 'https:.*403/, forward: /unable to access 'http:.*403/ },
  },
  {
    name: 'Go',
    probe: ['go', ['version']],
    fetch: (url, { ca }) => ['go', ['run', source('fetch.go'), ca, url]],
    env: () => ({ GOPROXY: 'off', GO111MODULE: 'off', GOFLAGS: '' }),
    refused: { connect: /Egress denied: host-not-allowed\n/, forward: REASON },
  },
];

/** Never rejects: a program that is not there has the exit code 127, as in a shell. */
function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    execFile(command, args, { env, timeout: 50_000 }, (error, stdout, stderr) => {
      const failed = error === null ? 0 : typeof error.code === 'number' ? error.code : 127;
      resolve({ code: failed, output: stdout + stderr });
    });
  });
}

/** The least a program needs, and the proxy in both cases of each variable. */
function environment(t: Test, lab: Lab | null): NodeJS.ProcessEnv {
  const home = t.testdir({ go: {} });
  const proxy = lab === null ? {} : { HTTPS_PROXY: lab.url, https_proxy: lab.url, HTTP_PROXY: lab.url, http_proxy: lab.url };
  // pyenv and the like find themselves by HOME, so what they need of it is passed on.
  return { PATH: process.env['PATH'], PYENV_ROOT: process.env['PYENV_ROOT'] ?? join(process.env['HOME'] ?? '', '.pyenv'), HOME: home, GOCACHE: join(home, 'go'), LANG: 'C', ...proxy };
}

for (const { name, probe, fetch, env = () => ({}), refused } of PROGRAMS) {
  t.test(name, async (t) => {
    const [command, args, fits = /./] = probe;
    const found = await run(command, args, environment(t, null));
    if (found.code !== 0 || !fits.test(found.output)) {
      t.comment(`${name} is absent here, so it was not tried`);
      return;
    }
    const lab = await startLab(t, {
      onRequest: (req, res) => {
        // A bare repository as a web server without git shows it.
        if (req.url?.startsWith('/repo.git/info/refs') === true) res.end('95d09f2b10159347eece71399a7e2e907ea3df4f\trefs/heads/hello-from-eco\n');
        else if (req.url === '/repo.git/HEAD') res.end('ref: refs/heads/hello-from-eco\n');
        else res.end('hello-from-eco');
      },
    });
    const home = environment(t, lab);
    const ca = join(home['HOME'] ?? '', 'ca.pem');
    writeFileSync(ca, lab.authority.certPem);
    const ask = (url: string): Promise<{ code: number; output: string }> => run(...fetch(url, { ca, port: lab.port }), { ...home, ...env(ca) });
    const { httpPort, httpsPort } = lab.upstream;
    const [secure, open, secureRefused, openRefused] = await Promise.all([
      ask(`https://${ECO}:${httpsPort}/hello`),
      ask(`http://${ECO}:${httpPort}/hello`),
      ask('https://evil.example/hello'),
      ask('http://evil.example/hello'),
    ]);
    t.match(secure, { code: 0, output: /hello-from-eco/ }, 'https:// by CONNECT');
    t.match(open, { code: 0, output: /hello-from-eco/ }, 'http://');
    t.match(secureRefused.output, refused.connect, 'a refused CONNECT');
    t.match(openRefused.output, refused.forward, 'a refused http:// request');
    for (const [port, form] of [
      [httpsPort, 'connect'],
      [httpPort, 'forward'],
    ] as const) {
      t.match(await lab.logged((line) => line['port'] === port), { form, host: ECO, verdict: 'allow', status: 200 });
    }
    for (const [port, form] of [
      [443, 'connect'],
      [80, 'forward'],
    ] as const) {
      t.match(await lab.logged((line) => line['port'] === port), { form, host: 'evil.example', code: 'host-not-allowed' });
    }
  });
}

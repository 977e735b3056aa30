/**
 * README.md and docs/clients/: what a block marked `sh` or `console` says is
 * run against a demo, in the order of the page, and does what the page shows.
 */
import t from 'tap';
import { spawn } from 'node:child_process';
import { existsSync, globSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { parse } from 'yaml';
import { startDemo, type Demo } from '../../src/demo/demo.ts';
import { loadConfig } from '../../src/config/load.ts';
import { readDocRows } from '../support/doc-table.ts';
import { eco } from '../support/eco.ts';
import { findMissing, readCommands, readDocBlocks } from '../support/doc-blocks.ts';

const ROOT = join(import.meta.dirname, '../..');
const RUN_PAGES = ['README.md', ...globSync('docs/clients/*.md', { cwd: ROOT })];
const PAGES = [...RUN_PAGES, ...globSync(['CONTRIBUTING.md', 'docs/**/*.md'], { cwd: ROOT })];
const LANGUAGES = new Set(['sh', 'console', 'shell', 'yaml', 'mermaid', 'python', 'js', 'java', 'go']);
/** Programs a page may use that a machine may lack. */
const OPTIONAL = ['curl', 'wget', 'git', 'python3', 'java', 'keytool', 'go'];
/** For one command: a machine may be busy, and a command that hangs must not hang the test. */
const PATIENCE_MS = 60_000;

t.setTimeout(300_000);
const log = new PassThrough().resume();
const demo = await startDemo({ http: 0, proxy: 0, tls: 0, admin: 0 }, log);
t.teardown(() => demo.close());

/** A page names the places of a cluster, or the demo's usual ports. */
function localise(page: string, { places }: Demo): string {
  const at = (url: string): URL => new URL(url);
  return page
    .replaceAll(/http:\/\/(?:127\.0\.0\.1|localhost|eco-egress\.eco-egress\.svc):3128/g, places.proxy)
    .replaceAll(/http:\/\/(?:127\.0\.0\.1|localhost|eco-egress\.eco-egress\.svc):8080/g, places.http)
    .replaceAll('http://localhost:9090', places.admin)
    .replaceAll(/(proxyHost=)eco-egress\.eco-egress\.svc/g, `$1${at(places.proxy).hostname}`)
    .replaceAll(/(proxyPort=)3128/g, `$1${at(places.proxy).port}`)
    .replaceAll(/https:\/\/eco-sit\.telus\.internal(?!:)/g, places.ecoHttps)
    .replaceAll(/http:\/\/eco-sit\.telus\.internal(?!:)/g, places.ecoHttp)
    .replaceAll('/etc/eco/ca.pem', places.caFile);
}

/** Nothing of this machine's own proxies and certificates: the page says all that is needed. */
const CLEAN: Record<string, string> = {
  PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`,
  HOME: process.env['HOME'] ?? '/',
  LC_ALL: 'C.UTF-8',
};

async function shell(script: string, cwd: string, env: Record<string, string>): Promise<{ output: string; code: number | null }> {
  const child = spawn('bash', ['-c', `exec 2>&1\n${script}`], { cwd, env, stdio: ['ignore', 'pipe', 'ignore'], timeout: PATIENCE_MS });
  const exit = new Promise<number | null>((resolve) => child.once('close', resolve));
  return { output: await text(child.stdout), code: await exit };
}

async function listAbsent(): Promise<string[]> {
  const { output } = await shell(OPTIONAL.map((name) => `command -v ${name} >/dev/null || echo ${name}`).join('\n'), ROOT, CLEAN);
  return output.split('\n').filter((name) => name !== '');
}

const absent = await listAbsent();
if (absent.length > 0) t.comment(`not here, so what the pages say of it is not run: ${absent.join(', ')}`);
const needsAbsent = (command: string): boolean => absent.some((name) => new RegExp(`(?:^|[|&;]\\s*)${name}\\s`).test(command));

/** The environment that README gives to pods. */
function podEnvironment(): Record<string, string> {
  const block = readDocBlocks('README.md').find(({ language }) => language === 'yaml');
  const { env } = parse(localise(block?.text ?? '', demo)) as { env: { name: string; value: string }[] };
  return Object.fromEntries(env.map(({ name, value }) => [name, value]));
}

for (const page of RUN_PAGES) {
  t.test(page, async (t) => {
    const cwd = t.testdir({});
    const env = page === 'README.md' ? { ...CLEAN, ...podEnvironment() } : CLEAN;
    let exports = '';
    for (const { language, file, line, text: body } of readDocBlocks(page)) {
      const where = `${page}:${line}`;
      t.ok(LANGUAGES.has(language), `${where} has a language of the list, not "${language}"`);
      const local = localise(body, demo);
      if (file !== '') writeFileSync(join(cwd, file), local);
      if (language === 'sh' && !needsAbsent(local)) {
        const { output, code } = await shell(`set -eo pipefail\n${exports}${local}`, cwd, env);
        t.equal(code, 0, `${where} succeeds`, { output });
      }
      if (language === 'sh') exports += local.split('\n').filter((command) => command.startsWith('export ')).map((command) => `${command}\n`).join('');
      for (const { command, shown } of language === 'console' ? readCommands(local) : []) {
        if (needsAbsent(command)) continue;
        const { output } = await shell(exports + command, cwd, env);
        t.ok(shown.length > 0, `${where} shows what to expect`);
        t.strictSame(findMissing(shown, output), [], `${where} ${command}`, { output });
      }
    }
  });
}

t.test('programs of the pages are run by them', async (t) => {
  for (const page of RUN_PAGES) {
    const blocks = readDocBlocks(page);
    for (const { language, file, line } of blocks) {
      if (!['python', 'js', 'java', 'go'].includes(language)) continue;
      const commands = blocks.filter((block) => block.language === 'console').map((block) => block.text);
      t.ok(file !== '' && commands.some((command) => command.includes(` ${file} `)), `${page}:${line} ${file}`);
    }
  }
});

t.test('the commands for other machines exist', async (t) => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: Record<string, string> };
  for (const page of [...RUN_PAGES, 'CONTRIBUTING.md']) {
    for (const { text: body } of readDocBlocks(page).filter(({ language }) => language === 'shell')) {
      for (const [, script = ''] of body.matchAll(/npm run ([\w:-]+)/g)) t.ok(scripts[script], `${page}: npm run ${script}`);
      for (const script of ['start', 'test']) if (new RegExp(`npm ${script}\\b`).test(body)) t.ok(scripts[script], `${page}: npm ${script}`);
      for (const [path] of body.matchAll(/(?<=\s|^)(?:deploy|docs|\.ci|test|bench)\/[\w./-]+/gm)) t.ok(existsSync(join(ROOT, path)), `${page}: ${path}`);
      if (body.includes('docker build')) t.ok(existsSync(join(ROOT, 'Dockerfile')));
    }
  }
});

t.test('npx eco-egress of the pages: every command and option exists', async (t) => {
  const helps = new Map<string, string>();
  let found = 0;
  for (const page of PAGES) {
    const lines = readDocBlocks(page).flatMap(({ text: body }) => body.replaceAll('\\\n', ' ').split('\n'));
    for (const [, command = '', rest = ''] of lines.flatMap((line) => [...line.matchAll(/npx eco-egress ([\w-]+)([^|;&#<]*)/g)])) {
      const help = helps.get(command) ?? (await eco([command, '--help'])).out;
      helps.set(command, help);
      t.match(help, `Usage: npx eco-egress ${command}`, `${page}: ${command}`);
      for (const [option] of rest.matchAll(/(?<= )--?[a-z][a-z-]*/g)) t.match(help, new RegExp(`${option}[ ,\\n]`), `${page}: ${command} ${option}`);
      found += 1;
    }
  }
  t.ok(found > 10);
});

t.test('the pages spell each command in one way', async (t) => {
  for (const page of PAGES) {
    for (const line of readDocBlocks(page).flatMap(({ text: body }) => body.split('\n'))) {
      t.notMatch(line, /(?<!npx )(?<![\w./-])eco-egress (?:serve|check|explain|reload|doctor|echo|verify-ip|hash-password|manifests) /, `${page}: npx eco-egress`);
      t.notMatch(line, /npm run check/, `${page}: npx eco-egress check`);
    }
  }
});

t.test('no command is followed by a comment, which zsh (macOS) takes for arguments, and no comment has what ends a command', async (t) => {
  for (const page of [...PAGES, ...globSync('deploy/**/README.md', { cwd: ROOT })]) {
    const lines = readDocBlocks(page).filter(({ language }) => language === 'shell' || language === 'sh').flatMap(({ text }) => text.split('\n'));
    t.strictSame(lines.filter((line) => (line.startsWith('#') ? /['"`<>$;&|]/.test(line) : /\s#(?:\s|$)/.test(line))), [], page);
  }
});

t.test('those of the README that dial nothing are run as they are written', async (t) => {
  const lines = readDocBlocks('README.md').flatMap(({ text: body }) => body.split('\n'));
  const commands = lines.filter((line) => /^(?:npx eco-egress|npm run) (?:check|explain|manifests)\b/.test(line));
  t.strictSame(commands.map((line) => /check|explain|manifests/.exec(line)?.[0]), ['manifests', 'check', 'explain']);
  for (const command of commands) {
    const { code, output } = await shell(command, ROOT, CLEAN);
    // What is explained there is refused.
    t.equal(code, command.includes('explain') ? 1 : 0, command, { output });
  }
});

t.test('the NO_PROXY for pods spares the partner the detour, and keeps it out', async (t) => {
  const { NO_PROXY = '', no_proxy: lower, HTTPS_PROXY, https_proxy: lowerHttps, HTTP_PROXY, http_proxy: lowerHttp } = podEnvironment();
  t.equal(NO_PROXY, lower);
  t.equal(new Set([HTTPS_PROXY, lowerHttps, HTTP_PROXY, lowerHttp]).size, 1);
  const entries = NO_PROXY.split(',');
  t.strictSame(entries.filter((entry) => 'eco-sit.telus.internal'.endsWith(entry)), [], 'the partner is not in it');
  const reasons = readDocRows('docs/clients/README.md').map(([names]) => names).join(', ');
  for (const entry of entries) t.ok(reasons.split(', ').includes(entry), `docs/clients/README.md says why ${entry}`);
});

t.test('the configuration table shows the shipped file', async (t) => {
  const rows = readDocRows('README.md').filter(([, variable]) => /^[A-Z_]+$/.test(variable ?? ''));
  t.ok(rows.length > 5);
  const shipped = readFileSync(join(ROOT, 'deploy/config/egress.yaml'), 'utf8');
  const example = readFileSync(join(ROOT, '.env.example'), 'utf8');
  const file = parse(shipped.replaceAll(/\$\{(\w+)[^}]*\}/g, '$$$1')) as unknown;
  for (const [key = '', variable = '', preset = ''] of rows) {
    const value = key.split('.').reduce<unknown>((at, part) => (at as Record<string, unknown> | undefined)?.[part], file);
    t.equal(value, `$${variable}`, `${key} takes ${variable}`);
    const [, fallback = ''] = new RegExp(`\\$\\{${variable}:-([^}]*)\\}`).exec(shipped) ?? [];
    t.ok(preset === fallback || (fallback === '' && preset.startsWith('public')), `${key} is ${fallback} without it`);
    t.match(example, `${variable}=`, `.env.example has ${variable}`);
  }
  t.match(loadConfig({ file: 'egress.yaml', env: {}, readFile: () => shipped }), { ok: true });
});

t.test('every link leads somewhere', async (t) => {
  for (const page of PAGES) {
    const content = readFileSync(join(ROOT, page), 'utf8').replaceAll(/^```[^]*?^```$/gm, '');
    for (const [, target = ''] of content.matchAll(/\]\((?!https?:)([^)\s]+)\)/g)) {
      const [path = '', anchor] = target.split('#');
      const full = path === '' ? join(ROOT, page) : join(ROOT, dirname(page), path);
      t.ok(existsSync(full), `${page}: ${target}`);
      if (anchor !== undefined && existsSync(full)) t.ok(anchorsOf(full).includes(anchor), `${page}: ${target}`);
    }
  }
});

t.test('every page is in its index', async (t) => {
  for (const index of ['docs/README.md', 'docs/clients/README.md', 'docs/decisions/README.md']) {
    const content = readFileSync(join(ROOT, index), 'utf8');
    for (const page of globSync(`${dirname(index)}/*.md`, { cwd: ROOT })) {
      if (page !== index) t.ok(content.includes(`](${page.slice(dirname(index).length + 1)})`), `${index} has ${page}`);
    }
  }
});

/** GitHub's: lower case, punctuation dropped, spaces to hyphens. */
function anchorsOf(path: string): string[] {
  return [...readFileSync(path, 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, title = '']) => title.toLowerCase().replaceAll(/[^\w\s-]/g, '').replaceAll(' ', '-'));
}

/** `diff`: what it tells, its exit codes, and that `explain` says of each witness what the class says. */
import t, { type Test } from 'tap';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { runDiff, type DiffOptions } from '../../src/cli/diff.ts';
import { withIdleService } from '../../src/service.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { ExplainRequest } from '../../src/explain/explainer.ts';
import { recordIo } from '../support/command-io.ts';

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

const AT = '2026-12-01T00:00:00Z';
const ROOT = join(import.meta.dirname, '../..');
const HASHES = ['QmFzZTY0U2FsdDEyMzQ1Ng', 'QmFzZTY0U2FsdDEyMzQ1Nw'].map((salt) => `$scrypt$ln=15,r=8,p=1$${salt}$TLoBXT6gLvFaJ2u2DZ6pFxzRVpRqkUMUEf3PAgS8x3s`);

const CONFIG = `version: 1
clients:
  pods: { addresses: [10.8.0.0/14] }
  people: { addresses: [10.30.0.0/16], basic: [{ user: anna, hash: "${HASHES[0] ?? ''}" }] }
  jobs: { tokens: [{ issuer: "https://k.example", audience: eco, subjects: ["ns:a:*"], jwksUrl: "https://k.example/keys" }] }
  mesh: { addresses: [10.50.0.0/16], certificates: ["spiffe://t/ns/a/*"] }
destinations:
  eco: { hosts: [eco.example, "*.sub.example"], ports: [443], addresses: [10.40.0.0/16], gateway: { prefix: /eco, url: "https://eco.example/base" } }
  reports: { hosts: ["*.reports.example"], ports: [443, 80], http: { paths: ["/a/*"] }, forms: [forward, host-routed] }
  raw: { hosts: [8.8.4.4, "2001:4860::9"], ports: [8443] }
rules:
  - { clients: [pods, people, mesh], destinations: [eco] }
  - { clients: [jobs], destinations: [eco, raw] }
  - { clients: [pods], destinations: [reports], until: "2027-01-01T00:00:00Z" }
`;

async function diff(t: Test, before: string, after: string, options: DiffOptions = {}): Promise<Ended & { readonly before: string; readonly after: string }> {
  const directory = t.testdir({ 'before.yaml': before, 'after.yaml': after });
  const files = [join(directory, 'before.yaml'), join(directory, 'after.yaml')] as const;
  const io = recordIo();
  const code = await runDiff({ at: AT, ...options }, io, ...files);
  return { code, out: io.out().replaceAll(`${directory}/`, ''), err: io.err().replaceAll(`${directory}/`, ''), before: files[0], after: files[1] };
}

interface JsonClass {
  readonly change: string;
  readonly text: string;
  readonly outcome: string;
  readonly codes: { readonly before: string[]; readonly after: string[] };
  readonly before: { readonly verdict: string; readonly code: string };
  readonly after: { readonly verdict: string; readonly code: string };
  readonly witness: { readonly explain: string[]; readonly resolves: string | null };
}

interface JsonDiff {
  readonly equivalent: boolean;
  readonly classes: JsonClass[];
  readonly others: { readonly path: string; readonly needsRestart: boolean }[];
  readonly policyKeys: string[];
}

/** Every change of one kind at a time. */
const EDITS: readonly (readonly [what: string, from: string, to: string, told: readonly string[]])[] = [
  ['a wider pattern', '[eco.example, "*.sub.example"]', '[eco.example, "*.example"]', ['allowed any other host below *.example, port 443, by any form, for pods, people and mesh, resolving to 10.40.0.0/16']],
  ['another port', 'ports: [8443]', 'ports: [8443, 9000-9010]', ['allowed 8.8.4.4 and 2001:4860::9, ports 9000-9010, by connect, forward or host-routed, for jobs']],
  ['a narrower client', '10.8.0.0/14', '10.8.0.0/15', ['denied eco.example and any host below *.sub.example, port 443, by any form, for 10.10.0.0/15 (pods only before), resolving to 10.40.0.0/16']],
  ['a new name for a client', 'clients: [pods], dest', 'clients: [mesh], dest', ['allowed any host below *.reports.example, ports 80 and 443, by forward or host-routed, paths /a/*, for mesh, until 2027-01-01T00:00:00Z', 'denied any host below *.reports.example, ports 80 and 443, by forward or host-routed, paths /a/*, for pods, until 2027-01-01T00:00:00Z']],
  ['another end', '2027-01', '2028-01', ['allowed any host below *.reports.example, ports 80 and 443, by forward or host-routed, paths /a/*, for pods, from 2027-01-01T00:00:00Z until 2028-01-01T00:00:00Z']],
  ['another base', '/base', '/other', ['otherwise paths below /eco, for pods, people and mesh', 'otherwise paths below /eco, for jobs']],
  ['another prefix', 'prefix: /eco', 'prefix: /partner', ['allowed paths below /partner, for pods, people and mesh, resolving to 10.40.0.0/16', 'denied paths below /eco, for pods, people and mesh, resolving to 10.40.0.0/16']],
  ['another path', '["/a/*"]', '["/a/*", "/b/*/c"]', ['allowed any host below *.reports.example, ports 80 and 443, by forward or host-routed, paths /b/*/c, for pods, until 2027-01-01T00:00:00Z']],
  ['methods', 'paths: ["/a/*"]', 'paths: ["/a/*"], methods: [GET]', ['denied any host below *.reports.example, ports 80 and 443, by forward or host-routed, any method but GET and HEAD, paths /a/*, for pods, until 2027-01-01T00:00:00Z']],
  ['more addresses', '[10.40.0.0/16]', '[10.40.0.0/15]', ['allowed eco.example and any host below *.sub.example, port 443, by any form, for pods, people and mesh, resolving to 10.41.0.0/16']],
  ['no addresses', 'addresses: [10.40.0.0/16], gateway', 'gateway', ['denied eco.example and any host below *.sub.example, port 443, by any form, for pods, people and mesh, resolving to 10.40.0.0/16', 'allowed eco.example and any host below *.sub.example, port 443, by any form, for pods, people and mesh, resolving to public addresses']],
  ['report mode of a destination', 'ports: [8443]', 'ports: [8443], report: true', ['allowed 8.8.4.4 and 2001:4860::9, any port, by connect, forward or host-routed, for anyone but jobs']],
  ['another user', 'user: anna', 'user: bert', ['denied eco.example and any host below *.sub.example, port 443, by connect, forward or host-routed, for the user anna from 10.30.0.0/16 (people only before), resolving to 10.40.0.0/16', 'allowed eco.example and any host below *.sub.example, port 443, by connect, forward or host-routed, for the user bert from 10.30.0.0/16 (people only after), resolving to 10.40.0.0/16']],
  ['other certificates', 'ns/a/*"]', 'ns/b/*"]', ['allowed eco.example and any host below *.sub.example, port 443, by connect, forward or host-routed, for a certificate of URI:spiffe://t/ns/b/ from 10.50.0.0/16 (mesh only after), resolving to 10.40.0.0/16']],
  ['other subjects', '"ns:a:*"', '"ns:*:x"', ['allowed eco.example and any host below *.sub.example, port 443, by connect, forward or host-routed, for a token of ns::x from https://k.example from any address but 10.8.0.0/14 (jobs only after), resolving to 10.40.0.0/16']],
  ['another rule', '  - { clients: [jobs]', '  - { clients: [pods], destinations: [eco], methods: [GET] }\n  - { clients: [jobs]', []],
  ['an earlier rule', '  - { clients: [pods, people', '  - { clients: [people], destinations: [eco], methods: [GET] }\n  - { clients: [pods, people', ['otherwise eco.example and any host below *.sub.example, port 443, by forward or host-routed, methods GET and HEAD, for people', 'otherwise paths below /eco, methods GET and HEAD, for people']],
  ['report mode', 'version: 1', 'version: 1\nmode: report', ['allowed any host that neither file names, any port, by any form, for anyone']],
];

t.test('each kind of change, and explain about each witness', async (t) => {
  for (const [what, from, to, told] of EDITS) {
    await t.test(what, async (t) => {
      const edited = CONFIG.replace(from, to);
      t.not(edited, CONFIG);
      const { code, out, err, before, after } = await diff(t, CONFIG, edited, { json: true });
      t.equal(err, '');
      const { classes, equivalent } = JSON.parse(out) as JsonDiff;
      t.equal(equivalent, told.length === 0, out);
      t.equal(code, told.length === 0 ? 0 : 1);
      const texts = classes.map(({ change, text }) => `${change} ${text}`);
      for (const text of told) t.ok(texts.includes(text), text, { texts });
      for (const [index, file] of [before, after].entries()) {
        const loaded = loadConfig({ file, env: {}, policyOnly: true });
        if (!loaded.ok) throw new Error(JSON.stringify(loaded.faults));
        await withIdleService(loaded.config, async ({ explainer }) => {
          for (const one of classes) {
            const answer = await explainer.explain(questionOf(one));
            if (typeof answer === 'string') throw new Error(`${one.text}: ${answer}`);
            const expected = index === 0 ? one.before : one.after;
            t.strictSame([answer.verdict, answer.code], [expected.verdict, expected.code], `${one.witness.explain.join(' ')}: ${one.text}`);
          }
        });
      }
    });
  }
});

/** As the command reads its arguments. */
function questionOf({ witness: { explain, resolves } }: JsonClass): ExplainRequest {
  const options: Record<string, string[]> = {};
  const words = [...explain];
  while (words[0]?.startsWith('--') === true) {
    const [name = '', value = ''] = words.splice(0, 2);
    (options[name.slice(2)] ??= []).push(value);
  }
  const { client, user, subject, san, host, at } = options;
  const [method = '', target = ''] = words;
  return { client: client?.[0] ?? null, user: user?.[0] ?? null, subject: subject?.[0] ?? null, sans: san ?? [], host: host?.[0] ?? null, method, target, resolve: false, at: Date.parse(at?.[0] ?? AT), ...(resolves === null ? {} : { resolves: [resolves] }) };
}

t.test('for people', async (t) => {
  const { code, out } = await diff(t, CONFIG, CONFIG.replace('"*.sub.example"', '"*.example"').replace('[8443]', '[8444]'));
  t.equal(code, 1);
  t.match(out, /^Newly allowed, \d+ classes of requests:\n {2}\+ /);
  // The name is quoted where the path of the checkout needs it.
  t.match(out.replaceAll("'after.yaml'", 'after.yaml'), '      host-not-allowed -> rules[0] lets it use eco; for example, resolving to 10.40.0.1:\n      npx eco-egress explain --config after.yaml --no-resolve --client 10.8.0.1 CONNECT any.example:443\n');
});

t.test('nothing has changed', async (t) => {
  const same = await diff(t, CONFIG, CONFIG);
  t.equal(same.code, 0);
  t.match(same.out, /^Equivalent: before\.yaml \([0-9a-f]{16}\) and after\.yaml \([0-9a-f]{16}\) decide every request alike from 2026-12-01T00:00:00Z on\.\n$/);
  const written = await diff(t, CONFIG, CONFIG.replace('[eco.example, "*.sub.example"]', '["*.sub.example", eco.example, a.sub.example]').replace('clients: [jobs], dest', 'clients: [jobs, jobs], dest'));
  t.equal(written.code, 0, 'what is written in another way and means the same is no difference');
  t.match(written.out, 'Written in another way: destinations.eco.hosts, rules[1].clients.\n');
  const past = await diff(t, CONFIG, CONFIG.replace(/ {2}- \{ clients: \[pods\], destinations: \[reports\].*\n/, ''), { at: '2027-01-01T00:00:00Z' });
  t.notMatch(past.out, 'Newly', 'a rule that has ended may go');
});

t.test('what else has changed, and what of it needs a restart', async (t) => {
  const { code, out } = await diff(t, CONFIG, `${CONFIG.replace(HASHES[0] ?? '', HASHES[1] ?? '')}timeouts: { connect: 3s, keepAlive: 3s }\nlisteners: { http: ["127.0.0.1:8080"] }\n`);
  t.equal(code, 1);
  t.match(out, /^Equivalent: .*\n\nChanged besides:\n {2}timeouts\.connect: 10s -> 3s\n {2}clients\.people\.basic\[0\]\.hash: \(hidden\) -> another \(hidden\)\n\nChanged, and in effect after a restart only:\n {2}listeners\.http: .*\n(?: {2}listeners\.http.*\n)* {2}timeouts\.keepAlive: 75s -> 3s\n$/);
  const written = await diff(t, `${CONFIG}timeouts: { connect: 3s }\nlisteners: { http: "127.0.0.1:8080,127.0.0.1:8081" }\n`, `${CONFIG}timeouts: { connect: 3000ms }\nlisteners: { http: ["127.0.0.1:8080", { address: "127.0.0.1:8081" }] }\nnat: { timeWait: 120s }\n`);
  t.strictSame([written.code, written.out.split('\n').length], [0, 2], written.out);
  const probed = (token: string): string => `${CONFIG}sourceIp: { probe: { url: "https://echo.example/ip?token=${token}" } }\n`;
  const token = await diff(t, probed('one'), probed('two'));
  t.match(token, { code: 1, out: /\n\nChanged besides:\n {2}sourceIp\.probe\.url: https:\/\/echo\.example\/ip\?\(hidden\) -> another \(hidden\)\n$/ }, 'a secret in a URL');
  const rated = await diff(t, CONFIG, CONFIG.replace('[pods, people, mesh], destinations: [eco] }', '[pods, people, mesh], destinations: [eco], rate: { perAddress: { requests: 50/s burst 100 }, perClient: { sent: 10GiB/day } } }'));
  t.match(rated, { code: 1, out: /^Equivalent: [^]*Changed besides:\n {2}rules\[0\]\.rate\.perAddress\.requests: not set -> 50\/s burst 100\n {2}rules\[0\]\.rate\.perClient\.sent: not set -> 10GiB\/day\n {2}rules\[0\]\.rate\.whenExhausted: not set -> refuse\n$/ });
  const narrow = await diff(t, CONFIG, `${CONFIG}timeouts: { connect: 3s }\n`, { failOn: 'widening' });
  t.equal(narrow.code, 0);
});

t.test('--fail-on widening', async (t) => {
  t.equal((await diff(t, CONFIG, CONFIG.replace('ports: [8443]', 'ports: [8444]'), { failOn: 'widening' })).code, 1);
  const narrower = await diff(t, CONFIG, CONFIG.replace('ports: [443, 80]', 'ports: [443]'), { failOn: 'widening' });
  t.equal(narrower.code, 0);
  t.match(narrower.out, 'Newly denied');
});

t.test('wrong files and arguments', async (t) => {
  const faulty = await diff(t, 'version: 2\n', CONFIG.replace('10.8.0.0/14', 'nowhere'));
  t.equal(faulty.code, 2);
  t.equal(faulty.out, '');
  t.match(faulty.err, /^2 faults: fix them and try again\.\n\n[^]*before\.yaml:1:\d+[^]*after\.yaml:3:\d+/);
  t.match(await diff(t, CONFIG, CONFIG, { failOn: 'anything' }), { code: 2, err: '--fail-on anything is not known: write widening, or leave it out.\n' });
  const missing = recordIo();
  t.equal(await runDiff({}, missing, '/nowhere/old.yaml', '/nowhere/new.yaml'), 2);
  t.match(missing.err(), /^2 faults: fix them and try again\.\n\n\/nowhere\/old\.yaml\n {2}The file cannot be read: there is no such file\.\n {2}Name another file\.\n/);
  t.match(await diff(t, CONFIG, CONFIG, { at: 'soon' }), { code: 2, err: /^--at: "soon"/ });
});

t.test('what is no plain text does nothing to a terminal', async (t) => {
  const user = await diff(t, CONFIG, CONFIG.replaceAll('user: anna', 'user: "an\\u202Ena"'));
  t.match(user, { code: 2, err: 'an\\u202ena' });
  const file = await diff(t, CONFIG, CONFIG.replace('base" } }', 'base" }, tls: { caFile: "a\\u202Eb.pem" } }'));
  t.match(file, { code: 1, out: 'a\\u202eb.pem' });
  for (const { out, err } of [user, file]) t.notMatch(out + err, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
  const json = await diff(t, CONFIG, CONFIG.replace('base" } }', 'base" }, tls: { caFile: "a\\u202Eb.pem" } }'), { json: true });
  t.match(json, { code: 1, out: 'a\\u202eb.pem' });
  t.notMatch(json.out, '\u202e');
});

t.test('files that a shell makes, without a name', async (t) => {
  const directory = t.testdir({ 'before.yaml': CONFIG, 'after.yaml': CONFIG.replace('10.8.0.0/14', '10.8.0.0/13') });
  try {
    execFileSync('bash', ['-c', `bin/eco-egress diff --at ${AT} <(cat "$0/before.yaml") <(cat "$0/after.yaml")`, directory], { cwd: ROOT, encoding: 'utf8' });
    t.fail('it exits with 1');
  } catch (error) {
    const { status, stdout } = error as { status: number; stdout: string };
    t.equal(status, 1);
    t.match(stdout, /^Newly allowed[^]*for 10\.12\.0\.0\/14 \(pods only after\)[^]*npx eco-egress explain --config FILE /);
  }
});

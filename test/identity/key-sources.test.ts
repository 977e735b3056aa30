/** Keys from files and from servers that behave, and from some that do not. */
import { execFileSync } from 'node:child_process';
import t from 'tap';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fetchKeys, readKeyFile } from '../../src/identity/key-sources.ts';
import { createIssuer, startKeyServer } from '../support/issuer.ts';

const issuer = await createIssuer('https://issuer.example');
const { keys: [key] } = issuer.jwks();
const OPEN = new AbortController().signal;

t.test('a set of keys, and what is left out of it', async (t) => {
  const file = join(t.testdir(), 'jwks.json');
  const secret = { kty: 'oct', k: 'c2VjcmV0', kid: 'secret' };
  const whole = { ...key, d: 'cHJpdmF0ZQ', kid: 'private' };
  for (const mark of ['', '\ufeff']) {
    await writeFile(file, `${mark}${JSON.stringify({ keys: [secret, whole, key, { kty: 'new' }, null, 'x'] })}`);
    t.strictSame(await readKeyFile(file, OPEN), { keys: [key] });
  }
});

t.test('files that are no set of keys', async (t) => {
  const directory = t.testdir();
  const file = join(directory, 'jwks.json');
  await t.rejects(readKeyFile(file, OPEN), { code: 'ENOENT' });
  await t.rejects(readKeyFile(directory, OPEN), { code: 'EISDIR' });
  const pipe = join(directory, 'pipe');
  execFileSync('mkfifo', [pipe]);
  await t.rejects(readKeyFile(pipe, OPEN), { message: /pipe is not a file$/ });
  const wrong: [text: string, reason: RegExp][] = [
    ['', /jwks\.json is not JSON/],
    ['{', /not JSON/],
    ['[]', /no list "keys"/],
    ['null', /no list "keys"/],
    ['{"keys":{}}', /no list "keys"/],
    ['{"keys":[]}', /no public key/],
    ['{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}', /no public key/],
    [JSON.stringify({ keys: Array<unknown>(101).fill(key) }), /more than 100 keys/],
    [JSON.stringify({ keys: [key], padding: 'x'.repeat(300_000) }), /more than 262144 bytes/],
  ];
  for (const [text, reason] of wrong) {
    await writeFile(file, text);
    await t.rejects(readKeyFile(file, OPEN), { message: reason }, text.slice(0, 40));
  }
});

t.test('a server', async (t) => {
  const server = await startKeyServer(t, issuer);
  t.strictSame(await fetchKeys(server.url, fetch, 5_000, OPEN), issuer.jwks());

  server.answer((_req, res) => res.writeHead(500).end('{}'));
  await t.rejects(fetchKeys(server.url, fetch, 5_000, OPEN), /answered 500/);
  server.answer((_req, res) => res.writeHead(204).end());
  await t.rejects(fetchKeys(server.url, fetch, 5_000, OPEN), /answered 204/);
  server.answer((_req, res) => res.writeHead(302, { location: server.url }).end());
  const before = server.requests();
  await t.rejects(fetchKeys(server.url, fetch, 5_000, OPEN), /\/keys cannot be fetched: unexpected redirect/);
  t.equal(server.requests(), before + 1, 'a redirect is not followed');
  server.answer((_req, res) => res.end('<html>'));
  await t.rejects(fetchKeys(server.url, fetch, 5_000, OPEN), /is not JSON/);
  server.answer((req) => req.socket.destroy());
  await t.rejects(fetchKeys(server.url, fetch, 5_000, OPEN), /\/keys cannot be fetched: other side closed/);
  await t.rejects(fetchKeys('https://127.0.0.1:1/keys', fetch, 5_000, OPEN), /\/keys cannot be fetched: (?:connect ECONNREFUSED|bad port)/);
});

t.test('a server that sends without end', async (t) => {
  const server = await startKeyServer(t, issuer);
  const closed = Promise.withResolvers<undefined>();
  server.answer((_req, res) => {
    const chunk = Buffer.alloc(65_536, 0x20);
    const more = (): void => {
      while (!res.destroyed && res.write(chunk));
    };
    res.on('drain', more).on('close', () => {
      closed.resolve(undefined);
    });
    more();
  });
  await t.rejects(fetchKeys(server.url, fetch, 5_000, OPEN), /sent more than 262144 bytes/);
  await closed.promise;
});

t.test('a server that says nothing, or stops', async (t) => {
  const server = await startKeyServer(t, issuer);
  server.answer(() => {});
  await t.rejects(fetchKeys(server.url, fetch, 50, OPEN), /\/keys cannot be fetched: .*timeout/);
  server.answer((_req, res) => res.write('{"keys":['));
  await t.rejects(fetchKeys(server.url, fetch, 50, OPEN), /\/keys cannot be fetched: .*timeout/);
  const ending = new AbortController();
  const unanswered = fetchKeys(server.url, fetch, 5_000, ending.signal);
  ending.abort();
  await t.rejects(unanswered, /cannot be fetched: .*aborted/);
});

t.test('where keys may come from', async (t) => {
  let fetched = 0;
  const counting: typeof fetch = () => {
    fetched += 1;
    return Promise.resolve(Response.json(issuer.jwks()));
  };
  const refused = ['http://issuer.example/keys', 'http://10.0.0.1/keys', 'http://localhost.example/keys', 'http://127.0.0.1.example/keys', 'http://127.0.0.1@issuer.example/keys', 'ftp://127.0.0.1/keys', 'file:///etc/keys', '/keys', ''];
  for (const url of refused) await t.rejects(fetchKeys(url, counting, 5_000, OPEN), /over https/, url);
  t.equal(fetched, 0);
  const taken = ['https://issuer.example/keys', 'http://127.0.0.1:1/keys', 'http://127.1/keys', 'http://[::1]:1/keys', 'http://localhost/keys'];
  for (const url of taken) t.strictSame(await fetchKeys(url, counting, 5_000, OPEN), issuer.jwks(), url);
  t.equal(fetched, taken.length);
});

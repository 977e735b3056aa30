/** Key files of token issuers: each way in which one is none, told at the key that names it. */
import { generateKeyPairSync } from 'node:crypto';
import t from 'tap';
import { faultsOf as tell } from '../support/load-text.ts';
import { loadConfig } from '../../src/config/load.ts';

const text = (keys: string): string => `version: 1
clients:
  pods:
    tokens:
      - { issuer: "https://issuer.example", audience: eco-egress, subjects: "a:*", ${keys} }
destinations:
  eco: { hosts: eco.example, ports: 443 }
rules:
  - { clients: pods, destinations: eco }
`;

function load(keys: string, files: Record<string, string> = {}) {
  return loadConfig({
    file: '/etc/eco/egress.yaml',
    env: {},
    readFile: (path) => {
      if (path === '/etc/eco/egress.yaml') return text(keys);
      const content = files[path];
      if (content === undefined) throw Object.assign(new Error('x'), { code: 'ENOENT' });
      return content;
    },
  });
}

const key = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' });
const PUBLIC = JSON.stringify({ keys: [key] });

t.test('a file beside the configuration, by its whole path', async (t) => {
  const result = load('jwksFile: keys.json', { '/etc/eco/keys.json': PUBLIC });
  t.match(result, {
    ok: true,
    config: { clients: [{ addresses: null, basic: null, certificates: null, tokens: [{ issuer: 'https://issuer.example', audience: 'eco-egress', subjects: ['a:*'], jwks: { kind: 'file', path: '/etc/eco/keys.json' } }] }] },
  });
  t.match(load('jwksFile: /keys.json', { '/keys.json': PUBLIC }), { ok: true, config: { clients: [{ tokens: [{ jwks: { path: '/keys.json' } }] }] } });
});

t.test('keys among others that cannot be read are a warning', async (t) => {
  const text = JSON.stringify({ keys: [key, { kty: 'OKP', crv: 'Ed25519', x: 'AAAA' }] });
  t.match(load('jwksFile: keys.json', { '/etc/eco/keys.json': text }), { ok: true, warnings: [{ path: 'clients.pods.tokens[0].jwksFile', problem: /1 of the 2 keys in .* cannot verify signatures/ }] });
});

t.test('what is no file of public keys', async (t) => {
  const table: [what: string, content: string | null, problem: RegExp][] = [
    ['nothing', null, /"\/etc\/eco\/keys\.json" cannot be read: there is no such file/],
    ['more than is read while it runs', JSON.stringify({ keys: [key], padding: 'x'.repeat(300_000) }), /has more than 262144 bytes/],
    ['no JSON', '-----BEGIN CERTIFICATE-----', /is not a JWK set/],
    ['another JSON', '[]', /is not a JWK set/],
    ['null', 'null', /is not a JWK set/],
    ['keys that are no list', '{"keys":{}}', /is not a JWK set/],
    ['no keys', '{"keys":[]}', /has no keys/],
    ['keys that no code can read', '{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}', /has no key that can be read/],
    ['keys of no known kind', '{"keys":[{"kty":"XYZ"}]}', /has no public key for signatures/],
    ['too many keys', JSON.stringify({ keys: Array.from({ length: 101 }, () => key) }), /has more than 100 keys/],
    ['a private key', '{"keys":[{"kty":"OKP","x":"AAAA","d":"AAAA"}]}', /private or secret/],
    ['a secret', '{"keys":[{"kty":"oct","k":"AAAA"}]}', /private or secret/],
  ];
  for (const [what, content, problem] of table) {
    const result = load('jwksFile: keys.json', content === null ? {} : { '/etc/eco/keys.json': content });
    t.match(result, { ok: false, faults: [{ line: 5, column: 94, path: 'clients.pods.tokens[0].jwksFile', problem }] }, what);
    t.equal(result.ok ? 0 : result.faults.length, 1, what);
  }
});

t.test('a file and a URL at once', async (t) => {
  const result = load('jwksUrl: "https://issuer.example/keys", jwksFile: keys.json', { '/etc/eco/keys.json': PUBLIC });
  t.match(result, { ok: false, faults: [{ path: 'clients.pods.tokens[0].jwksUrl', problem: /from a file and from a URL/ }] });
  t.equal(tell(text('jwksUrl: "https://issuer.example/keys"')).length, 0);
});

/** What DNS can answer, and what becomes of it: the same with servers of the configuration and with those of the system. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { createSystemLookup, dnsLookup, type Lookup, readHosts } from '../../src/dial/lookup.ts';
import { createResolver } from '../../src/dial/resolver.ts';
import { Fault } from '../../src/errors.ts';
import { type DnsQuestion, type DnsReply, startDnsServer } from '../support/dns-server.ts';

type Answer = DnsReply | ((question: DnsQuestion) => DnsReply);

/** What the two servers say to A and AAAA; the expectation is addresses, or the code of a Fault. */
interface Row {
  readonly first: readonly [a: Answer, aaaa: Answer];
  readonly second?: readonly [a: Answer, aaaa: Answer];
  readonly expected: readonly string[] | string;
}

const one = (...addresses: string[]): DnsReply => ({ addresses, ttl: 60 });
const A = one('192.0.2.1');
const B = one('192.0.2.2');
const SIX = one('2001:db8::1');
const over = (udp: DnsReply, tcp: DnsReply): Answer => (question) => (question.over === 'tcp' ? tcp : udp);
const chain = (cnames: string[], ...addresses: string[]): DnsReply => ({ addresses, cnames, ttl: 60 });

const TABLE: Readonly<Record<string, Row>> = {
  'one address': { first: [A, null], expected: ['192.0.2.1'] },
  'both families, IPv4 first': { first: [A, SIX], expected: ['192.0.2.1', '2001:db8::1'] },
  'IPv6 alone': { first: [null, SIX], expected: ['2001:db8::1'] },
  'many addresses, in their order': { first: [one('192.0.2.3', '192.0.2.1', '192.0.2.2'), null], expected: ['192.0.2.3', '192.0.2.1', '192.0.2.2'] },
  'an address twice': { first: [one('192.0.2.1', '192.0.2.1'), null], expected: ['192.0.2.1'] },
  'a time-to-live of 0': { first: [{ addresses: ['192.0.2.1'], ttl: 0 }, null], expected: ['192.0.2.1'] },
  'a time-to-live of 68 years': { first: [{ addresses: ['192.0.2.1'], ttl: 0x7fffffff }, null], expected: ['192.0.2.1'] },
  'no such name': { first: ['NXDOMAIN', 'NXDOMAIN'], expected: 'name-not-found' },
  'no such name, though the next server has one': { first: ['NXDOMAIN', 'NXDOMAIN'], second: [A, SIX], expected: 'name-not-found' },
  'no record of either family': { first: [null, null], expected: 'name-not-found' },
  'no such name for A alone': { first: ['NXDOMAIN', SIX], expected: ['2001:db8::1'] },
  'no such name for AAAA alone': { first: [A, 'NXDOMAIN'], expected: ['192.0.2.1'] },
  'an alias': { first: [chain(['a.test'], '192.0.2.1'), chain(['a.test'])], expected: ['192.0.2.1'] },
  'a chain of aliases': { first: [chain(['a.test', 'b.test', 'c.test'], '192.0.2.1'), null], expected: ['192.0.2.1'] },
  'an alias without an address': { first: [chain(['a.test']), chain(['a.test'])], expected: 'name-not-found' },
  'an alias without an address, in one family': { first: [chain(['a.test']), chain(['a.test'], '2001:db8::1')], expected: ['2001:db8::1'] },
  'a loop of aliases': { first: [chain(['a.test', 'b.test', 'a.test']), chain(['a.test', 'b.test', 'a.test'])], expected: 'name-not-found' },
  'SERVFAIL everywhere': { first: ['SERVFAIL', 'SERVFAIL'], second: ['SERVFAIL', 'SERVFAIL'], expected: 'resolver-failed' },
  'REFUSED everywhere': { first: ['REFUSED', 'REFUSED'], second: ['REFUSED', 'REFUSED'], expected: 'resolver-failed' },
  'SERVFAIL, then the next server': { first: ['SERVFAIL', 'SERVFAIL'], second: [A, SIX], expected: ['192.0.2.1', '2001:db8::1'] },
  'REFUSED, then the next server': { first: ['REFUSED', 'REFUSED'], second: [A, SIX], expected: ['192.0.2.1', '2001:db8::1'] },
  'NOTIMP, then the next server': { first: ['NOTIMP', 'NOTIMP'], second: [A, null], expected: ['192.0.2.1'] },
  'FORMERR, then the next server': { first: ['FORMERR', 'FORMERR'], second: [A, null], expected: ['192.0.2.1'] },
  'garbage, then the next server': { first: ['garbage', 'garbage'], second: [A, null], expected: ['192.0.2.1'] },
  'silence, then the next server': { first: ['silent', 'silent'], second: [B, null], expected: ['192.0.2.2'] },
  'REFUSED, then no such name': { first: ['REFUSED', 'REFUSED'], second: ['NXDOMAIN', 'NXDOMAIN'], expected: 'name-not-found' },
  'REFUSED, then no record': { first: ['REFUSED', 'REFUSED'], second: [null, null], expected: 'name-not-found' },
  'SERVFAIL for AAAA alone': { first: [A, 'SERVFAIL'], second: [null, 'SERVFAIL'], expected: ['192.0.2.1'] },
  'REFUSED for AAAA alone': { first: [A, 'REFUSED'], second: [A, 'REFUSED'], expected: ['192.0.2.1'] },
  'silence for AAAA alone': { first: [A, 'silent'], second: [A, 'silent'], expected: ['192.0.2.1'] },
  'garbage for AAAA alone': { first: [A, 'garbage'], second: [A, 'garbage'], expected: ['192.0.2.1'] },
  'an A record as the answer to AAAA': { first: [A, B], expected: ['192.0.2.1'] },
  'silence for A alone': { first: ['silent', SIX], second: ['silent', SIX], expected: ['2001:db8::1'] },
  'SERVFAIL for A, no record for AAAA': { first: ['SERVFAIL', null], second: ['SERVFAIL', null], expected: 'resolver-failed' },
  'no record for A, SERVFAIL for AAAA': { first: [null, 'SERVFAIL'], second: [null, 'SERVFAIL'], expected: 'resolver-failed' },
  'silence everywhere': { first: ['silent', 'silent'], second: ['silent', 'silent'], expected: 'resolver-timeout' },
  'an id that was not asked': { first: ['wrong-id', 'wrong-id'], second: [B, null], expected: ['192.0.2.2'] },
  'an empty datagram': { first: ['empty', 'empty'], second: [B, null], expected: ['192.0.2.2'] },
  'half a head': { first: ['short', 'short'], second: [B, null], expected: ['192.0.2.2'] },
  'truncated, and whole over TCP': { first: [over('truncated', A), over('truncated', SIX)], expected: ['192.0.2.1', '2001:db8::1'] },
  'truncated, and 100 addresses over TCP': { first: [over('truncated', one(...Array.from({ length: 100 }, (_, index) => `192.0.2.${index}`))), null], expected: Array.from({ length: 100 }, (_, index) => `192.0.2.${index}`) },
  'truncated, and no such name over TCP': { first: [over('truncated', 'NXDOMAIN'), over('truncated', 'NXDOMAIN')], expected: 'name-not-found' },
};

const names = new Map(Object.keys(TABLE).map((what, index) => [`n${index}.partner.test`, what]));
const replyOf = (which: 'first' | 'second') => (question: DnsQuestion): DnsReply => {
  const row = TABLE[names.get(question.name) ?? ''];
  // A busy machine may let the first one miss its second: the other then says the same.
  const answers = row?.[which] ?? row?.first;
  const answer = answers?.[question.type === 'A' ? 0 : 1] ?? (answers === undefined ? 'NXDOMAIN' : null);
  return typeof answer === 'function' ? answer(question) : answer;
};
const first = await startDnsServer(replyOf('first'));
const second = await startDnsServer(replyOf('second'));
t.teardown(() => Promise.all([first.close(), second.close()]));

const resolve = async (lookup: Lookup, host: string): Promise<readonly string[] | string> => {
  const resolver = createResolver({ lookup, dns: { ttl: 60_000, staleFor: 0 }, timeout: 20_000 });
  try {
    return await resolver.resolve(host);
  } catch (error) {
    return Fault.from(error).code;
  }
};

for (const [mode, create] of Object.entries<() => Lookup>({
  'servers of the configuration': () => dnsLookup([first.address, second.address]),
  'servers of the system': () => createSystemLookup({ servers: () => [first.address, second.address], findInHosts: () => [] }),
})) {
  t.test(`with ${mode}`, async (t) => {
    const waiting: Promise<unknown>[] = [];
    for (const [host, what] of names) {
      const asked = resolve(create(), host).then((found) => t.same(found, TABLE[what]?.expected, what));
      // Silence takes its time; all else is asked one after the other.
      if (/silence|id that|datagram|half a head/.test(what)) waiting.push(asked);
      else await asked;
    }
    await Promise.all(waiting);
  });
}

t.test('names are asked for as they are, once for each family', async (t) => {
  const server = await startDnsServer(() => 'NXDOMAIN');
  t.teardown(() => server.close());
  for (const lookup of [dnsLookup([server.address]), createSystemLookup({ servers: () => [server.address], findInHosts: () => [] })]) {
    for (const host of ['eco', 'eco.example', 'a.b.c.d.e.f.example']) {
      const before = server.questions.length;
      t.equal(await resolve(lookup, host), 'name-not-found');
      t.same(server.questions.slice(before).map(({ name, type }) => `${type} ${name}`).toSorted(), [`A ${host}`, `AAAA ${host}`]);
    }
  }
});

t.test('the server that answered last is asked first', async (t) => {
  const refusing = await startDnsServer(() => 'REFUSED');
  const good = await startDnsServer(({ type }) => (type === 'A' ? A : null));
  t.teardown(() => Promise.all([refusing.close(), good.close()]));
  const lookup = dnsLookup([refusing.address, good.address]);
  for (let count = 0; count < 3; count += 1) t.same((await lookup('eco.test')).addresses, ['192.0.2.1']);
  t.equal(refusing.questions.length, 2);
});

t.test('with the system, the hosts file comes first, and its servers may change', async (t) => {
  const hosts = readHosts('# comment\n192.0.2.9\tEco.Example. alias # more\r\n2001:db8::9 eco.example\n192.0.2.8 eco.example\nnonsense eco.example\nfe80::1%eth0 eco.example\n\n192.0.2.9 alias');
  t.same([...hosts], [['eco.example', ['192.0.2.9', '2001:db8::9', '192.0.2.8']], ['alias', ['192.0.2.9']]]);
  let servers = [first.address];
  const lookup = createSystemLookup({ servers: () => servers, findInHosts: (host) => hosts.get(host) ?? [] });
  t.same(await lookup('eco.example'), { addresses: ['192.0.2.9', '192.0.2.8', '2001:db8::9'], ttl: null });
  t.equal(await resolve(lookup, 'other.example'), 'name-not-found');
  const other = await startDnsServer(({ type }) => (type === 'A' ? A : null));
  t.teardown(() => other.close());
  servers = [other.address];
  t.same((await lookup('other.example')).addresses, ['192.0.2.1']);
});

const NAMESPACES = spawnSync('unshare', ['-rmn', 'true']).status === 0 ? false : 'needs unshare(1) and user namespaces';

t.test('in a pod with search domains and ndots:5, a wildcard in one of them and silence in another', { skip: NAMESPACES }, async (t) => {
  const child = spawnSync('unshare', ['-rmn', process.execPath, fileURLToPath(new URL('../support/pod-names.ts', import.meta.url)), t.testdir()], { encoding: 'utf8' });
  t.equal(child.stderr, '');
  t.same(JSON.parse(child.stdout), {
    'eco.partner.test': ['192.0.2.1'],
    'absent.partner.test': 'ENOTFOUND',
    'in-hosts.partner.test': ['192.0.2.7'],
    questions: ['A absent.partner.test', 'A eco.partner.test', 'AAAA absent.partner.test', 'AAAA eco.partner.test'],
  });
});

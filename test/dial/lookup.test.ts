import t from 'tap';
import { createSystemLookup, dnsLookup, systemLookup } from '../../src/dial/lookup.ts';
import { createResolver } from '../../src/dial/resolver.ts';
import { startDnsServer } from '../support/dns-server.ts';
import type { DnsReply } from '../support/dns-server.ts';

/** Name → what A and AAAA are answered with. */
const zone: Record<string, readonly [a: DnsReply, aaaa: DnsReply]> = {
  'both.test': [{ addresses: ['192.0.2.1', '192.0.2.2'], ttl: 60 }, { addresses: ['2001:db8::1'], ttl: 7 }],
  'four.test': [{ addresses: ['192.0.2.1'], ttl: 60 }, null],
  'six.test': [null, { addresses: ['2001:db8::1'], ttl: 60 }],
  'silent-six.test': [{ addresses: ['192.0.2.1'], ttl: 60 }, 'silent'],
  'silent-four.test': ['silent', { addresses: ['2001:db8::1'], ttl: 60 }],
  'broken-six.test': [{ addresses: ['192.0.2.1'], ttl: 60 }, 'SERVFAIL'],
  'broken-four.test': ['SERVFAIL', { addresses: ['2001:db8::1'], ttl: 60 }],
  'empty.test': [null, null],
  'half-broken.test': ['SERVFAIL', null],
  'broken.test': ['SERVFAIL', 'SERVFAIL'],
};

let turn = 0;
const server = await startDnsServer(({ name, type }) => {
  if (name === 'turning.test') return type === 'A' ? { addresses: [`192.0.2.${++turn}`], ttl: 3_600 } : null;
  return zone[name]?.[type === 'A' ? 0 : 1] ?? (name in zone ? null : 'NXDOMAIN');
});
t.teardown(() => server.close());
const lookup = dnsLookup([server.address]);

t.test('answers', async (t) => {
  for (const [host, answer] of [
    ['both.test', { addresses: ['192.0.2.1', '192.0.2.2', '2001:db8::1'], ttl: 7_000 }],
    ['four.test', { addresses: ['192.0.2.1'], ttl: 60_000 }],
    ['six.test', { addresses: ['2001:db8::1'], ttl: 60_000 }],
    // The other family may have addresses all the same: soon asked again, at once for IPv4.
    ['silent-six.test', { addresses: ['192.0.2.1'], ttl: 30_000, open: 6 }],
    ['silent-four.test', { addresses: ['2001:db8::1'], ttl: 0, open: 4 }],
    ['broken-six.test', { addresses: ['192.0.2.1'], ttl: 30_000, open: 6 }],
    ['broken-four.test', { addresses: ['2001:db8::1'], ttl: 0, open: 4 }],
  ] as const) t.same(await lookup(host), answer, host);
});

t.test('failures', async (t) => {
  for (const [host, code] of [
    ['absent.test', 'ENOTFOUND'],
    ['empty.test', 'ENODATA'],
    ['half-broken.test', 'ESERVFAIL'],
    ['broken.test', 'ESERVFAIL'],
  ] as const) await t.rejects(lookup(host), { code }, host);
});

t.test('every look-up asks: caching is not done here', async (t) => {
  t.same((await lookup('turning.test')).addresses, ['192.0.2.1']);
  t.same((await lookup('turning.test')).addresses, ['192.0.2.2']);
});

t.test('the next server is asked when the first is not there', async (t) => {
  const gone = await startDnsServer(() => null);
  await gone.close();
  t.same((await dnsLookup([gone.address, server.address])('four.test')).addresses, ['192.0.2.1']);
});

t.test('a malformed answer about one name fails no other that is looked up at the same time', async (t) => {
  const odd = await startDnsServer(({ name, type }) => (name === 'odd.test' ? 'garbage' : (zone[name]?.[type === 'A' ? 0 : 1] ?? null)));
  t.teardown(() => odd.close());
  const ask = dnsLookup([odd.address]);
  const [bad, good] = await Promise.allSettled([ask('odd.test'), ask('both.test')]);
  t.match(bad, { status: 'rejected', reason: { code: 'EBADRESP' } });
  t.match(good, { status: 'fulfilled', value: { addresses: ['192.0.2.1', '192.0.2.2', '2001:db8::1'] } });
});

t.test('a failure names each server that was asked, and why it could not tell', async (t) => {
  const gone = await startDnsServer(() => null);
  await gone.close();
  await t.rejects(dnsLookup([server.address, gone.address])('broken.test'), { code: 'ECONNREFUSED', message: `${server.address}: SERVFAIL, ${gone.address}: connection refused` });
  const resolver = createResolver({ lookup: dnsLookup([server.address]), dns: { ttl: 1, staleFor: 0 }, timeout: 5_000 });
  await t.rejects(resolver.resolve('broken.test'), { code: 'resolver-failed', message: `broken.test: the look-up failed (${server.address}: SERVFAIL)`, facts: { rcode: 'SERVFAIL' } });
  await t.rejects(resolver.resolve('absent.test'), { code: 'name-not-found', message: 'absent.test: DNS has no address for this name (NXDOMAIN)', facts: { rcode: 'NXDOMAIN' } });
  await t.rejects(resolver.resolve('empty.test'), { code: 'name-not-found', message: 'empty.test: DNS has no address for this name (NOERROR)', facts: { rcode: 'NOERROR' } });
});

t.test('a time limit names the servers that kept silent', async (t) => {
  const silent = await startDnsServer(() => 'silent');
  t.teardown(() => silent.close());
  const servers = [silent.address, '127.0.0.1:9'];
  for (const lookup of [dnsLookup(servers), createSystemLookup({ servers: () => servers, findInHosts: () => [] })]) {
    const resolver = createResolver({ lookup, dns: { ttl: 1, staleFor: 0 }, timeout: 50 });
    await t.rejects(resolver.resolve('slow.test'), { code: 'resolver-timeout', message: `slow.test: no answer in 50 ms from ${servers.join(' or ')}` });
  }
});

t.test('a server that is still looking is asked again until the time is over, and one that fails is not', async (t) => {
  const asked = new Map<string, number>();
  const slow = await startDnsServer(({ name, type }) => {
    const times = (asked.get(`${name} ${type}`) ?? 0) + 1;
    asked.set(`${name} ${type}`, times);
    if (name === 'refused.test') return 'REFUSED';
    return times < 3 ? 'silent' : type === 'A' ? { addresses: ['192.0.2.1'], ttl: 1 } : null;
  });
  t.teardown(() => slow.close());
  const ask = dnsLookup([slow.address]);
  await t.rejects(ask('three.test'), { code: 'ETIMEOUT', message: /^\S+:\d+: no answer/ }, 'two rounds');
  t.equal(asked.get('three.test A'), 2);
  t.same((await ask('third.test', 60_000)).addresses, ['192.0.2.1']);
  await t.rejects(ask('refused.test', 60_000), { code: 'EREFUSED' });
  t.equal(asked.get('refused.test A'), 2);
});

t.test('a server that has always been slow, and then is silent, gets no longer than others: a second', async (t) => {
  const slow = await startDnsServer(({ name, type }) => (name === 'lost.test' ? 'silent' : type === 'A' ? { addresses: ['192.0.2.1'], ttl: 60 } : null), { host: '127.0.0.1', port: 0 }, 600);
  const other = await startDnsServer(({ type }) => (type === 'A' ? { addresses: ['192.0.2.2'], ttl: 60 } : null));
  t.teardown(() => Promise.all([slow.close(), other.close()]));
  const resolver = createResolver({ lookup: dnsLookup([slow.address, other.address]), dns: { ttl: 60_000, staleFor: 0 }, timeout: 1_900 });
  for (const addresses of await Promise.all(['a.test', 'b.test', 'c.test'].map((host) => resolver.resolve(host)))) t.same(addresses, ['192.0.2.1']);
  t.same(await resolver.resolve('lost.test'), ['192.0.2.2'], 'the next one is asked before the time is over');
});

t.test('a question for A that was lost is asked again before AAAA counts alone', async (t) => {
  let asked = 0;
  const lossy = await startDnsServer(({ type }) => {
    if (type === 'AAAA') return { addresses: ['2001:db8::1'], ttl: 3_600 };
    asked += 1;
    return asked === 1 ? 'silent' : { addresses: ['192.0.2.1'], ttl: 3_600 };
  });
  t.teardown(() => lossy.close());
  t.same(await dnsLookup([lossy.address])('both.test'), { addresses: ['192.0.2.1', '2001:db8::1'], ttl: 3_600_000 });
});

t.test('an alias without an address in one family does not cut the wait for the other short', async (t) => {
  for (const [empty, address] of [['A', '2001:db8::1'], ['AAAA', '192.0.2.1']] as const) {
    let asked = 0;
    const lossy = await startDnsServer(({ type }) => {
      if (type === empty) return { addresses: [], ttl: 60, cnames: ['other.test'] };
      asked += 1;
      return asked < 3 ? 'silent' : { addresses: [address], ttl: 60, cnames: ['other.test'] };
    });
    t.teardown(() => lossy.close());
    t.same(await dnsLookup([lossy.address])('alias.test', 60_000), { addresses: [address], ttl: 60_000 }, empty);
  }
});

t.test('a server is an address', async (t) => {
  t.throws(() => dnsLookup(['dns.example']), { code: 'ERR_INVALID_IP_ADDRESS' });
});

t.test('the system knows localhost, and not how long for', async (t) => {
  const answer = await systemLookup('localhost');
  t.ok(answer.addresses.every((address) => address === '127.0.0.1' || address === '::1'));
  t.ok(answer.addresses.length > 0);
  t.equal(answer.ttl, null);
});

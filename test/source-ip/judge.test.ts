/** What was seen against what is expected, and what the causes of silence and of wrong addresses are taken for. */
import t from 'tap';
import { findCauses } from '../../src/source-ip/verify.ts';
import { checkSeenAddress, judgeSilence, remarkOn } from '../../src/source-ip/judge.ts';

t.test('addresses are compared, not their spelling', async (t) => {
  for (const [seen, expected, result] of [
    ['34.123.45.67', ['34.123.45.67'], 'match'],
    ['34.123.45.68', ['34.123.45.67'], 'mismatch'],
    ['34.123.45.68', ['34.123.45.67', '34.123.45.68'], 'match'],
    ['2001:db8::1', ['2001:0DB8::0:1'], 'match'],
    ['2001:db8::1:1', ['2001:db8::1'], 'mismatch'],
    ['34.123.45.67', ['::ffff:34.123.45.67'], 'match'],
    ['34.123.45.67', [], 'unjudged'],
  ] as const) {
    t.equal(checkSeenAddress(seen, expected), result, `${seen} of ${expected.join()}`);
  }
});

t.test('a private address deserves a word', async (t) => {
  t.equal(remarkOn('34.123.45.67'), null);
  for (const address of ['10.0.0.1', '100.64.0.1', 'fd00::1', '127.0.0.1']) t.match(remarkOn(address), /^[\w.:]+ is not a public address \(/, address);
});

t.test('silence', async (t) => {
  const ample = { used: 10, limit: 100 };
  for (const [source, ports, cause] of [
    ['match', ample, 'whitelist'],
    ['match', { used: 60_000, limit: null }, 'whitelist'],
    ['match', { used: 89, limit: 100 }, 'whitelist'],
    ['match', { used: 90, limit: 100 }, 'nat-ports'],
    ['mismatch', ample, 'source-address'],
    ['mismatch', { used: 100, limit: 100 }, 'source-address'],
    ['unknown', ample, 'way-out'],
    ['unknown', { used: 100, limit: 100 }, 'nat-ports'],
    ['pending', ample, null],
    ['unjudged', ample, 'unproven'],
    ['off', ample, 'unproven'],
    ['off', { used: 100, limit: 100 }, 'nat-ports'],
  ] as const) {
    t.equal(judgeSilence({ source, ports, stale: false }), cause, `${source} ${ports.used}/${String(ports.limit)}`);
  }
  for (const [source, cause] of [['match', 'stale-name'], ['unknown', 'stale-name'], ['pending', 'stale-name'], ['off', 'stale-name'], ['mismatch', 'source-address']] as const) {
    t.equal(judgeSilence({ source, ports: ample, stale: true }), cause, `${source}, while the resolver fails`);
  }
});

t.test('likely causes', async (t) => {
  const expected = ['34.123.45.67'];
  for (const [what, evidence, causes] of [
    ['all is well', { seen: ['34.123.45.67'] }, []],
    ['another public address', { seen: ['35.1.2.3'] }, [/AUTO_ONLY/, /LoadBalancer/, /external addresses/]],
    ['addresses that take turns', { seen: ['34.123.45.67', '35.1.2.3'] }, [/take turns/, /LoadBalancer/, /external addresses/]],
    ['a private address', { seen: ['10.8.0.1'] }, [/private address/]],
    ["a hop's address", { seen: ['35.1.2.3'], via: ['activegateway'] }, [/last hop/, /AUTO_ONLY/, /LoadBalancer/, /external/]],
    ['nothing expected', { expected: [], seen: ['35.1.2.3'] }, [/nothing is expected/]],
    ['no name', { codes: ['name-not-found'] }, [/does not resolve/]],
    ['no way', { codes: ['connect-timeout'] }, [/nothing comes back/]],
    ['not dialled', { codes: ['address-not-allowed'] }, [/not dialled/]],
    ['the proxy itself, which no range permits', { codes: ['loop'] }, [/this proxy itself/]],
    ['no echo', { codes: ['upstream-malformed'] }, [/does not answer as an echo/]],
    ['no TLS', { codes: ['tls-certificate'] }, [/TLS with the endpoint fails/]],
    ['refused', { codes: ['connection-refused'] }, [/nothing listens/]],
    ['the private address that is expected, and then no answer', { expected: ['10.40.0.1'], seen: ['10.40.0.1'], codes: ['connect-timeout'] }, [/nothing comes back/]],
    ['two that are expected, and then no answer', { expected: ['34.123.45.67', '34.123.45.68'], seen: ['34.123.45.68', '34.123.45.67'], codes: ['connect-timeout'] }, [/nothing comes back/]],
    ['a hop refuses', { codes: ['hop-refused'], via: ['activegateway'] }, [/hop on the way/]],
  ] as const) {
    const found = findCauses({ expected, seen: [], via: [], codes: [], ...evidence });
    t.equal(found.length, causes.length, what);
    for (const [index, cause] of causes.entries()) t.match(found[index], { cause, check: /\w/ }, what);
  }
});

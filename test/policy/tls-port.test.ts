/** The port that raw TLS is for, of which only the host is known. */
import t from 'tap';
import { compilePolicy } from '../../src/policy/compile.ts';
import { makeDestination } from '../support/policy.ts';

t.test('443 where it is listed, else the first port of the first destination', async (t) => {
  const policy = compilePolicy({
    mode: 'enforce',
    clients: [],
    rules: [],
    destinations: [
      makeDestination('both', ['both.example'], { ports: [80, 8443, 443] }),
      makeDestination('other', ['other.example'], { ports: [9443, 8443] }),
      makeDestination('wide', ['*.wide.example'], { ports: [443] }),
      makeDestination('exact', ['a.wide.example'], { ports: [9443] }),
      makeDestination('closed', ['closed.example'], { ports: [443], forms: ['connect'] }),
      makeDestination('open', ['closed.example'], { ports: [9443] }),
      makeDestination('never', ['never.example'], { ports: [8080, 80], forms: ['forward'] }),
    ],
  });
  for (const [host, port, why] of [
    ['both.example', 443, 'wherever it stands'],
    ['other.example', 9443, 'the first'],
    ['b.wide.example', 443, 'a wildcard'],
    ['a.wide.example', 443, 'a less exact destination that lists 443'],
    ['closed.example', 9443, 'of those that take the form'],
    ['never.example', 8080, 'so that the form is what is blamed'],
    ['unknown.example', 443, 'what a client means'],
  ] as const) {
    t.equal(policy.tlsPort(host), port, `${host}: ${why}`);
  }
});

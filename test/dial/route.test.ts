/** The routing table tells our own address, and nothing is sent for it. */
import t from 'tap';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { findLocalAddress } from '../../src/doctor/examination.ts';

t.test('our own address towards a place', async (t) => {
  const server = createSocket('udp4');
  let packets = 0;
  server.on('message', () => (packets += 1));
  server.bind(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  t.equal(await findLocalAddress('127.0.0.1', server.address().port), '127.0.0.1');
  t.equal(packets, 0);
});

t.test('a place to which no route leads', async (t) => {
  // A link-local address means nothing without its link, with IPv6 or without.
  await t.rejects(findLocalAddress('fe80::1', 443), { code: 'unreachable', message: /^\[fe80::1\]:443: E/ });
});

/** docs/peers.md: its example loads, and its table of X-Forwarded-For is what the code does. */
import t from 'tap';
import { Fault } from '../../src/errors.ts';
import { createPeerReader } from '../../src/listeners/trusted-peers.ts';
import { readDocBlocks } from '../support/doc-blocks.ts';
import { readDocRows } from '../support/doc-table.ts';
import { configOf, MINIMAL } from '../support/load-text.ts';

const PAGE = 'docs/peers.md';

t.test('the example', async (t) => {
  const [block] = readDocBlocks(PAGE).filter(({ language }) => language === 'yaml');
  const { listeners } = configOf(`${MINIMAL}${block?.text ?? ''}`);
  t.match(listeners.http, [
    { trustedPeers: ['10.9.0.0/24'], proxyProtocol: 'from-trusted', believe: { length: 0 } },
    { trustedPeers: ['127.0.0.6/32'], proxyProtocol: 'off', believe: { length: 1, 0: 'x-forwarded-client-cert' } },
  ]);
});

t.test("the example of a partner that gets the client's address", async (t) => {
  const [, block] = readDocBlocks(PAGE).filter(({ language }) => language === 'yaml');
  t.match(configOf(`version: 1\n${block?.text ?? ''}`).destinations, [{ name: 'eco-sit', proxyProtocol: 'v2' }]);
});

t.test('the table of X-Forwarded-For', async (t) => {
  const reader = createPeerReader({ trustedPeers: ['10.9.0.0/24'], believe: ['x-forwarded-for'] });
  const rows = readDocRows(PAGE).filter(([sent = '']) => sent.startsWith('X-Forwarded-For: '));
  t.equal(rows.length, 6);
  for (const [sent = '', outcome = ''] of rows) {
    const fields = sent.split(' and again ').flatMap((field) => field.split(': '));
    const peer = reader.read({ address: '10.9.0.7', port: 56324, sans: [] }, fields);
    if (peer instanceof Fault) t.match(outcome, `No client: 400 ${peer.code}`, sent);
    else t.equal(outcome.split(':')[0], peer.address, sent);
  }
});

/** What the system counts of segments that are sent again. */
import t from 'tap';
import { readSentSegments, sentBetween } from '../../src/incident/retransmits.ts';

const FILES: Readonly<Record<string, string>> = {
  '/proc/net/snmp': 'Ip: Forwarding\nIp: 1\nTcp: RtoMin OutSegs RetransSegs\nTcp: 200 1000 30\nUdp: OutDatagrams\nUdp: 7\n',
  '/proc/net/netstat': 'TcpExt: SyncookiesSent TCPSynRetrans\nTcpExt: 0 10\nIpExt: InOctets\nIpExt: 7\n',
};

t.test('first packets of connections are counted apart', async (t) => {
  t.strictSame(readSentSegments((file) => FILES[file] ?? ''), { sent: 1000, again: 20, synAgain: 10 });
});

t.test('a system that does not tell', async (t) => {
  t.equal(readSentSegments(() => 'Tcp: Other\nTcp: 1\n'), null);
  t.equal(readSentSegments(() => { throw new Error('ENOENT'); }), null);
});

t.test('between two readings', async (t) => {
  t.strictSame(sentBetween({ sent: 10, again: 1, synAgain: 0 }, { sent: 30, again: 4, synAgain: 2 }), { sent: 20, again: 3, synAgain: 2 });
  t.equal(sentBetween(null, { sent: 30, again: 4, synAgain: 2 }), null);
});

import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { syncBuiltinESMExports } from 'node:module';
import os, { networkInterfaces } from 'node:os';
import t from 'tap';
import { createSelfCheck } from '../../src/listeners/self.ts';
import { listen } from '../support/listen.ts';

t.test('a listener on one address is that address and port only', async (t) => {
  const self = createSelfCheck();
  self.add({ address: '127.0.0.1', family: 'IPv4', port: 3128 });
  t.ok(self.isSelf('127.0.0.1', 3128));
  t.notOk(self.isSelf('127.0.0.1', 3129), 'the next port');
  t.notOk(self.isSelf('127.0.0.2', 3128), 'the next address');
  for (const unspecified of ['0.0.0.0', '::']) {
    t.ok(self.isSelf(unspecified, 3128), `${unspecified} is dialled as loopback`);
    t.notOk(self.isSelf(unspecified, 3129));
  }
});

t.test('a listener on every address is this host by all its names', async (t) => {
  for (const address of ['0.0.0.0', '::']) {
    const self = createSelfCheck();
    self.add({ address, family: address === '::' ? 'IPv6' : 'IPv4', port: 8080 });
    const own = Object.values(networkInterfaces()).flatMap((entries) => (entries ?? []).map((entry) => entry.address));
    for (const known of [...own, '127.0.0.1', '127.9.9.9', '0.0.0.0', '::1', '::']) {
      t.ok(self.isSelf(known, 8080), `${known} for ${address}`);
      t.notOk(self.isSelf(known, 8081), `${known} on another port`);
    }
    for (const other of ['128.0.0.1', '192.0.2.1', '2001:db8::1', '::2']) t.notOk(self.isSelf(other, 8080), other);
  }
});

t.test('addresses that this host gets and loses later', async (t) => {
  const self = createSelfCheck();
  self.add({ address: '0.0.0.0', family: 'IPv4', port: 8080 });
  t.notOk(self.isSelf('192.0.2.7', 8080));
  const restore = t.capture(os, 'networkInterfaces', () => ({ eth9: [{ address: '192.0.2.7', netmask: '255.255.255.0', family: 'IPv4' as const, mac: '00:00:00:00:00:00', internal: false, cidr: '192.0.2.7/24' }] })).restore;
  syncBuiltinESMExports();
  t.ok(self.isSelf('192.0.2.7', 8080), 'it has come');
  restore();
  syncBuiltinESMExports();
  t.notOk(self.isSelf('192.0.2.7', 8080), 'it has gone');
});

t.test('a connection with the same address at both ends, on a port that every address has, is ours', async (t) => {
  const server = createServer((socket) => socket.destroy());
  const port = await listen(t, server, '0.0.0.0');
  const open = async (host: string): Promise<Socket> => {
    const socket = connect({ host, port });
    t.teardown(() => socket.destroy());
    await once(socket, 'connect');
    return socket;
  };
  const socket = await open('127.0.0.1');
  const self = createSelfCheck();
  t.notOk(self.isOurs(socket, port), 'we do not listen there');
  self.add({ address: '127.0.0.1', family: 'IPv4', port });
  t.notOk(self.isOurs(socket, port), 'a listener on one address is known before dialling');
  self.add({ address: '0.0.0.0', family: 'IPv4', port });
  t.ok(self.isOurs(socket, port));
  t.notOk(self.isOurs({ localAddress: '10.0.0.5', remoteAddress: '10.0.0.6' }, port), 'another host');
  t.notOk(self.isOurs({ localAddress: '10.0.0.5', remoteAddress: '10.0.0.5' }, port + 1), 'another port');
  socket.destroy();
  await once(socket, 'close');
  t.notOk(self.isOurs(socket, port), 'gone already');
});

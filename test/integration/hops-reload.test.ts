/** Hops and what a policy may change while they are in use: reloads, report mode, the address that was judged. */
import t, { type Test } from 'tap';
import { ask } from '../support/ask.ts';
import { local, startHopLab } from '../support/hop-lab.ts';
import { startParent } from '../support/parents.ts';
import type { TlsLab } from '../support/tls-lab.ts';
import { openWire, type Wire } from '../support/wire.ts';
import { ECO } from '../support/lab.ts';

async function openTunnel(t: Test, lab: TlsLab): Promise<Wire> {
  const authority = `${ECO}:${lab.upstream.httpPort}`;
  const wire = await openWire(t, lab.port);
  wire.send(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  await wire.until(/^HTTP\/1\.1 200 [^]*\r\n\r\n/);
  return wire;
}

async function isOpen(wire: Wire): Promise<boolean> {
  if (wire.socket.destroyed) return false;
  const path = `/still/${wire.heard.length}`;
  wire.send(`GET ${path} HTTP/1.1\r\nHost: eco\r\n\r\n`);
  return wire.until(`"url":"${path}"`).then(
    () => true,
    () => false,
  );
}

t.test('a change of the hop: new connections go the new way, tunnels stay', async (t) => {
  const [one, other] = [await startParent(t), await startParent(t)];
  const lab = await startHopLab(t, { hops: { edge: { url: `http://one.test:${one.port}` } } });
  t.equal((await ask(lab, 'gateway')).status, 200);
  const tunnel = await openTunnel(t, lab);
  t.equal(one.taken, 2);

  await lab.reload(() => {});
  t.equal((await ask(lab, 'gateway')).status, 200);
  t.equal(one.taken, 2, 'unchanged: the pooled connection is used again');

  const { result } = await lab.reload((draft) => {
    draft.hops = { edge: { ...local(), url: `http://other.test:${other.port}` } };
  });
  t.equal(result, 'applied');
  t.equal((await ask(lab, 'gateway')).status, 200);
  t.strictSame([one.taken, other.taken], [2, 1]);
  t.ok(await isOpen(tunnel));

  await lab.reload((draft) => Object.assign(draft.destinations.eco, { via: undefined }));
  t.equal((await ask(lab, 'gateway')).status, 200);
  t.strictSame([one.taken, other.taken], [2, 1], 'no parent at all');
  t.ok(await isOpen(tunnel));

  t.equal((await lab.reload((draft) => draft.rules.pop())).result, 'applied');
  await tunnel.ended;
  t.match(await lab.logged((line) => line.code === 'revoked'), { form: 'connect', status: 200 });
});

t.test('who resolves the name: what was judged is judged again, what never was has to be', async (t) => {
  const parent = await startParent(t);
  const lab = await startHopLab(t, { hops: { edge: { url: `http://one.test:${parent.port}` } } });
  const here = await openTunnel(t, lab);
  const byParent = (draft: Parameters<Parameters<TlsLab['reload']>[0]>[0]): object => Object.assign(draft.destinations.eco, { resolve: 'parent', addresses: undefined });

  t.equal((await lab.reload(byParent)).result, 'applied');
  t.ok(await isOpen(here), 'the new terms would judge no address');
  const theirs = await openTunnel(t, lab);
  t.equal(parent.asked.at(-1), `${ECO}:${lab.upstream.httpPort}`);

  t.equal((await lab.reload(byParent)).result, 'applied');
  t.ok(await isOpen(theirs));

  t.equal((await lab.reload(() => {})).result, 'applied');
  await theirs.ended;
  t.match(await lab.logged((line) => line.code === 'revoked'), { upstreamAddress: '-', detail: /the address was chosen by a parent, and has to be checked here now/ });
  t.ok(await isOpen(here), 'judged, and permitted still');

  t.equal((await lab.reload((draft) => Object.assign(draft.destinations.eco, { addresses: ['127.0.0.2/32'] }))).result, 'applied');
  await here.ended;
  t.match(await lab.logged((line) => line.code === 'revoked' && line['upstreamAddress'] === '127.0.0.1'), { form: 'connect' });
});

t.test('report mode is about the partner’s address, not about the parent’s', async (t) => {
  const parent = await startParent(t);
  const url = `http://one.test:${parent.port}`;
  const lookup = async (host: string): Promise<{ addresses: string[]; ttl: null }> => ({ addresses: host === ECO ? ['8.8.8.8'] : ['127.0.0.1'], ttl: null });
  const refuse = (): string => 'HTTP/1.1 502 Bad Gateway\r\n\r\n';
  const blind = await startParent(t, { refuse });
  const lab = await startHopLab(t, { hops: { edge: { url: `http://one.test:${blind.port}` } }, lookup, configure: (draft) => Object.assign(draft, { mode: 'report' }) });
  t.match(await ask(lab, 'gateway'), { status: 502, text: /"code":"hop-upstream-failed"/ });
  t.strictSame(blind.asked, [`8.8.8.8:${lab.upstream.httpsPort}`], 'outside the ranges, and asked for all the same');

  await lab.reload((draft) => {
    draft.hops = { edge: { url } };
  });
  t.match(await ask(lab, 'gateway'), { status: 502, text: /127\.0\.0\.1 \(loopback.*"code":"hop-failed"/ });
  t.equal(parent.taken, 0);
});

t.test('which parents failed is known after a reload', async (t) => {
  const bad = await startParent(t, { refuse: () => 'HTTP/1.1 503 no\r\n\r\n' });
  const good = await startParent(t);
  const lab = await startHopLab(t, { hops: { edge: { url: [`http://bad.test:${bad.port}`, `http://good.test:${good.port}`] } } });
  (await openTunnel(t, lab)).socket.destroy();
  t.equal(bad.taken, 1);
  await lab.reload((draft) => Object.assign(draft.timeouts, { connect: '4s' }));
  (await openTunnel(t, lab)).socket.destroy();
  t.equal(bad.taken, 1, 'passed over, by another dialler');
  const told = lab.log.filter(({ msg }) => msg === 'a parent proxy failed, and is tried after the others for now');
  t.match(told, [{ level: 'warn', parent: `hop edge (bad.test:${bad.port})`, forMs: 30_000, reason: /503 no/ }]);
});

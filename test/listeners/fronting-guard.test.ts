/** The guard of one tunnel by itself: what it says of each first bytes, in each mode. A whole proxy with it is in test/integration/fronting.test.ts. */
import t from 'tap';
import type { Permit } from '../../src/egress.ts';
import { Fault } from '../../src/errors.ts';
import { createFrontingGuard, createSteeringGuard, type GuardedRequest } from '../../src/listeners/fronting-guard.ts';
import type { Opening } from '../../src/relay/tunnel.ts';
import { AccessRecord } from '../../src/telemetry/access-record.ts';
import { ech, hello, serverName } from '../support/hello.ts';

const HOST = 'eco-sit.telus.internal';
const OWN = hello({ extensions: [serverName(HOST)] });
const TERMS = { timeouts: { tls: 1000 } };

interface Bench {
  readonly record: AccessRecord;
  readonly permit: Permit;
  readonly request: GuardedRequest;
}

function bench(tunnelSni: 'require' | 'report' | 'off', { lenient = false, host = HOST, loop = null as Fault | null } = {}): Bench {
  const record = new AccessRecord('id', 0, '10.8.1.4');
  Object.assign(record, { host, form: 'connect', verdict: 'allow' });
  // As much of a permit as the guard looks at.
  const permit = { destination: { tunnelSni }, verdict: { verdict: 'allow', lenient } } as unknown as Permit;
  return { record, permit, request: { record, enterHello: () => loop } };
}

/** What is said of the first bytes of a client. */
function said(guard: Opening | null, bytes: Buffer): string {
  const answer = guard?.read(bytes) ?? 'no guard';
  return typeof answer === 'object' ? answer.fault.code : answer;
}

const OTHERS: readonly (readonly [what: string, bytes: Buffer])[] = [
  ['another name', hello({ extensions: [serverName('evil.example')] })],
  ['a name below', hello({ extensions: [serverName(`a.${HOST}`)] })],
  ['another name, and ECH', hello({ extensions: [serverName('evil.example'), ech] })],
  ['no name', hello()],
  ['two names', hello({ extensions: [serverName(HOST, 'evil.example')] })],
  ['no TLS', Buffer.from('GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n')],
];

t.test('the name that was permitted passes, and no other', async (t) => {
  for (const mode of ['require', 'report'] as const) {
    const { request, permit, record } = bench(mode);
    t.equal(said(createFrontingGuard(request, permit, TERMS), OWN), 'pass', mode);
    t.match(record, { verdict: 'allow', wouldDeny: '' }, mode);
  }
  for (const [what, bytes] of OTHERS) {
    const required = bench('require');
    t.equal(said(createFrontingGuard(required.request, required.permit, TERMS), bytes), 'sni-mismatch', what);
    t.equal(required.record.verdict, 'deny', what);
    const lenient = bench('require', { lenient: true });
    t.equal(said(createFrontingGuard(lenient.request, lenient.permit, TERMS), bytes), 'pass', `${what}, in report mode`);
    t.match(lenient.record, { verdict: 'report', wouldDeny: 'sni-mismatch' }, `${what}, in report mode`);
    const reported = bench('report');
    t.equal(said(createFrontingGuard(reported.request, reported.permit, TERMS), bytes), 'pass', `${what}, reported`);
    // Plain text in a tunnel is usual enough where TLS is not required.
    t.equal(reported.record.wouldDeny, what === 'no TLS' ? '' : 'sni-mismatch', `${what}, reported`);
  }
});

t.test('steered TLS is held to its name, whatever the destination says of tunnels', async (t) => {
  for (const [what, bytes] of OTHERS) {
    const { request, permit } = bench('off');
    t.equal(said(createSteeringGuard(request, permit, TERMS), bytes), 'sni-mismatch', what);
  }
});

t.test('half a hello waits where it is required, and its tunnel ends where no more comes', async (t) => {
  const required = bench('require');
  const guard = createFrontingGuard(required.request, required.permit, TERMS);
  t.equal(said(guard, OWN.subarray(0, 20)), 'hold');
  t.equal(guard?.giveUp('ended').fault.code, 'sni-mismatch');
  const reported = bench('report');
  t.equal(said(createFrontingGuard(reported.request, reported.permit, TERMS), OWN.subarray(0, 20)), 'pass');
});

t.test('there is no guard where nothing can be compared', async (t) => {
  for (const { request, permit } of [bench('off'), bench('require', { host: '192.0.2.1' }), bench('require', { host: '2001:db8::1' })]) t.equal(createFrontingGuard(request, permit, TERMS), null);
});

t.test('a hello that is on its way through the proxy already is a loop', async (t) => {
  const { request, permit } = bench('require', { loop: new Fault('loop', 'again') });
  t.equal(said(createFrontingGuard(request, permit, TERMS), OWN), 'loop');
});

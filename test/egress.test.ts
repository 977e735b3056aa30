/** The one door: what report mode lets it dial, and what nothing makes it dial. */
import t from 'tap';
import { Socket } from 'node:net';
import type { Dialler } from '../src/dial/dial.ts';
import { Egress, type Permit } from '../src/egress.ts';
import { Fault } from '../src/errors.ts';
import { compilePolicy, type PolicyConfig } from '../src/policy/compile.ts';
import { AccessRecord } from '../src/telemetry/access-record.ts';
import { configOf, MINIMAL } from './support/load-text.ts';
import { makeAsk, makeClient, makeDestination, makeRule } from './support/policy.ts';

const ECO = 'eco-sit.telus.internal';
const base: PolicyConfig = {
  mode: 'enforce',
  clients: [makeClient('sit', { addresses: ['10.8.0.0/14'] })],
  destinations: [makeDestination('eco', [ECO], { addresses: ['10.40.0.0/16'] })],
  rules: [makeRule(['sit'], ['eco'])],
};

/** A door whose resolver gives these addresses, and whose dialler connects to none of them. */
function openDoor(changes: Partial<PolicyConfig>, addresses: readonly string[], remember: () => void = () => {}) {
  const policy = { ...base, ...changes };
  const { limits, timeouts } = configOf(MINIMAL);
  const dialler: Dialler = {
    dial: (_target, guard) => {
      const refusals = addresses.map((address) => guard(address, 443));
      const address = addresses.find((_, index) => refusals[index] === null);
      const socket = new Socket();
      return address === undefined ? Promise.reject(refusals[0] ?? new Error('no address')) : Promise.resolve({ socket, address, via: '', peer: { address, port: 443 }, dnsMs: 0, tcpMs: 0, tlsMs: -1, hopMs: -1, attempts: 1 });
    },
    resolve: () => Promise.resolve(addresses),
    untroubled: true,
    refusal: () => null,
  };
  const silent = (): void => {};
  const telemetry = {
    ended: silent,
    tunnelOpened: silent,
    tunnelAnswered: silent,
    upstreamConnected: silent,
    upstreamReached: silent,
    upstreamFailed: silent,
    upstreamPooled: silent,
    clientConnections: silent,
    adminRefused: silent,
    descriptorsRefused: silent,
    policyChanged: silent,
    policyReloaded: silent,
    parentReached: silent,
    sourceAsked: silent,
    sourceProbed: silent,
    whitelistSuspected: silent,
    enforcementTested: silent,
    admitted: silent,
    notice: silent,
  };
  return new Egress({
    config: { destinations: policy.destinations, limits, timeouts },
    policy: compilePolicy(policy),
    dialler,
    telemetry,
    remember,
    isSelf: (address) => address === '8.8.4.4',
  });
}

async function dialled(changes: Partial<PolicyConfig>, addresses: readonly string[], host = ECO): Promise<AccessRecord> {
  const door = openDoor(changes, addresses);
  const record = new AccessRecord('id', 0, '10.8.1.4');
  try {
    const permit = door.admit(makeAsk({ host }), 'tunnels', record);
    (await door.openTunnel(permit, 0, record, new AbortController().signal)).destroy();
    permit.release();
  } catch (error) {
    record.code = Fault.from(error).code;
  }
  return record;
}

const reportDestination: Partial<PolicyConfig> = { destinations: base.destinations.map((destination) => ({ ...destination, report: true })) };
const reportRule: Partial<PolicyConfig> = { rules: base.rules.map((rule) => ({ ...rule, report: true })) };

t.test('an address outside the ranges', async (t) => {
  t.match(await dialled({}, ['8.8.8.8']), { code: 'address-not-allowed', wouldDeny: '' }, 'enforced');
  for (const changes of [{ mode: 'report' } as const, reportDestination]) {
    t.match(await dialled(changes, ['8.8.8.8']), { code: 'ok', upstreamAddress: '8.8.8.8', verdict: 'report', wouldDeny: 'address-not-allowed', detail: /8\.8\.8\.8 .*outside the ranges/ });
    t.match(await dialled(changes, ['8.8.8.8', '10.40.0.1']), { code: 'ok', upstreamAddress: '10.40.0.1', verdict: 'allow', wouldDeny: '' }, 'what is permitted goes first');
    for (const address of ['127.0.0.1', '169.254.169.254', '10.41.0.1', '::1', 'fd00::1']) t.match(await dialled(changes, [address]), { code: 'address-not-allowed', wouldDeny: '' }, address);
    t.match(await dialled(changes, ['8.8.4.4']), { code: 'loop' }, 'ourselves');
  }
  t.match(await dialled(reportRule, ['8.8.8.8']), { code: 'address-not-allowed' }, 'a rule says nothing about addresses');
});

t.test('a host in no destination', async (t) => {
  t.match(await dialled({}, ['8.8.8.8'], 'evil.example'), { code: 'host-not-allowed', verdict: 'deny' });
  t.match(await dialled({ mode: 'report' }, ['8.8.8.8'], 'evil.example'), { code: 'ok', verdict: 'report', destination: '-', rule: '-', client: 'sit', wouldDeny: 'host-not-allowed', detail: /evil\.example is in no destination/ });
  t.match(await dialled({ mode: 'report' }, ['10.40.0.1'], 'evil.example'), { code: 'address-not-allowed', wouldDeny: 'host-not-allowed' });
  t.match(await dialled(reportDestination, ['8.8.8.8'], 'evil.example'), { code: 'host-not-allowed', verdict: 'deny' });
});

t.test('what was dialled under report is used no more once the policy is enforced', async (t) => {
  const pools = [];
  const door = openDoor({ mode: 'report' }, ['8.8.8.8']);
  const { limits, timeouts } = configOf(MINIMAL);
  for (const mode of ['report', 'report', 'enforce', 'enforce'] as const) {
    const policy = { ...base, mode };
    door.adopt({ config: { destinations: policy.destinations, limits, timeouts }, policy: compilePolicy(policy), dialler: door.dialler });
    const permit = door.admit(makeAsk({ host: ECO }), 'exchanges', new AccessRecord('id', 0, '10.8.1.4'));
    pools.push(door.pool(permit, { scheme: 'https', host: ECO, port: 443 }));
    permit.release();
  }
  const [first, ...others] = pools;
  t.same(others.map((pool) => pool === first), [true, false, false]);
  t.equal(others[1], others[2]);
});

t.test('a reload of a limit that holds for the answers of partners replaces the pools', async (t) => {
  const door = openDoor({}, ['10.40.0.1']);
  const { limits, timeouts } = configOf(MINIMAL);
  const pools = [0, 0, 1].map((more) => {
    door.adopt({ config: { destinations: base.destinations, limits: { ...limits, headerFields: limits.headerFields + more }, timeouts }, policy: door.policy, dialler: door.dialler });
    const permit = door.admit(makeAsk({ host: ECO }), 'exchanges', new AccessRecord('id', 0, '10.8.1.4'));
    permit.release();
    return door.pool(permit, { scheme: 'https', host: ECO, port: 443 });
  });
  t.strictSame([pools[1] === pools[0], pools[2] === pools[1]], [true, false]);
});

t.test('two destinations of one host never share connections', async (t) => {
  const destinations = ['a', 'b'].map((name) => makeDestination(name, [ECO], { addresses: ['10.40.0.0/16'] }));
  const door = openDoor({ destinations, rules: [makeRule(['sit'], ['a', 'b'])] }, ['10.40.0.1']);
  const poolOf = (destination: string, port = 443): unknown => {
    const permit = door.admit(makeAsk({ form: 'gateway', host: ECO, method: 'GET', path: '/', destination }), 'exchanges', new AccessRecord('id', 0, '10.8.1.4'));
    permit.release();
    return door.pool(permit, { scheme: 'https', host: ECO, port });
  };
  t.equal(poolOf('a'), poolOf('a'), 'one of its own');
  t.not(poolOf('a'), poolOf('b'), 'though the origin is the same');
  t.not(poolOf('a'), poolOf('a', 80), 'nor do two origins of a destination');
});

t.test('a request of the self-test is decided, gets no permit and no place, and is not remembered', async (t) => {
  let remembered = 0;
  const door = openDoor({}, ['10.40.1.9'], () => { remembered += 1; });
  const record = Object.assign(new AccessRecord('id', 0, '10.8.1.4'), { selfTest: true });
  t.throws(() => door.admit(makeAsk({ host: ECO }), 'tunnels', record), { code: 'loop' });
  t.match(record, { verdict: 'allow' });
  t.throws(() => door.admit(makeAsk({ host: 'x.invalid' }), 'tunnels', record), { code: 'host-not-allowed' });
  t.match(record, { verdict: 'deny' });
  t.equal(door.count('tunnels'), 0);
  t.equal(remembered, 0);
  door.admit(makeAsk({ host: ECO }), 'tunnels', new AccessRecord('id', 0, '10.8.1.4')).release();
  t.equal(remembered, 1);
});

t.test('bytes beyond a rate pass as long as a rule is in report mode, and not longer', async (t) => {
  const sent = { perMs: 1e-9, burst: 1_000, text: '1000B/day' };
  const rate = { perAddress: { requests: null, tunnels: null, sent, received: null }, perClient: null, whenExhausted: 'cut' } as const;
  const door = openDoor({ rules: [makeRule(['sit'], ['eco'], { rate }), makeRule(['sit'], ['eco'], { report: true, methods: ['GET'], until: 10_000 })] }, ['10.40.0.1']);
  const records = ['a', 'b'].map((id) => new AccessRecord(id, 0, '10.8.1.4'));
  const permits = records.map((record) => door.admit(makeAsk({ host: ECO }), 'tunnels', record));
  const charge = (index: number, now: number): string | null => {
    const [permit, record] = [permits[index], records[index]];
    return permit === undefined || record === undefined ? '-' : (door.charge(permit, record, now)?.code ?? null);
  };
  for (const record of records) record.bytesSent = 2_000;
  t.equal(charge(0, 9_999), null);
  t.match(records[0], { wouldDeny: 'byte-limit-reached' });
  t.equal(charge(0, 9_999), null, 'it is reported, and goes on');
  t.strictSame([charge(0, 10_000), charge(1, 10_000)], ['byte-limit-reached', 'byte-limit-reached']);
});

t.test('one that began beyond its rate, while a rule was in report mode, is charged once that rule has ended', async (t) => {
  const sent = { perMs: 1e-9, burst: 1_000, text: '1000B/day' };
  const rate = { perAddress: { requests: null, tunnels: null, sent, received: null }, perClient: null, whenExhausted: 'cut' } as const;
  const door = openDoor({ rules: [makeRule(['sit'], ['eco'], { rate }), makeRule(['sit'], ['eco'], { report: true, methods: ['GET'], until: 10_000 })] }, ['10.40.0.1']);
  const charge = (permit: Permit, record: AccessRecord, now: number): string | null => door.charge(permit, record, now)?.code ?? null;
  const first = new AccessRecord('a', 0, '10.8.1.4');
  const used = door.admit(makeAsk({ host: ECO }), 'tunnels', first);
  first.bytesSent = 1_000;
  used.release();
  const record = new AccessRecord('b', 0, '10.8.1.4');
  const permit = door.admit(makeAsk({ host: ECO }), 'tunnels', record);
  t.match(record, { wouldDeny: 'byte-limit-reached' });
  record.bytesSent = 1;
  t.equal(charge(permit, record, 9_999), null);
  t.equal(charge(permit, record, 10_000), 'byte-limit-reached');
});

t.test('once its rule has ended, a tunnel is charged to the rule that permits it then', async (t) => {
  const sent = { perMs: 1e-9, burst: 1_000, text: '1000B/day' };
  const rate = { perAddress: { requests: null, tunnels: null, sent, received: null }, perClient: null, whenExhausted: 'cut' } as const;
  for (const [rules, expected] of [
    [[makeRule(['sit'], ['eco'], { rate, until: 10_000 }), makeRule(['sit'], ['eco'])], null],
    [[makeRule(['sit'], ['eco'], { until: 10_000 }), makeRule(['sit'], ['eco'], { rate })], 'byte-limit-reached'],
  ] as const) {
    const door = openDoor({ rules }, ['10.40.0.1']);
    const record = new AccessRecord('id', 0, '10.8.1.4');
    const permit = door.admit(makeAsk({ host: ECO }), 'tunnels', record);
    const charge = (now: number): string | null => door.charge(permit, record, now)?.code ?? null;
    record.bytesSent = 900;
    t.equal(charge(9_999), null);
    t.equal(charge(10_000), null);
    record.bytesSent = 2_900;
    t.equal(charge(10_001), expected);
  }
});

t.test('once its rule has ended, a tunnel that passes in report mode alone is charged to no rule', async (t) => {
  const sent = { perMs: 1e-9, burst: 1_000, text: '1000B/day' };
  const rate = { perAddress: { requests: null, tunnels: null, sent, received: null }, perClient: null, whenExhausted: 'cut' } as const;
  const door = openDoor({ mode: 'report', rules: [makeRule(['sit'], ['eco'], { rate, until: 10_000 })] }, ['10.40.0.1']);
  const record = new AccessRecord('id', 0, '10.8.1.4');
  const permit = door.admit(makeAsk({ host: ECO }), 'tunnels', record);
  record.bytesSent = 900;
  t.equal(door.charge(permit, record, 9_999), null);
  t.equal(door.charge(permit, record, 10_000), null);
  record.bytesSent = 2_900;
  t.equal(door.charge(permit, record, 10_001), null);
  t.equal(record.wouldDeny, '');
});

t.test('a reload that gives a rule an end, or another one: it holds for what was permitted before', async (t) => {
  const { limits, timeouts } = configOf(MINIMAL);
  const door = openDoor({}, ['10.40.0.1']);
  const record = new AccessRecord('id', 0, '10.8.1.4');
  const permit = door.admit(makeAsk({ host: ECO }), 'tunnels', record);
  for (const until of [20_000, 10_000, 15_000]) {
    const policy = { ...base, rules: [makeRule(['sit'], ['eco'], { until })] };
    door.adopt({ config: { destinations: policy.destinations, limits, timeouts }, policy: compilePolicy(policy), dialler: door.dialler });
    door.chargeAnew(permit, record, 1_000);
    t.strictSame([permit.holds(until - 1), permit.holds(until)], [true, false]);
  }
});

t.test('a request that is refused after a reload has taken nothing of its rate', async (t) => {
  const rated = (): PolicyConfig => ({ ...base, rules: [makeRule(['sit'], ['eco'], { rate: { perAddress: { requests: null, tunnels: { perMs: 1e-9, burst: 1, text: '1/day' }, sent: null, received: null }, perClient: null, whenExhausted: 'refuse' } })] });
  const door = openDoor(rated(), ['10.40.0.1']);
  const { limits, timeouts } = configOf(MINIMAL);
  const admit = (): Permit => door.admit(makeAsk({ host: ECO }), 'tunnels', new AccessRecord('id', 0, '10.8.1.4'));
  const permit = admit();
  const policy = rated();
  door.adopt({ config: { destinations: policy.destinations, limits, timeouts }, policy: compilePolicy(policy), dialler: door.dialler });
  permit.release(true);
  t.doesNotThrow(admit);
});

t.test('a permit that is released twice gives its place back once', async (t) => {
  const door = openDoor({}, ['10.40.0.1']);
  const admit = (): Permit => door.admit(makeAsk({ host: ECO }), 'tunnels', new AccessRecord('id', 0, '10.8.1.4'));
  const [first, second] = [admit(), admit()];
  first.release();
  first.release();
  t.equal(door.count('tunnels'), 1, 'the other one is under way');
  second.release();
  t.equal(door.count('tunnels'), 0);
});

t.test('a method in a field: what lets it pass is not what let the request itself pass', async (t) => {
  const post = makeAsk({ host: ECO, form: 'forward', method: 'POST', path: '/' });
  const tried = async (changes: Partial<PolicyConfig>): Promise<AccessRecord> => {
    const remembered: unknown[] = [];
    const door = openDoor(changes, ['10.40.0.1'], () => remembered.push(0));
    const record = new AccessRecord('id', 0, '10.8.1.4');
    door.admit(post, 'exchanges', record).release();
    t.equal(door.judge({ ...post, method: 'DELETE' }, record, 'a field says DELETE: '), null);
    t.equal(remembered.length, 1, 'the request alone is repeated at a reload');
    return record;
  };
  const rules = ['POST', 'DELETE'].map((method) => makeRule(['sit'], ['eco'], { methods: [method] }));
  t.match(await tried({ rules }), { verdict: 'allow', rule: 'rules[0]', wouldDeny: '' });
  t.match(await tried({ rules: rules.slice(1), mode: 'report' }), { verdict: 'report', rule: '-', wouldDeny: 'method-not-allowed' }, 'and it is still one that report mode let pass');
  t.match(await tried({ rules: rules.slice(0, 1), mode: 'report' }), { verdict: 'report', rule: 'rules[0]', wouldDeny: 'method-not-allowed', detail: /^a field says DELETE: / });
});

/** What the rates of a rule add to admitting a request, and what they hold. Run: bin/node --expose-gc bench/rates.ts */
import { Socket } from 'node:net';
import { loadConfig } from '../src/config/load.ts';
import { Egress, type Permit } from '../src/egress.ts';
import { compilePolicy } from '../src/policy/compile.ts';
import type { Ask } from '../src/policy/verdict.ts';
import { AccessRecord } from '../src/telemetry/access-record.ts';
import type { Telemetry } from '../src/telemetry/telemetry.ts';

const ROUNDS = 1_000_000;
const PODS = 500;

/** A door with one rule, from whose requests time passes as `now` says. */
function openDoor(rate: string, now: () => number): Egress {
  const text = `version: 1\nclients: { pods: { addresses: ["10.0.0.0/8", "fd00::/8"] } }\ndestinations: { eco: { hosts: [eco.example], ports: [443] } }\nrules: [{ clients: pods, destinations: eco${rate} }]\nlimits: { exchanges: 1000000, exchangesPerClient: 1000000 }\n`;
  const loaded = loadConfig({ file: 'bench.yaml', env: {}, readFile: () => text });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.faults));
  const { config } = loaded;
  const silent = (): void => {};
  // Of a door that dials nothing.
  const telemetry = new Proxy({}, { get: () => silent }) as Telemetry;
  const dialler = { dial: () => Promise.resolve({ socket: new Socket() } as never), resolve: () => Promise.resolve([]), untroubled: true, refusal: () => null };
  return new Egress({ config, policy: compilePolicy(config), dialler, telemetry, remember: silent, isSelf: () => false, monotonic: now });
}

function askOf(address: string): Ask {
  return { form: 'forward', peer: { address, user: null, token: null, sans: [], rejected: null }, now: 0, host: 'eco.example', port: 443, method: 'GET', path: '/' };
}

function measure(name: string, rounds: number, round: (index: number) => void): void {
  for (let index = 0; index < rounds / 10; index += 1) round(index);
  const before = process.cpuUsage();
  for (let index = 0; index < rounds; index += 1) round(index);
  const { user, system } = process.cpuUsage(before);
  process.stdout.write(`${name.padEnd(60)}${(((user + system) * 1000) / rounds).toFixed(0).padStart(7)} ns\n`);
}

const record = new AccessRecord('id', 0, '10.0.0.1');
const asks = Array.from({ length: PODS }, (_, index) => askOf(`10.0.${index >> 8}.${index & 255}`));
let clock = 0;
const tick = (): number => (clock += 0.01);

const admit = (door: Egress) => (index: number): void => {
  const ask = asks[index % PODS];
  if (ask !== undefined) door.admit(ask, 'exchanges', record).release();
};
for (const [name, rate] of [
  ['no rate', ''],
  ['requests for each address', ', rate: { perAddress: { requests: 1000000/s } }'],
  ['requests for each address and for the client', ', rate: { perAddress: { requests: 1000000/s }, perClient: { requests: 1000000/s } }'],
  ['requests and bytes, both', ', rate: { perAddress: { requests: 1000000/s, sent: 1TiB/day, received: 1TiB/day }, perClient: { requests: 1000000/s, sent: 1TiB/day, received: 1TiB/day } }'],
] as const) measure(`admit and release, ${name}`, ROUNDS, admit(openDoor(rate, tick)));

const tight = openDoor(', rate: { perAddress: { requests: 1/h } }', tick);
measure('refuse, a known address', ROUNDS / 10, (index) => {
  try {
    admit(tight)(index);
  } catch {
    // Refused: that is what is measured.
  }
});

for (const [name, rate] of [['that are full again soon', '1000/s burst 1'], ['that stay in use', '1/h']] as const) {
  const door = openDoor(`, rate: { perAddress: { requests: ${rate} } }`, tick);
  let address = 0;
  measure(`admit or refuse, a new address each time, buckets ${name}`, ROUNDS / 2, () => {
    address += 1;
    try {
      door.admit(askOf(`fd00::${(address >> 16).toString(16)}:${(address & 0xffff).toString(16)}`), 'exchanges', record).release();
    } catch {
      // The shared bucket is used up.
    }
  });
  process.stdout.write(`${''.padEnd(4)}entries: ${door.rateUsage().map(({ addresses }) => addresses).join()}\n`);
}

const door = openDoor(', rate: { perClient: { sent: 1TiB/day, received: 1TiB/day } }', tick);
const open = asks.map((ask): [Permit, AccessRecord] => {
  const own = new AccessRecord('id', 0, ask.peer.address);
  return [door.admit(ask, 'exchanges', own), own];
});
measure('charge what is under way at a tick, each', ROUNDS, (index) => {
  const [permit, own] = open[index % PODS] ?? [];
  if (permit === undefined || own === undefined) return;
  own.bytesSent += 1000;
  door.charge(permit, own, 0);
});

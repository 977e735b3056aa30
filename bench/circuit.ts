/** What the circuit breaker costs an exchange and a dial: while nothing fails, while another destination fails, and when it refuses. Run: bin/node bench/circuit.ts */
import type { DestinationConfig } from '../src/config/config.ts';
import { CircuitBreaker, CircuitUse } from '../src/dial/circuit-breaker.ts';
import type { DialTarget } from '../src/dial/dial.ts';
import { makeDestination } from '../test/support/policy.ts';

const ROUNDS = 5_000_000;
const TERMS = { failures: 10, over: 0, pause: 1_000_000, longestPause: 1_000_000, statuses: [] };
const ADDRESSES = ['10.40.0.1', '10.40.0.2'];

function targetOf(of: DestinationConfig): DialTarget {
  return { host: `${of.name}.partner.internal`, port: 443, tls: null, destination: of.name, circuit: { of, terms: TERMS, carries: 'https' } };
}

function measure(name: string, round: () => void): void {
  for (let i = 0; i < ROUNDS / 10; i += 1) round();
  const before = process.cpuUsage();
  for (let i = 0; i < ROUNDS; i += 1) round();
  const { user, system } = process.cpuUsage(before);
  process.stdout.write(`${name.padEnd(56)}${(((user + system) * 1000) / ROUNDS).toFixed(0).padStart(6)} ns\n`);
}

const [healthy, failing] = [makeDestination('well', [], { circuitBreaker: TERMS }), makeDestination('ill', [], { circuitBreaker: TERMS })];
const [well, ill] = [targetOf(healthy), targetOf(failing)];
const breaker = new CircuitBreaker({ onOpened: () => {}, onClosed: () => {} });
breaker.adopt([healthy, failing]);

function measureUse(when: string): void {
  const exchange = new CircuitUse(breaker, well);
  exchange.choose(ADDRESSES);
  exchange.opened('10.40.0.1');
  measure(`an exchange that is answered, ${when}`, () => {
    exchange.answered(200, '10.8.0.1');
  });
  measure(`a dial that succeeds, ${when}`, () => {
    const dial = new CircuitUse(breaker, well);
    dial.choose(ADDRESSES);
    dial.opened('10.40.0.1');
    dial.ready();
  });
}

measureUse('nothing fails');
for (const address of ADDRESSES) for (let i = 0; i < TERMS.failures; i += 1) breaker.failed(ill, address, ADDRESSES, { reason: 'ECONNREFUSED', client: null, unanswered: false }, null);
measureUse('another destination fails');
measure('a refusal', () => {
  breaker.refusal(ill, ADDRESSES, '10.8.0.1');
});

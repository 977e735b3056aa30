/** Evidence as a running proxy gathers it when all is well; tests change what is wrong. */
import type { AddressTry, DestinationEvidence, IncidentEvidence, NameTry, RouteTry, TcpTry } from '../../src/incident/evidence.ts';

export const NOW = Date.parse('2026-03-02T12:00:00Z');
export const A = '203.0.113.10';
export const B = '203.0.113.20';
export const HOST = 'eco-sit.telus.internal';

const DAY = 86_400_000;
let port = 41_000;

export function tcpTry(address: string, change: Partial<TcpTry> = {}): TcpTry {
  return { at: NOW - 3_000, address, port: 443, from: `10.128.0.11:${(port += 1)}`, outcome: 'open', ms: 4, detail: '', ...change };
}

export const CERTIFICATE = { names: `DNS:${HOST}`, issuer: 'CN=partner authority', validFrom: NOW - 30 * DAY, validTo: NOW + 60 * DAY };

export function addressTry(address: string, change: Partial<AddressTry> = {}): AddressTry {
  return { where: `${HOST}:443`, tcp: tcpTry(address), again: null, tls: { fault: null, certificate: CERTIFICATE }, http: { fault: null, status: 200, ms: 12, asked: 'HEAD /' }, moved: 0, ...change };
}

/** No answer, twice. */
export function silentTry(address: string, change: Partial<AddressTry> = {}): AddressTry {
  return addressTry(address, { tcp: tcpTry(address, { outcome: 'silent', ms: 3_000 }), again: tcpTry(address, { outcome: 'silent', ms: 3_000 }), tls: null, http: null, ...change });
}

export function refusedTry(address: string, change: Partial<AddressTry> = {}): AddressTry {
  return addressTry(address, { tcp: tcpTry(address, { outcome: 'refused', detail: 'ECONNREFUSED' }), tls: null, http: null, ...change });
}

export function nameTry(change: Partial<NameTry> = {}): NameTry {
  return { host: HOST, at: NOW - 4_000, fault: null, addresses: [A, B], refused: [], inUse: [A, B], history: [{ at: NOW - DAY, addresses: [A, B], code: null }], ...change };
}

export function routeTry(change: Partial<RouteTry> = {}): RouteTry {
  return { where: `${HOST}:443`, at: NOW - 3_000, fault: null, tls: { fault: null, certificate: CERTIFICATE }, http: { fault: null, status: 200, ms: 12, asked: 'HEAD /' }, ...change };
}

export function destinationOf(change: Partial<DestinationEvidence> = {}): DestinationEvidence {
  return { name: 'eco-sit', via: [], last: 'ok', lastOk: NOW - 1_000, lastError: null, failures: [], connections: [], circuits: [], ports: { used: 12, limit: null, refused: 0 }, took: { p50: 40, p99: 310 }, names: [nameTry()], tries: [addressTry(A), addressTry(B)], parents: [], routes: [], ...change };
}

/** By way of a parent, which resolves the name. */
export function behindParent(change: Partial<DestinationEvidence> = {}): DestinationEvidence {
  return destinationOf({ via: ['activegateway'], names: [], tries: [], parents: [{ hop: 'activegateway', parent: 'activegateway.telus.internal:3128', fault: null, tcp: [tcpTry('203.0.113.30', { port: 3128 })] }], routes: [routeTry()], ...change });
}

export function evidenceOf(change: Partial<IncidentEvidence> = {}): IncidentEvidence {
  return {
    at: NOW,
    instance: 'eco-egress-1',
    version: '1.0.0',
    asked: null,
    proxy: { draining: false, notEnforcing: [], reloadRefused: [], loadedAt: NOW - 2 * DAY, policyChange: null, eventLoopMs: 2, segments: { sent: 400, again: 1, synAgain: 0 }, limits: [{ name: 'tunnels', used: 10, limit: 2_000 }], descriptors: null, overloaded: [], telemetry: [] },
    source: { result: 'match', seen: '34.123.45.67', expected: ['34.123.45.67'], since: NOW - DAY, at: NOW - 2_000, endpoint: '203.0.113.80', from: '10.128.0.11', fault: null },
    denials: [],
    clocks: [],
    destinations: [destinationOf()],
    leftOut: 0,
    ...change,
  };
}

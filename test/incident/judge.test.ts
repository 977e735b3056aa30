/** Every kind of incident: the part that is named, how surely, and that the partner is not accused of what may be ours. */
import t from 'tap';
import type { DeniedRequests, DestinationEvidence, IncidentEvidence, IncidentPart } from '../../src/incident/evidence.ts';
import { INCIDENT_RULES, judgeIncident } from '../../src/incident/judge.ts';
import { A, addressTry, B, behindParent, CERTIFICATE, destinationOf, evidenceOf, HOST, nameTry, NOW, refusedTry, routeTry, silentTry, tcpTry } from '../support/incident-evidence.ts';

type Case = readonly [what: string, evidence: IncidentEvidence, expected: { readonly rule?: string; readonly state: 'ok' | 'degraded' | 'broken'; readonly part: IncidentPart | null; readonly confidence?: string; readonly says: RegExp; readonly letter?: boolean }];

const wrong = (change: Partial<DestinationEvidence>, more: Partial<IncidentEvidence> = {}): IncidentEvidence => evidenceOf({ destinations: [destinationOf(change)], ...more });
const denied = (change: Partial<DeniedRequests>): DeniedRequests => ({ client: 'dynatrace-sit', clientAddress: '10.8.3.17', code: 'host-not-allowed', destination: '-', host: 'x.example', hosts: 1, count: 5, first: NOW - 20_000, last: NOW - 1_000, ...change });
const both = (make: (address: string) => ReturnType<typeof addressTry>): Partial<DestinationEvidence> => ({ tries: [make(A), make(B)], last: 'failed' });
const tlsFault = (detail: string, code: 'tls-certificate' | 'tls-failed' | 'tls-timeout' = 'tls-certificate') => (address: string): ReturnType<typeof addressTry> => addressTry(address, { tls: { fault: { code, detail }, certificate: CERTIFICATE }, http: null });
const httpFault = (code: 'upstream-silent' | 'upstream-cut' | 'upstream-malformed') => (address: string): ReturnType<typeof addressTry> => addressTry(address, { http: { fault: { code, detail: 'x' }, status: 0, ms: 3_000, asked: 'HEAD /' } });
const mismatch = { ...evidenceOf().source, result: 'mismatch', seen: '203.0.113.99', since: NOW - 60_000 } as const;
const off = { ...evidenceOf().source, result: 'off', seen: null, endpoint: null } as const;
const unknown = { ...evidenceOf().source, result: 'unknown', seen: null, endpoint: null, fault: { code: 'connect-timeout', detail: 'no connection in 3000 ms' } } as const;
const failure = (code: 'upstream-cut' | 'connect-timeout', ago: number) => ({ at: NOW - ago, code, detail: 'x' }) as const;
const proxy = evidenceOf().proxy;

const CASES: readonly Case[] = [
  ['nothing', evidenceOf(), { state: 'ok', part: null, says: /^Nothing is wrong now: eco-sit answers at every address\.$/ }],
  ['nothing that could be tried', evidenceOf({ destinations: [], leftOut: 3 }), { state: 'ok', part: null, says: /no destination could be tried/ }],

  // Ours.
  ['draining', evidenceOf({ proxy: { ...proxy, draining: true } }), { state: 'broken', part: 'proxy', says: /shutting down/ }],
  ['the allowlist is not in force', evidenceOf({ proxy: { ...proxy, notEnforcing: ['The allowlist is not in force: x.'] } }), { state: 'broken', part: 'proxy', says: /self-test/ }],
  ['overload explains silence', wrong(both(silentTry), { proxy: { ...proxy, eventLoopMs: 2_500 } }), { state: 'broken', part: 'proxy', says: /short of CPU/ }],
  ['late, and no more', evidenceOf({ proxy: { ...proxy, eventLoopMs: 600 } }), { state: 'degraded', part: 'proxy', says: /late by 600 ms/ }],
  ['a limit is reached', evidenceOf({ proxy: { ...proxy, limits: [{ name: 'tunnels', used: 2_000, limit: 2_000 }] } }), { state: 'broken', part: 'proxy', says: /limit of tunnels is reached: 2000 of 2000/ }],
  ['requests are refused for overload', evidenceOf({ proxy: { ...proxy, overloaded: ['New requests are refused.'] } }), { state: 'broken', part: 'proxy', says: /overloaded, and refuses/ }],
  ['the log cannot be written', evidenceOf({ proxy: { ...proxy, telemetry: ['12 lines of the log were lost.'] }, denials: [denied({ code: 'host-not-allowed', count: 200, hosts: 200 })] }), { state: 'degraded', part: 'proxy', says: /lose some of what it records/ }],
  ['descriptors', evidenceOf({ proxy: { ...proxy, descriptors: 'Few are left.' } }), { state: 'degraded', part: 'proxy', says: /descriptors/ }],
  ['they do not explain silence', wrong(both(silentTry), { proxy: { ...proxy, descriptors: 'Few are left.' } }), { state: 'broken', part: 'partner-firewall', says: /no answer from both/, letter: true }],
  ['a reload was refused', evidenceOf({ proxy: { ...proxy, reloadRefused: ['egress.yaml:2:1 rules: x'] } }), { state: 'degraded', part: 'proxy', says: /faulty and was refused/ }],
  ['the policy was narrowed', evidenceOf({ proxy: { ...proxy, policyChange: { at: NOW - 30_000, denies: true, sentence: 'Classes of requests: 1 newly denied.', classes: [] } }, denials: [denied({ code: 'no-rule', destination: 'eco-sit' })] }), { state: 'broken', part: 'proxy', confidence: 'likely', says: /since the reload at 2026-03-02T11:59:30Z it denies dynatrace-sit with no-rule/ }],
  ['it was, and nobody asked here', evidenceOf({ proxy: { ...proxy, policyChange: { at: NOW - 30_000, denies: true, sentence: 'Classes of requests: 1 newly denied.', classes: ['Newly denied: x'] } } }), { state: 'degraded', part: 'proxy', confidence: 'unsure', says: /the latest reload denies requests/ }],
  ['it was widened', evidenceOf({ proxy: { ...proxy, policyChange: { at: NOW - 30_000, denies: false, sentence: 'Classes of requests: 1 newly allowed.', classes: [] } } }), { state: 'ok', part: null, says: /Nothing is wrong/ }],
  ['it was widened, and denies what it denied before', evidenceOf({ proxy: { ...proxy, policyChange: { at: NOW - 30_000, denies: false, sentence: 'Classes of requests: 1 newly allowed.', classes: [] } }, denials: [denied({ code: 'no-rule', destination: 'eco-sit' })] }), { state: 'degraded', part: 'pod', confidence: 'unsure', says: /dynatrace-sit asks for what the policy does not permit/ }],
  ['it was narrowed days ago', evidenceOf({ proxy: { ...proxy, policyChange: { at: NOW - 3 * 86_400_000, denies: true, sentence: 'Classes of requests: 1 newly denied.', classes: [] } }, denials: [denied({ code: 'port-not-allowed', destination: 'eco-sit' })] }), { state: 'degraded', part: 'pod', confidence: 'unsure', says: /or the proxy \(the evidence does not tell\): dynatrace-sit asks for what the policy does not permit/ }],
  ['the policy has long denied it', evidenceOf({ denials: [denied({ code: 'no-rule', destination: 'eco-sit' })] }), { state: 'degraded', part: 'pod', confidence: 'unsure', says: /The pod \(client\) or the proxy \(the evidence does not tell\): dynatrace-sit asks for what the policy does not permit/ }],
  ['a flood', evidenceOf({ denials: [denied({ count: 900, hosts: 900 })] }), { state: 'degraded', part: 'pod', says: /flood of requests that are refused: 900 .* for 900 hosts/ }],
  ['requests that an open circuit refuses are no flood', evidenceOf({ denials: [denied({ code: 'circuit-open', destination: 'eco-sit', count: 500 })] }), { state: 'ok', part: null, says: /Nothing is wrong/ }],
  ['a limit refuses one client', evidenceOf({ denials: [denied({ code: 'limit-reached', destination: 'eco-sit', count: 500 })] }), { state: 'broken', part: 'proxy', confidence: 'likely', says: /a limit refuses requests of dynatrace-sit \(10\.8\.3\.17\): 500 in the last minute/ }],
  ['a partner that does not answer may be why', wrong({ ...both(httpFault('upstream-silent')), failures: [failure('upstream-cut', 2_000)] }, { denials: [denied({ code: 'limit-reached', destination: 'eco-sit', count: 500 })] }), { state: 'broken', part: 'partner-application', says: /accepted and not answered/, letter: true }],
  ['a few denials are every cluster’s', evidenceOf({ denials: [denied({ count: 20 })] }), { state: 'ok', part: null, says: /Nothing is wrong/ }],
  ['a rate is used up', evidenceOf({ denials: [denied({ code: 'rate-limited', destination: 'eco-sit' })] }), { state: 'degraded', part: 'pod', confidence: 'likely', says: /rate-limited/ }],
  ['a client that speaks wrongly', evidenceOf({ denials: [denied({ code: 'tls-on-http-port' })] }), { state: 'degraded', part: 'pod', says: /tls-on-http-port/ }],
  ['the clock', wrong(both(tlsFault('x (CERT_HAS_EXPIRED)')), { clocks: [{ where: 'a:80', ahead: -400_000_000 }, { where: 'b:80', ahead: -400_001_000 }] }), { state: 'broken', part: 'proxy', says: /the clock of this host is ahead by 40000\d s/ }],
  ['of two other clocks one is off', wrong({}, { clocks: [{ where: 'a:80', ahead: 200 }, { where: 'b:80', ahead: 400_000_000 }] }), { state: 'ok', part: null, says: /Nothing is wrong/ }],
  ['one other clock, seen twice', wrong({}, { clocks: [{ where: 'a:80', ahead: 400_000_000 }, { where: 'a:80', ahead: 400_000_100 }] }), { state: 'degraded', part: 'proxy', confidence: 'likely', says: /\(or the partner's application\): the clock of this host is behind by 400000 s/ }],

  // The NAT, the route, names.
  ['another source address explains silence', wrong(both(silentTry), { source: mismatch }), { state: 'broken', part: 'nat', confidence: 'certain', says: /leave from 203\.0\.113\.99, and partners expect 34\.123\.45\.67, since 2026-03-02T11:59:00Z/ }],
  ['it explains refusals', wrong(both(refusedTry), { source: mismatch }), { state: 'broken', part: 'nat', says: /leave from/ }],
  ['it explains handshakes', wrong(both(tlsFault('cut', 'tls-failed')), { source: mismatch }), { state: 'broken', part: 'nat', says: /leave from/ }],
  ['another source address that no partner minds', wrong({}, { source: mismatch }), { state: 'degraded', part: 'nat', says: /leave from/ }],
  ['ports are used up', wrong({ ...both(silentTry), ports: { used: 64, limit: 64, refused: 3 } }), { state: 'broken', part: 'nat', confidence: 'likely', says: /used up towards eco-sit: 64 of 64/ }],
  ['ports are nearly used up, and once were', wrong({ ports: { used: 60, limit: 64, refused: 3 } }), { state: 'degraded', part: 'nat', confidence: 'likely', says: /nearly used up towards eco-sit: 60 of 64/ }],
  ['open connections carry data', wrong({ tries: [silentTry(A, { moved: 900 }), addressTry(B)] }), { state: 'degraded', part: 'nat', confidence: 'unsure', says: /The NAT or the partner's firewall \(the evidence does not tell\)/ }],
  ['nothing outside answers', wrong(both(silentTry), { source: unknown }), { state: 'broken', part: 'route', confidence: 'likely', says: /nothing outside answers/ }],
  ...[off, unknown, evidenceOf().source].map((source): Case => [`no local port is left, and the probe says ${source.result}`, wrong(both((address) => addressTry(address, { tcp: tcpTry(address, { outcome: 'unsent', detail: 'EADDRNOTAVAIL', from: null }), tls: null, http: null })), { source }), { state: 'broken', part: 'proxy', confidence: 'certain', says: /this host has no local port left towards 203\.0\.113\.10:443/ }]),
  ['no route at all', wrong(both((address) => addressTry(address, { tcp: tcpTry(address, { outcome: 'unsent', detail: 'ENETUNREACH', from: null }), tls: null, http: null })), { source: unknown }), { state: 'broken', part: 'route', confidence: 'certain', says: /nothing outside answers/ }],
  ['no route at all, and no echo endpoint to ask', wrong(both((address) => addressTry(address, { tcp: tcpTry(address, { outcome: 'unsent', detail: 'ENETUNREACH', from: null }), tls: null, http: null })), { source: { ...off, since: null } }), { state: 'broken', part: 'route', confidence: 'certain', says: /: nothing leaves this host: its system refuses every connection that was tried\.$/ }],
  ['a router on the way says that there is no route, and no echo endpoint to ask', wrong(both((address) => addressTry(address, { tcp: tcpTry(address, { outcome: 'unreachable', detail: 'EHOSTUNREACH' }), tls: null, http: null })), { source: off }), { state: 'broken', part: 'route', confidence: 'unsure', says: /or the partner's firewall \(the evidence does not tell\): no route leads to both addresses/ }],
  ['connections have to wait while open ones lose nothing', wrong({ tries: [addressTry(A, { tcp: tcpTry(A, { ms: 1_040 }), moved: 900 }), addressTry(B)] }, { proxy: { ...proxy, segments: { sent: 400, again: 1, synAgain: 2 } } }), { state: 'degraded', part: 'nat', confidence: 'unsure', says: /have to wait, while connections that were open before work/ }],
  ['and none was open to that address', wrong({ tries: [addressTry(A, { tcp: tcpTry(A, { outcome: 'silent', ms: 2_001 }), again: tcpTry(A) }), addressTry(B)] }, { proxy: { ...proxy, segments: { sent: 528, again: 0, synAgain: 3 } } }), { state: 'degraded', part: 'nat', confidence: 'unsure', says: /have to wait, while connections that were open before work/ }],
  ['too few segments to tell', wrong({ tries: [addressTry(A, { tcp: tcpTry(A, { ms: 1_040 }), moved: 900 }), addressTry(B)] }, { proxy: { ...proxy, segments: { sent: 150, again: 0, synAgain: 2 } } }), { state: 'degraded', part: 'route', confidence: 'unsure', says: /packets are lost/ }],
  ['some are lost, and not many', wrong({ tries: [addressTry(A, { tcp: tcpTry(A, { ms: 1_040 }), moved: 900 }), addressTry(B)] }, { proxy: { ...proxy, segments: { sent: 400, again: 5, synAgain: 2 } } }), { state: 'degraded', part: 'route', confidence: 'unsure', says: /packets are lost/ }],
  ['packets are lost', wrong({ tries: [addressTry(A, { tcp: tcpTry(A, { ms: 1_040 }), moved: 900 }), addressTry(B)] }, { proxy: { ...proxy, segments: { sent: 400, again: 40, synAgain: 2 } } }), { state: 'degraded', part: 'route', confidence: 'likely', says: /packets are lost: 40 of 400 segments were sent again/ }],
  ['they explain silence', wrong({ tries: [addressTry(A, { tcp: tcpTry(A, { outcome: 'silent', ms: 3_000 }), again: tcpTry(A) }), silentTry(B)] }, { proxy: { ...proxy, segments: null } }), { state: 'degraded', part: 'route', confidence: 'unsure', says: /packets are lost: connections had no answer at first/ }],
  ['of two connections the second is not answered', wrong({ tries: [addressTry(A, { again: tcpTry(A, { outcome: 'silent', ms: 3_000 }), tls: null, http: null })] }, { proxy: { ...proxy, segments: null } }), { state: 'degraded', part: 'route', confidence: 'unsure', says: /of two connections, the second had no answer/ }],
  ['and on open connections nothing is lost', wrong({ tries: [addressTry(A, { again: tcpTry(A, { outcome: 'silent', ms: 3_000 }), tls: null, http: null })] }), { state: 'degraded', part: 'nat', confidence: 'unsure', says: /new connections to .* get no answer/ }],
  ['or is refused', wrong({ tries: [addressTry(A, { again: tcpTry(A, { outcome: 'refused', detail: 'ECONNREFUSED' }), tls: null, http: null })] }), { state: 'broken', part: 'partner-application', says: /refused the connection/, letter: true }],
  ['what is sent again to an address that does not answer is none of it', wrong({ tries: [silentTry(A), addressTry(B)] }, { proxy: { ...proxy, segments: { sent: 400, again: 40, synAgain: 2 } } }), { state: 'degraded', part: 'partner-firewall', says: /203\.0\.113\.10, 1 of 2/, letter: true }],
  ['silence, and nothing to compare with', wrong(both(silentTry), { source: off }), { state: 'broken', part: 'route', confidence: 'unsure', says: /nothing else was reached to compare with/ }],
  ['silence, another is reached, no proof of the address', evidenceOf({ source: off, destinations: [destinationOf(both(silentTry)), destinationOf({ name: 'other', tries: [addressTry('198.51.100.7')] })] }), { state: 'broken', part: 'route', confidence: 'unsure', says: /nothing proves that the partner sees the right address/ }],
  ['a metadata address', wrong({ last: 'failed', names: [nameTry({ addresses: ['169.254.169.254'], refused: [{ address: '169.254.169.254', detail: 'x' }] })], tries: [] }), { state: 'broken', part: 'resolver', confidence: 'likely', says: /eco-sit\.telus\.internal is led to 169\.254\.169\.254/ }],
  ['no such name', wrong({ names: [nameTry({ addresses: [], inUse: null, fault: { code: 'name-not-found', detail: 'x' } })], tries: [] }), { state: 'broken', part: 'resolver', confidence: 'likely', says: /eco-sit\.telus\.internal does not exist/ }],
  ['the resolver is silent, and stale answers serve', wrong({ names: [nameTry({ addresses: [], fault: { code: 'resolver-timeout', detail: 'x' } })] }), { state: 'degraded', part: 'resolver', confidence: 'certain', says: /is used, as known before/ }],
  ['the resolver is silent, and what was known before is too', wrong({ ...both(silentTry), names: [nameTry({ addresses: [], fault: { code: 'resolver-timeout', detail: 'x' } })] }), { state: 'broken', part: 'resolver', says: /there is no answer for/ }],
  ['the resolver is silent, and nothing is known', wrong({ names: [nameTry({ addresses: [], inUse: null, fault: { code: 'resolver-failed', detail: 'x' } })], tries: [] }), { state: 'broken', part: 'resolver', says: /resolver-failed/ }],
  ['one name is known from before, and another does not exist', wrong({ names: [nameTry({ addresses: [], fault: { code: 'resolver-timeout', detail: 'x' } }), nameTry({ host: 'other.telus.internal', addresses: [], inUse: null, fault: { code: 'name-not-found', detail: 'x' } })] }), { state: 'broken', part: 'resolver', says: /other\.telus\.internal does not exist/ }],
  ['one name is not resolved, and another host is silent', wrong({ last: 'failed', names: [nameTry({ addresses: [], fault: { code: 'resolver-timeout', detail: 'x' } }), nameTry({ host: 'other.telus.internal' })], tries: [addressTry(A), silentTry(B, { where: 'other.telus.internal:443' })] }), { state: 'broken', part: 'partner-firewall', says: /no answer from 203\.0\.113\.20 \(other\.telus\.internal:443\)/, letter: true }],
  ['neither name is resolved, and both are silent where they were', wrong({ last: 'failed', names: [nameTry({ addresses: [], fault: { code: 'resolver-timeout', detail: 'x' } }), nameTry({ host: 'other.telus.internal', addresses: [], fault: { code: 'resolver-timeout', detail: 'x' } })], tries: [silentTry(A), silentTry(B, { where: 'other.telus.internal:443' })] }), { state: 'broken', part: 'resolver', says: /there is no answer for eco-sit/ }],

  // Parents.
  ['the parent refuses', evidenceOf({ destinations: [behindParent({ parents: [{ hop: 'activegateway', parent: 'p:3128', fault: null, tcp: [tcpTry('203.0.113.30', { outcome: 'refused' })] }], routes: [routeTry({ fault: { code: 'hop-failed', detail: 'x' }, tls: null, http: null })] })] }), { state: 'broken', part: 'parent', confidence: 'certain', says: /refuses connections/ }],
  ['no local port is left towards the parent', evidenceOf({ destinations: [behindParent({ parents: [{ hop: 'activegateway', parent: 'p:3128', fault: null, tcp: [tcpTry('203.0.113.30', { outcome: 'unsent', detail: 'EADDRNOTAVAIL', from: null })] }], routes: [routeTry({ fault: { code: 'limit-reached', detail: 'x' }, tls: null, http: null })] })] }), { state: 'broken', part: 'proxy', says: /no local port left towards 203\.0\.113\.30/ }],
  ['the parent is silent', evidenceOf({ destinations: [behindParent({ parents: [{ hop: 'activegateway', parent: 'p:3128', fault: null, tcp: [tcpTry('203.0.113.30', { outcome: 'silent' })] }], routes: [routeTry({ fault: { code: 'hop-timeout', detail: 'x' }, tls: null, http: null })] })] }), { state: 'broken', part: 'parent', confidence: 'likely', says: /cannot be reached/ }],
  ['the name of the parent is not resolved', evidenceOf({ destinations: [behindParent({ parents: [{ hop: 'activegateway', parent: 'p:3128', fault: { code: 'resolver-timeout', detail: 'x' }, tcp: [] }], routes: [routeTry({ fault: { code: 'hop-timeout', detail: 'x' }, tls: null, http: null })] })] }), { state: 'broken', part: 'resolver', confidence: 'likely', says: /the resolver \(or the proxy\): p:3128, the parent proxy, is not resolved \(resolver-timeout\)\.$/ }],
  ['one parent refuses and another is silent', evidenceOf({ destinations: [behindParent({ parents: [{ hop: 'activegateway', parent: 'p:3128', fault: null, tcp: [tcpTry('203.0.113.30', { outcome: 'refused' })] }, { hop: 'activegateway', parent: 'q:3128', fault: null, tcp: [tcpTry('203.0.113.31', { outcome: 'silent' })] }], routes: [routeTry({ fault: { code: 'hop-timeout', detail: 'x' }, tls: null, http: null })] })] }), { state: 'broken', part: 'parent', confidence: 'likely', says: /p:3128, q:3128 cannot be reached/ }],
  ...([['hop-credentials', 'proxy', /does not accept our credentials/], ['hop-refused', 'parent', /does not permit/], ['hop-upstream-failed', 'parent', /says that it cannot reach/], ['hop-timeout', 'parent', /does not connect us/]] as const).map(([code, part, says]): Case => [code, evidenceOf({ destinations: [behindParent({ routes: [routeTry({ fault: { code, detail: 'x' }, tls: null, http: null })] })] }), { state: 'broken', part, says }]),
  ['one connection to the parent is accepted, the next is not', evidenceOf({ destinations: [behindParent({ routes: [routeTry({ fault: { code: 'hop-timeout', detail: 'no answer in 1000 ms', connecting: true }, tls: null, http: null })] })] }), { state: 'degraded', part: 'nat', confidence: 'unsure', says: /one was accepted and one had no answer/ }],
  ['silence behind a parent is not the partner’s alone', evidenceOf({ destinations: [behindParent({ last: 'failed', routes: [routeTry({ http: { fault: { code: 'upstream-silent', detail: 'x' }, status: 0, ms: 3_000, asked: 'HEAD /' } })] })] }), { state: 'broken', part: 'parent', confidence: 'unsure', says: /the parent, or the partner behind it/ }],
  ['a status behind a parent is', evidenceOf({ destinations: [behindParent({ last: 'error', routes: [routeTry({ http: { fault: null, status: 503, ms: 4, asked: 'HEAD /' } })] })] }), { state: 'broken', part: 'partner-application', says: /answered with status 503/, letter: true }],

  // The partner.
  ['refused', wrong(both(refusedTry)), { state: 'broken', part: 'partner-application', confidence: 'likely', says: /\(or the partner's firewall\): both addresses of eco-sit\.telus\.internal:443 refused the connection/, letter: true }],
  ['refused, and nothing to compare with', wrong(both(refusedTry), { source: off }), { state: 'broken', part: 'partner-application', confidence: 'unsure', says: /\(the evidence does not tell\)/ }],
  ['one address refuses', wrong({ tries: [refusedTry(A), addressTry(B)] }), { state: 'degraded', part: 'partner-application', says: /203\.0\.113\.10, 1 of 2 addresses/, letter: true }],
  ['silence, the address proven', wrong({ ...both(silentTry), connections: [{ at: NOW - 40_000, address: A, port: 443, from: '10.128.0.11:40001', reason: 'no answer in 2000 ms' }], failures: [failure('connect-timeout', 1_000), failure('connect-timeout', 40_000)] }), { state: 'broken', part: 'partner-firewall', confidence: 'likely', says: /Most likely the partner's firewall \(or the route\): packets get no answer from both addresses .* while the echo endpoint 203\.0\.113\.80 is reached by the same NAT, and sees 34\.123\.45\.67 as it should, since 2026-03-02T11:59:20Z/, letter: true }],
  ['one host is silent, and it has one address', wrong({ tries: [addressTry(A), silentTry(B, { where: 'other.telus.internal:443' })] }), { state: 'broken', part: 'partner-firewall', says: /no answer from 203\.0\.113\.20 \(other\.telus\.internal:443\), while/, letter: true }],
  ['one host is silent, and only the other one is reached', wrong({ tries: [addressTry(A), silentTry(B, { where: 'other.telus.internal:443' })] }, { source: off }), { state: 'broken', part: 'route', confidence: 'unsure', says: /while 203\.0\.113\.10:443 is reached, but nothing proves that the partner sees the right address/ }],
  ['one host refuses, and only the other one is reached', wrong({ tries: [addressTry(A), refusedTry(B, { where: 'other.telus.internal:443' })] }, { source: off }), { state: 'broken', part: 'partner-application', confidence: 'likely', says: /203\.0\.113\.20 \(other\.telus\.internal:443\) refused/, letter: true }],
  ['one address is silent', wrong({ tries: [silentTry(A), addressTry(B)] }), { state: 'degraded', part: 'partner-firewall', says: /203\.0\.113\.10, 1 of 2/, letter: true }],
  ['no route to it', wrong(both((address) => addressTry(address, { tcp: tcpTry(address, { outcome: 'unreachable', detail: 'EHOSTUNREACH' }), tls: null, http: null }))), { state: 'broken', part: 'route', confidence: 'likely', says: /no route leads to both addresses/ }],
  ['expired, and no other clock to compare ours with', wrong(both(tlsFault('certificate has expired (CERT_HAS_EXPIRED)'))), { state: 'broken', part: 'partner-tls', confidence: 'likely', says: /\(or the proxy\): .* has expired/, letter: true }],
  ['expired', wrong(both(tlsFault('certificate has expired (CERT_HAS_EXPIRED)')), { clocks: [{ where: 'a:80', ahead: 300 }] }), { state: 'broken', part: 'partner-tls', confidence: 'certain', says: /has expired \(valid from/, letter: true }],
  ['an authority of ours has expired', wrong(both(tlsFault('the authority that is trusted here has expired (CERT_HAS_EXPIRED)'))), { state: 'broken', part: 'proxy', says: /the authority that is trusted here has expired/, letter: false }],
  ['another one of its chain has expired', wrong(both(tlsFault('the certificate of CN=x, which the upstream sends with its own, has expired (CERT_HAS_EXPIRED)'))), { state: 'broken', part: 'partner-tls', says: /: the certificate of CN=x, which the upstream sends with its own, has expired \(CERT/, letter: true }],
  ['expired at one address', wrong({ tries: [tlsFault('certificate has expired (CERT_HAS_EXPIRED)')(A), addressTry(B)] }), { state: 'degraded', part: 'partner-tls', says: /has expired/, letter: true }],
  ['of another name', wrong(both(tlsFault('the certificate is not for eco-sit.telus.internal (x)'))), { state: 'broken', part: 'partner-tls', confidence: 'likely', says: /for another name/, letter: true }],
  ['not trusted, and nothing has changed here', wrong(both(tlsFault('signed by an authority that is not trusted here (UNABLE_TO_VERIFY_LEAF_SIGNATURE)'))), { state: 'broken', part: 'partner-tls', says: /no longer trusted here/, letter: true }],
  ['not trusted since we reloaded', wrong({ ...both(tlsFault('signed by an authority that is not trusted here (UNABLE_TO_VERIFY_LEAF_SIGNATURE)')), lastOk: NOW - 3 * 86_400_000 }), { state: 'broken', part: 'proxy', says: /does not trust the authority/ }],
  ['of no use for a server, also since we reloaded', wrong({ ...both(tlsFault('unsuitable certificate purpose (INVALID_PURPOSE)')), lastOk: NOW - 3 * 86_400_000 }), { state: 'broken', part: 'partner-tls', says: /not acceptable to anyone/, letter: true }],
  ['our client certificate', wrong(both(tlsFault('the upstream refused the handshake (x)', 'tls-failed'))), { state: 'broken', part: 'proxy', says: /client certificate/ }],
  ['handshakes are cut', wrong(both(tlsFault('closed during the handshake', 'tls-failed'))), { state: 'broken', part: 'partner-tls', says: /handshake fails/, letter: true }],
  ['no answer', wrong({ ...both(httpFault('upstream-silent')), failures: [failure('upstream-cut', 2_000)] }), { state: 'broken', part: 'partner-application', confidence: 'likely', says: /requests are accepted and not answered/, letter: true }],
  ['cut', wrong(both(httpFault('upstream-cut'))), { state: 'broken', part: 'partner-application', says: /connections are cut/, letter: true }],
  ['not HTTP', wrong(both(httpFault('upstream-malformed'))), { state: 'broken', part: 'partner-application', says: /answers are not HTTP/, letter: true }],
  ['500', wrong({ ...both((address) => addressTry(address, { http: { fault: null, status: 500, ms: 5, asked: 'HEAD /' } })), last: 'error', lastError: { at: NOW - 500, status: 500 } }), { state: 'broken', part: 'partner-application', confidence: 'certain', says: /answered with status 500/, letter: true }],
  ['500, and no request for days', wrong({ ...both((address) => addressTry(address, { http: { fault: null, status: 500, ms: 5, asked: 'HEAD /' } })), lastOk: NOW - 3 * 86_400_000 }), { state: 'broken', part: 'partner-application', confidence: 'likely', says: /answered with status 500; the last one that succeeded was at 2026-02-27T12:00:00Z\.$/, letter: true }],
  ['500 to our own request alone', wrong({ ...both((address) => addressTry(address, { http: { fault: null, status: 501, ms: 5, asked: 'HEAD /' } })), last: 'ok' }), { state: 'ok', part: null, says: /Nothing is wrong/ }],
  ['answers break off', wrong({ failures: [failure('upstream-cut', 500), failure('upstream-cut', 700), failure('upstream-cut', 900)] }), { state: 'broken', part: 'partner-application', confidence: 'likely', says: /break off/, letter: true }],
  ['slow', wrong({ tries: [A, B].map((address) => addressTry(address, { http: { fault: null, status: 200, ms: 1_200, asked: 'HEAD /' } })) }), { state: 'degraded', part: 'partner-application', says: /answers are slow/, letter: true }],

  // Two at once: what breaks requests first.
  ['a refused reload beside a broken partner', wrong(both(refusedTry), { proxy: { ...proxy, reloadRefused: ['x'] } }), { state: 'broken', part: 'partner-application', says: /refused the connection/, letter: true }],
];

for (const [what, evidence, { state, part, confidence, says, letter = false }] of CASES) {
  t.test(what, async (t) => {
    const verdict = judgeIncident(evidence);
    t.match(verdict, { state, part, ...(confidence === undefined ? {} : { confidence }) });
    t.match(verdict.sentence, says);
    t.equal(verdict.letter !== null, letter, 'a letter only where the partner is the likely cause');
    t.ok(verdict.next.length > 0);
    t.strictSame(judgeIncident(evidence), verdict, 'equal evidence, equal verdict');
    if (part !== null) t.notOk(verdict.ruledOut.some((one) => one.part === part || verdict.alternatives.some((other) => other.part === one.part)), 'nothing is both');
  });
}

t.test('every rule has a case that it decides or adds to', async (t) => {
  const found = new Set(CASES.flatMap(([, evidence]) => {
    const earlier: Parameters<(typeof INCIDENT_RULES)[number]['find']>[1][number][] = [];
    for (const { name, find } of INCIDENT_RULES) earlier.push(...find(evidence, earlier).map((one) => ({ rule: name, ...one })));
    return earlier.map(({ rule }) => rule);
  }));
  t.strictSame(INCIDENT_RULES.filter(({ name }) => !found.has(name)).map(({ name }) => name), []);
});

t.test('the letter has our address, the times, and what was tried from which ports', async (t) => {
  const { letter } = judgeIncident(wrong(both(silentTry)));
  t.match(letter, /from the source address 34\.123\.45\.67 \(seen from outside at 2026-03-02T11:59:58Z\)/);
  t.match(letter, new RegExp(`We connect to ${HOST.replaceAll('.', '\\.')} from`));
  t.equal(letter?.match(/2026-03-02T11:59:57Z TCP to 203\.0\.113\.(?:10|20):443 from 10\.128\.0\.11:\d+: no answer in 3000 ms/g)?.length, 4);
  t.match(letter, /From the same network we reach the echo endpoint 203\.0\.113\.80\./);
});

t.test('a handshake that gets no answer may have met a path on which only small packets pass', async (t) => {
  for (const [code, why] of [['tls-timeout', /path MTU/], ['tls-failed', /inspects TLS/]] as const)
    t.match(judgeIncident(wrong(both(tlsFault('x', code)))), { part: 'partner-tls', alternatives: [{ part: 'route', why }] });
});

t.test('what is ruled out, and why', async (t) => {
  const { ruledOut } = judgeIncident(wrong(both(silentTry)));
  t.strictSame(ruledOut.map(({ part }) => part), ['pod', 'proxy', 'nat', 'resolver', 'parent']);
  t.match(ruledOut.find(({ part }) => part === 'nat')?.why, /sees 34\.123\.45\.67, as expected/);
});

t.test('hundreds of refusals are not called few', async (t) => {
  const clearsPod = (count: number): boolean => judgeIncident(evidenceOf({ denials: [denied({ code: 'circuit-open', destination: 'eco-sit', count }), denied({ client: 'b', count: 60 })] })).ruledOut.some(({ part }) => part === 'pod');
  t.strictSame([clearsPod(5), clearsPod(60), clearsPod(500)], [true, false, false]);
});

t.test('earlier answers of a resolver, and earlier failures', async (t) => {
  const { evidence } = judgeIncident(wrong({ names: [nameTry({ addresses: [], inUse: null, fault: { code: 'name-not-found', detail: 'x' }, history: [{ at: NOW - 2_000, addresses: [], code: 'name-not-found' }, { at: NOW - 9_000, addresses: [A], code: null }] })], tries: [] }));
  t.strictSame(evidence.map(({ text }) => text).slice(1), [`Look-up of ${HOST}: name-not-found`, `${HOST} resolved to ${A}`]);
});

t.test('a certificate that has expired is named beside another source address', async (t) => {
  t.match(judgeIncident(wrong(both(tlsFault('x (CERT_HAS_EXPIRED)')), { source: mismatch })), { part: 'nat', also: [{ part: 'partner-tls', state: 'broken', sentence: /has expired/ }] });
});

t.test('a clock that is off is reported with its direction', async (t) => {
  const { evidence } = judgeIncident(wrong({}, { clocks: [{ where: 'a:80', ahead: -400_000_000 }, { where: 'b:80', ahead: 400_001_000 }] }));
  t.strictSame(evidence.map(({ text }) => text), ['The Date of a:80 is 400000 s behind our clock', 'The Date of b:80 is 400001 s ahead of our clock']);
});

t.test('a partner whose answers take long is not cleared by a quick answer to the try, nor accused', async (t) => {
  const at = (p99: number): ReturnType<typeof judgeIncident> => judgeIncident(wrong({ took: { p50: p99 / 2, p99 } }));
  const slow = at(29_800);
  t.equal(slow.state, 'ok', 'it may be slow by nature');
  t.match(slow.sentence, /at every address\. But requests to eco-sit took long in the last minute: half of them up to 15 s, one in a hundred 30 s or more\.$/);
  t.notOk(slow.ruledOut.some(({ part }) => part === 'partner-application'));
  t.match(slow.next.join(' '), /phases\.firstByte/);
  const usual = at(5_000);
  t.notMatch(usual.sentence, /But/);
  t.ok(usual.ruledOut.some(({ part }) => part === 'partner-application'));
  t.equal(judgeIncident(wrong({ took: null })).sentence, usual.sentence);
});

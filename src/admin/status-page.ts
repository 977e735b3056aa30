/** The page at `/` of the admin listener: what runs here, at a glance. Holds no secrets and loads nothing. */
import { createHash } from 'node:crypto';
import type { Config, DestinationConfig, ListenAddress } from '../config/config.ts';
import type { RuleEnd } from '../config/rule-ends.ts';
import type { DenialsView } from '../explain/recent-denials.ts';
import type { PolicyChange } from '../reload/policy-change.ts';
import type { EnforcementView } from '../self-test/self-test.ts';
import type { SourceView } from '../source-ip/source-proof.ts';
import type { HealthView } from '../telemetry/destination-health.ts';
import type { TunnelsView } from '../telemetry/open-tunnels.ts';
import { escapeMarkup, escapeText } from '../telemetry/safe-text.ts';
import { ADMIN_PATHS } from './problem.ts';
import { renderDestinations, renderTunnels } from './traffic-routes.ts';

/** What the status page shows of the process and its configuration. */
export interface AdminInfo {
  readonly version: string;
  /** Of the configuration in force; null: it came from no file. */
  readonly configFile: string | null;
  readonly configHash: string;
  /** Ms since the epoch. */
  readonly loadedAt: number;
  readonly config: {
    readonly listeners: Config['listeners'];
    readonly destinations: readonly Pick<DestinationConfig, 'name' | 'hosts' | 'ports'>[];
  };
  /** What the self-test found. */
  readonly enforcement: EnforcementView;
  /** Rules that have an end, the next first. */
  readonly ruleEnds: readonly RuleEnd[];
  /** Open now. */
  readonly tunnels: number;
  /** Under way now. */
  readonly exchanges: number;
  readonly ports: PortsInfo;
}

/** The answer of `/readyz`. */
export interface Readiness {
  readonly ready: boolean;
  /** Why not ready, one sentence each; empty when ready. */
  readonly reasons: readonly string[];
  /** What deserves a look though it does not keep traffic away. */
  readonly warnings: readonly string[];
  /** What the latest reload changed in decisions; absent or null: there was none, or it is being compared. */
  readonly policyChange?: PolicyChange | null;
}

const STYLESHEET =
  'body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}' +
  'table{border-collapse:collapse}th,td{text-align:left;vertical-align:top;padding:.25rem 1.5rem .25rem 0}' +
  'td{font-family:ui-monospace,monospace}.bad{color:#c62828}';

/** Nothing but this very style sheet may take effect, whatever the page should come to hold. */
export const STATUS_PAGE_CSP =
  `default-src 'none'; style-src 'sha256-${createHash('sha256').update(STYLESHEET).digest('base64')}'; ` +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** The whole HTML page; every value in it is escaped. */
export function renderStatusPage(info: AdminInfo, readiness: Readiness, source: SourceView, denials: DenialsView, traffic: { readonly destinations: readonly HealthView[]; readonly tunnels: TunnelsView }, uptimeSeconds: number, drain = ''): string {
  const { listeners, destinations } = info.config;
  const state = readiness.ready ? '<p>Ready.</p>' : `<p class="bad">Not ready.</p>${list(readiness.reasons)}`;
  const warnings = readiness.warnings.length === 0 ? '' : `<h2>Warnings</h2>${list(readiness.warnings)}`;
  const { policyChange = null } = readiness;
  const changes = policyChange === null ? '' : `<h2>Latest reload</h2><p>${escapeMarkup(`${policyChange.at}: ${policyChange.sentence}`)}</p>${policyChange.classes.length === 0 ? '' : list(policyChange.classes)}`;
  const facts = [
    ['Version', info.version],
    ['Up for', formatDuration(uptimeSeconds)],
    ['Configuration', info.configFile ?? 'from no file'],
    ['Its hash', info.configHash],
    ['Last good load', new Date(info.loadedAt).toISOString()],
    ['HTTP listeners', listeners.http.map(authority).join(', ')],
    ['TLS listeners', listeners.tls.map(authority).join(', ') || 'none'],
    ['Admin listener', authority(listeners.admin)],
    ['Open tunnels', String(info.tunnels)],
    ['Exchanges under way', String(info.exchanges)],
    ['Source address', describeSource(source)],
    ['Allowlist', info.enforcement.words],
  ].map(([name = '', value = '']) => `<tr><th scope="row">${escapeMarkup(name)}</th><td>${escapeMarkup(value)}</td></tr>`);
  const links = Object.entries(ADMIN_PATHS).map(([path, what]) => `<li><a href="${path}">${path}</a> ${escapeMarkup(what)}</li>`);
  return (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">' +
    `<title>eco-egress</title><style>${STYLESHEET}</style></head><body><h1>eco-egress</h1>${state}${warnings}${changes}` +
    `<table>${facts.join('')}</table><h2>Destinations</h2>` +
    `${renderDestinations(destinations, traffic.destinations)}${renderTunnels(traffic.tunnels)}${drain}${renderRuleEnds(info.ruleEnds)}${renderPorts(info.ports)}${denialsTable(denials)}` +
    `<h2>Here</h2><ul>${links.join('')}</ul></body></html>\n`
  );
}

const MOST_RULE_ENDS = 50;
const MOST_NAMES = 5;
const STATES = { ended: 'has ended', soon: 'ends soon', later: '' } as const;

/** Empty where no rule has an end. */
function renderRuleEnds(ends: readonly RuleEnd[]): string {
  if (ends.length === 0) return '';
  const some = (names: readonly string[]): string => (names.length > MOST_NAMES ? `${names.slice(0, MOST_NAMES).join(', ')} and ${names.length - MOST_NAMES} more` : names.join(', '));
  const rows = ends.slice(0, MOST_RULE_ENDS).map(({ rule, clients, destinations, owner, reason, ticket, until, state }) => {
    const texts = [rule, some(clients), some(destinations), new Date(until).toISOString(), STATES[state], owner ?? '-', ticket ?? '-', reason ?? '-'];
    return `<tr>${texts.map((text) => `<td>${escapeMarkup(escapeText(text))}</td>`).join('')}</tr>`;
  });
  const more = ends.length > MOST_RULE_ENDS ? `<p>And ${ends.length - MOST_RULE_ENDS} more, which npx eco-egress check --expired shows.</p>` : '';
  return `<h2>Rules that end</h2><table><tr><th>Rule</th><th>Clients</th><th>Destinations</th><th>Until</th><th></th><th>Owner</th><th>Ticket</th><th>Reason</th></tr>${rows.join('')}</table>${more}`;
}

function denialsTable({ total, frequent }: DenialsView): string {
  if (frequent.length === 0) return '<h2>Denials</h2><p>None since the start.</p>';
  const rows = frequent.map(({ client, host, count, overcount, latest }) => {
    const { code, requestId, clientAddress } = latest;
    const who = client === '-' ? clientAddress : client;
    const often = overcount === 0 ? String(count) : `${count - overcount} to ${count}`;
    const link = `<a href="/explain/${encodeURIComponent(requestId)}">${escapeMarkup(code)}</a>`;
    return `<tr><td>${escapeMarkup(escapeText(who))}</td><td>${escapeMarkup(escapeText(host))}</td><td>${often}</td><td>${link}</td></tr>`;
  });
  return (
    `<h2>Denials</h2><p>${total} since the start. The most frequent:</p>` +
    `<table><tr><th>Client</th><th>Host</th><th>Times</th><th>The latest, and why</th></tr>${rows.join('')}</table>`
  );
}

function describeSource({ result, seen, expected, since }: SourceView): string {
  if (result === 'off') return expected.length === 0 ? 'not asked' : `should be ${expected.join(' or ')}, not asked`;
  if (result === 'pending') return 'not known yet';
  const should = expected.length === 0 ? 'nothing expected' : result === 'match' ? 'as expected' : `should be ${expected.join(' or ')}`;
  return `${seen ?? 'not known'}: ${result}, ${should}, since ${since ?? '-'}`;
}

const list = (items: readonly string[]): string => `<ul>${items.map((item) => `<li>${escapeMarkup(item)}</li>`).join('')}</ul>`;

const authority = ({ host, port }: ListenAddress): string => `${host.includes(':') ? `[${host}]` : host}:${port}`;

function formatDuration(seconds: number): string {
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  if (hours >= 24) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  if (hours > 0) return `${hours} h ${minutes % 60} min`;
  return minutes > 0 ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${Math.floor(seconds)} s`;
}

interface PortsInfo {
  /** NAT ports towards one address and port; null: not limited. */
  readonly limit: number | null;
  readonly destinations: ReadonlyMap<string, { readonly used: number; readonly highWater: number; readonly refused: number }>;
  /** By client: tunnels that were over soon, most first. */
  readonly shortTunnels: readonly (readonly [client: string, tunnels: number])[];
}

const CLIENTS_SHOWN = 10;

/** The part of the status page about NAT ports: how many are in use, and which clients use them up. */
function renderPorts({ limit, destinations, shortTunnels }: PortsInfo): string {
  const of = limit === null ? 'They are counted, and not limited: <code>nat.ports</code> is not set.' : `There are ${limit} towards each address and port.`;
  const rows = [...destinations].map(([name, { used, highWater, refused }]) => row(name, used, highWater, refused));
  const use = rows.length === 0 ? '<p>None has been used yet.</p>' : `<table><tr><th>Destination</th><th>In use</th><th>Most so far</th><th>Refused</th></tr>${rows.join('')}</table>`;
  return `<h2>NAT ports</h2><p>${of}</p>${use}${clients(shortTunnels)}`;
}

function clients(shortTunnels: PortsInfo['shortTunnels']): string {
  if (shortTunnels.length === 0) return '';
  const rows = shortTunnels.slice(0, CLIENTS_SHOWN).map(([client, tunnels]) => row(client, tunnels));
  return (
    '<p>These clients open tunnels that end within 30 seconds, and so take a port for each request or two. Through the gateway, or with keep-alive, they would share a few:</p>' +
    `<table><tr><th>Client</th><th>Short tunnels</th></tr>${rows.join('')}</table>`
  );
}

function row(name: string, ...numbers: number[]): string {
  return `<tr><td>${escapeMarkup(name)}</td>${numbers.map((number) => `<td>${number}</td>`).join('')}</tr>`;
}

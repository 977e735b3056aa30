/** `eco-egress check`: every fault of a configuration file, or what it permits. Starts nothing. */
import { styleText } from 'node:util';
import type { ClientConfig, Config, DestinationConfig, ListenAddress, RuleConfig } from '../config/config.ts';
import { type ConfigFinding, formatFindings } from '../config/finding.ts';
import { loadConfig, type LoadResult } from '../config/load.ts';
import { ENDS_SOON, listRuleEnds, type RuleEnd } from '../config/rule-ends.ts';
import { formatSettings } from '../config/settings.ts';
import { TUNNEL_FORMS } from '../config/warnings.ts';
import { describeRates } from '../policy/rate-text.ts';
import { formatAuthority } from '../targets/host.ts';
import { mergePorts } from '../targets/port-range.ts';
import { formatMoment } from '../targets/quote.ts';
import { allowedMethods } from '../targets/request-target.ts';
import { printableJson } from '../telemetry/safe-text.ts';
import { type CommandIo, EXIT, misuse } from './io.ts';
import { chooseConfigFile, openConfig } from './open-config.ts';
import { withSettings } from './settings-file.ts';

interface CheckOptions {
  readonly config?: string;
  /** File with the variables that the Deployment gets. */
  readonly settings?: string;
  readonly json?: boolean;
  /** Also print each value in effect and its origin. */
  readonly effective?: boolean;
  /** Print rules that have ended or soon will instead. */
  readonly expired?: boolean;
}

/** Resolves to 0 for a file that can be served, warnings or not, and to 2 for a faulty one; with `expired` to 1 where a rule has ended. */
export function runCheck(options: CheckOptions, io: CommandIo): Promise<number> {
  const read = withSettings(io.env, options.settings);
  if ('problem' in read) return Promise.resolve(misuse(io, read.problem));
  const told: CommandIo = { ...io, env: read.env };
  if (options.expired === true)
    return Promise.resolve(
      options.effective === true ? misuse(io, '--expired and --effective exclude each other: choose one.') : checkRuleEnds(options, told),
    );
  return Promise.resolve(options.json === true ? checkJson(options, told) : checkText(options, told));
}

function checkText(options: CheckOptions, io: CommandIo): number {
  const opened = openConfig(options.config, io);
  if (opened === null) return EXIT.usage;
  const { config, file, hash, warnings } = opened;
  const parts = [`${file} is valid (${hash}).\n`, permitText(config, io.stdout), listenerText(config)];
  if (warnings.length > 0) {
    const count = warnings.length === 1 ? 'One warning:' : `${warnings.length} warnings:`;
    parts.push(`${count}\n\n${formatFindings(warnings, 'warning', io.stdout)}`);
  }
  if (options.effective === true) parts.push(`Values in effect:\n${formatSettings(opened.settings())}`);
  io.stdout.write(parts.join('\n'));
  return EXIT.ok;
}

function checkJson(options: CheckOptions, io: CommandIo): number {
  const file = chooseConfigFile(options.config, io.env);
  const result = loadConfig({ file, env: io.env });
  io.stdout.write(printableJson(reportOf(file, result, options.effective === true)));
  return result.ok ? EXIT.ok : EXIT.usage;
}

function reportOf(file: string, result: LoadResult, effective: boolean): unknown {
  if (!result.ok) return { ok: false, file, faults: result.faults.map(plain) };
  const { config, hash, warnings } = result;
  return {
    ok: true,
    file,
    hash,
    permits: listPermits(config),
    listeners: config.listeners,
    warnings: warnings.map((warning) => ({ ...plain(warning), kind: warning.kind })),
    ...(effective ? { settings: result.settings() } : {}),
  };
}

function plain({ file, line, column, path, problem, instead }: ConfigFinding): Omit<ConfigFinding, 'excerpt'> {
  return { file, line, column, path, problem, instead };
}

function permitText(config: Config, stream: NodeJS.WritableStream): string {
  const permits = listPermits(config);
  const reports = config.mode === 'report';
  const some = [...permits, ...config.destinations].some(({ report }) => report);
  if (permits.length === 0)
    return reports
      ? 'It permits nothing, but report mode denies nothing.\n'
      : some
        ? 'It permits nothing, and denies everything but what passes in report mode.\n'
        : 'It permits nothing: every request is denied.\n';
  const what = reports
    ? 'Report mode denies nothing; enforced, it would permit this alone'
    : `It permits this, and denies everything else${some ? ' but what passes in report mode' : ''}`;
  return `${what}:\n\n${permits.map((permit) => formatPermit(permit, stream)).join('\n')}`;
}

function listenerText({ listeners, tlsServer }: Config): string {
  const line = (kind: string, { host, port }: ListenAddress, what: readonly string[]): string =>
    `  ${kind.padEnd(6)} ${formatAuthority(host, port).padEnd(22)} ${what.join(', ')}`;
  const lines = listeners.http.map((listener) => line('http', listener, listener.forms));
  lines.push(
    ...listeners.tls.map((listener) =>
      line('tls', listener, tlsServer === null ? listener.forms.filter((form) => form === 'sni') : listener.forms),
    ),
  );
  lines.push(line('admin', listeners.admin, ['/metrics', '/healthz', '/readyz']));
  return `Listeners:\n${lines.join('\n')}\n`;
}

// What a configuration permits: an entry for each rule, client and destination.

type PermitRow = ReturnType<typeof permitOf>;

/** In the order of the rules; permits that an earlier rule grants without limits are left out, unless report mode lets more pass. */
function listPermits(config: Config): PermitRow[] {
  const unlimited = new Set<string>();
  const clientsOf = finder(config.clients);
  const destinationsOf = finder(config.destinations);
  return config.rules.flatMap((rule, index) => {
    const isLimited = [rule.methods, rule.paths, rule.from, rule.until].some((limit) => limit !== null);
    const named = destinationsOf(rule.destinations);
    return clientsOf(rule.clients)
      .flatMap((client) =>
        named.flatMap((destination) => {
          const pair = `${client.name} ${destination.name}`;
          const reports = rule.report && Date.now() < (rule.until ?? Infinity);
          if (unlimited.has(pair) && !reports) return [];
          if (!isLimited) unlimited.add(pair);
          return [permitOf(client, destination, rule, `rules[${index}]`, reports || destination.report)];
        }),
      )
      .filter(({ forms, methods, report }) => (forms.length > 0 && methods?.length !== 0) || report);
  });
}

/** Finds entries by their names, in the order of the file. */
function finder<T extends { readonly name: string }>(entries: readonly T[]): (names: readonly string[]) => T[] {
  const places = new Map(entries.map(({ name }, index) => [name, index]));
  const placesOf = (names: readonly string[]): number[] => names.flatMap((name) => places.get(name) ?? []);
  return (names) =>
    placesOf(names)
      .sort((one, other) => one - other)
      .flatMap((place) => entries[place] ?? []);
}

/** @param report the rule, until it ends, or the destination is in report mode: other requests pass too, and are reported */
function permitOf(client: ClientConfig, destination: DestinationConfig, rule: RuleConfig, place: string, report: boolean) {
  const { gateway, name, hosts, ports, addresses, via, resolve, proxyProtocol } = destination;
  const hidden = rule.methods !== null || rule.paths !== null;
  const needsCredentials = client.basic !== null || client.tokens !== null || client.certificates !== null;
  return {
    client: client.name,
    // The credentials the client needs: one of each that is not null.
    clientAddresses: client.addresses,
    clientUsers: client.basic?.map(({ user }) => user) ?? null,
    clientTokenSubjects: client.tokens?.flatMap(({ subjects }) => subjects) ?? null,
    clientCertificates: client.certificates,
    destination: name,
    hosts,
    ports,
    // Those that can reach it: gateway only where the destination has one, tunnels only where the rule lists no methods
    // or paths, raw TLS only for clients that need no credentials, which it cannot show.
    forms: destination.forms.filter(
      (form) => (form !== 'gateway' || gateway !== null) && !(hidden && TUNNEL_FORMS.has(form)) && !(needsCredentials && form === 'sni'),
    ),
    gateway:
      gateway === null
        ? null
        : `${gateway.prefix} -> ${gateway.scheme}://${formatAuthority(gateway.host, gateway.port)}${gateway.basePath}`,
    methods:
      rule.methods === null || destination.methods === null
        ? (rule.methods ?? destination.methods)
        : common(rule.methods, destination.methods),
    paths: rule.paths ?? destination.paths,
    // A path has to be in both lists.
    pathsWithin: rule.paths === null ? null : destination.paths,
    from: isoMoment(rule.from),
    until: isoMoment(rule.until),
    owner: rule.owner,
    reason: rule.reason,
    ticket: rule.ticket,
    addresses,
    via: via.map((hop) => hop.name),
    resolve,
    proxyProtocol: proxyProtocol === 'off' ? null : proxyProtocol,
    rule: place,
    report,
    rate: describeRates(rule.rate),
  };
}

/** HEAD is not named beside GET, unless the first list does. */
function common(one: readonly string[], other: readonly string[]): string[] {
  const both = [...allowedMethods(one)].filter((method) => allowedMethods(other).has(method));
  return both.filter((method) => one.includes(method) || !both.includes('GET'));
}

function isoMoment(moment: number | null): string | null {
  return moment === null ? null : new Date(moment).toISOString();
}

/** Columns; the width of a terminal and of a documentation page. */
const CHECK_WIDTH = 100;
const CHECK_LABEL_WIDTH = 11;
/** Lines of one list. */
const MOST_LINES = 12;

/** A paragraph, no line longer than 100 columns unless one entry is. NO_COLOR is honoured. */
function formatPermit(permit: PermitRow, stream: NodeJS.WritableStream): string {
  const { client, destination, rule, report, hosts, ports, methods, paths, pathsWithin, proxyProtocol } = permit;
  const forms = permit.forms.map((form) => (form === 'gateway' ? `gateway ${permit.gateway?.split(' ')[0] ?? ''}` : form));
  const lines: [label: string, entries: readonly string[]][] = [
    ['from', permit.clientAddresses ?? ['anywhere']],
    ['as user', permit.clientUsers ?? []],
    ['token of', permit.clientTokenSubjects ?? []],
    ['certificate', permit.clientCertificates ?? []],
    ['hosts', hosts],
    ['ports', mergePorts(ports).map(String)],
    ['by', forms],
    ['methods', methods ?? ['any']],
    ['paths', paths ?? ['any']],
    ['and within', pathsWithin ?? []],
    ['resolving', resolving(permit)],
    ['by way of', permit.via],
    ['when', when(permit)],
    ['at most', permit.rate],
    ['owner', permit.owner === null ? [] : [permit.owner]],
    ['ticket', permit.ticket === null ? [] : [permit.ticket]],
    ['sends', proxyProtocol === null ? [] : [`the client's address, by PROXY ${proxyProtocol}`]],
    ['report mode', report ? ['every other request for it passes too, and is reported'] : []],
  ];
  const head = styleText('bold', `${client} may reach ${destination}`, { stream });
  const reason = permit.reason === null ? '' : formatList('reason', permit.reason.split(' '), ' ');
  return `${head} (${rule})\n${lines
    .filter(([, entries]) => entries.length > 0)
    .map(([label, entries]) => formatList(label, entries))
    .join('')}${reason}`;
}

function formatList(label: string, entries: readonly string[], separator = ', '): string {
  const lines: string[] = [];
  let line = '';
  let told = 0;
  for (const [index, entry] of entries.entries()) {
    const text = index === entries.length - 1 ? entry : `${entry}${separator}`;
    if (line !== '' && 4 + CHECK_LABEL_WIDTH + line.length + text.trimEnd().length > CHECK_WIDTH) {
      if (lines.length === MOST_LINES - 1) break;
      lines.push(line);
      line = '';
    }
    line += text;
    told += 1;
  }
  lines.push(line);
  if (told < entries.length) lines.push(`and ${entries.length - told} more, which --json shows`);
  return lines.map((text, index) => `  ${(index === 0 ? label : '').padEnd(CHECK_LABEL_WIDTH)}  ${text.trimEnd()}\n`).join('');
}

function resolving({ addresses, via, resolve }: PermitRow): readonly string[] {
  if (via.length > 0 && resolve === 'parent') return ['to what the parent finds'];
  return addresses === null ? ['to public addresses'] : addresses.map((range, index) => (index === 0 ? `to ${range}` : range));
}

function when({ from, until }: PermitRow): string[] {
  return [...(from === null ? [] : [`from ${from.slice(0, 16)}Z`]), ...(until === null ? [] : [`until ${until.slice(0, 16)}Z`])];
}

// `--expired`: rules that have ended, and those that soon will.

function checkRuleEnds(options: CheckOptions, io: CommandIo): number {
  if (options.json === true) {
    const file = chooseConfigFile(options.config, io.env);
    const result = loadConfig({ file, env: io.env });
    const ends = result.ok ? listRuleEnds(result.config.rules, Date.now()) : [];
    const of = (wanted: RuleEnd['state']): unknown[] =>
      ends
        .filter(({ state }) => state === wanted)
        .map(({ rule, clients, destinations, owner, reason, ticket, until }) => ({
          rule,
          clients,
          destinations,
          owner,
          reason,
          ticket,
          until: isoMoment(until),
        }));
    const report = result.ok
      ? { ok: !hasEnded(ends), file, hash: result.hash, ended: of('ended'), soon: of('soon') }
      : reportOf(file, result, false);
    io.stdout.write(printableJson(report));
    return !result.ok ? EXIT.usage : hasEnded(ends) ? EXIT.failed : EXIT.ok;
  }
  const opened = openConfig(options.config, io);
  if (opened === null) return EXIT.usage;
  const ends = listRuleEnds(opened.config.rules, Date.now()).filter(({ state }) => state !== 'later');
  const count = (state: RuleEnd['state']): number => ends.filter((end) => end.state === state).length;
  const rules = (number: number): string => (number === 0 ? 'No rule' : number === 1 ? 'One rule' : `${number} rules`);
  const [ended, soon] = [count('ended'), count('soon')];
  const days = ENDS_SOON / 86_400_000;
  const summary = `${opened.file}: ${rules(ended).toLowerCase()} ${ended > 1 ? 'have' : 'has'} ended, and ${rules(soon).toLowerCase()} ${soon > 1 ? 'end' : 'ends'} within ${days} days.\n`;
  io.stdout.write([summary, ...ends.map((end) => formatRuleEnd(end, io.stdout))].join('\n'));
  return ended > 0 ? EXIT.failed : EXIT.ok;
}

function hasEnded(ends: readonly RuleEnd[]): boolean {
  return ends.some(({ state }) => state === 'ended');
}

function formatRuleEnd(
  { rule, clients, destinations, owner, reason, ticket, until, state }: RuleEnd,
  stream: NodeJS.WritableStream,
): string {
  const at = formatMoment(until);
  const head = state === 'ended' ? `${rule} has ended, at ${at}` : `${rule} ends soon, at ${at}`;
  const lists = [
    formatList('clients', clients),
    formatList('to', destinations),
    owner === null ? '' : formatList('owner', [owner]),
    ticket === null ? '' : formatList('ticket', [ticket]),
    reason === null ? '' : formatList('reason', reason.split(' '), ' '),
  ];
  return `${styleText(state === 'ended' ? 'red' : 'yellow', head, { stream })}\n${lists.join('')}`;
}

/** An answer for people: one line for each thing that was looked at, and what to write to get another one. */
import { escapeUnsafe } from '../telemetry/safe-text.ts';
import type { ExplainAnswer, ExplainedHop, JudgedAddress } from './answer.ts';

const LABEL = 14;
const MARK = { allow: '✓', report: '!', deny: '✗' } as const;

/** Ends with a line break; safe to print. */
export function formatAnswer(answer: ExplainAnswer): string {
  const { asked, remedy, change, report, notes } = answer;
  const lines = [`${asked.method} ${asked.target}${asked.host === null ? '' : `, Host: ${asked.host}`}`, ''];
  const add = (label: string, texts: readonly string[]): void => {
    for (const [i, text] of texts.entries()) lines.push(`  ${(i === 0 ? label : '').padEnd(LABEL)}${text}`);
  };
  add('target', targetLines(answer));
  add('client', clientLines(answer));
  add('destination', destinationLines(answer));
  add('rule', answer.rules.map(({ rule, applies, detail }) => `${applies ? '✓' : '✗'} ${rule}  ${detail}`));
  add('addresses', addressLines(answer.addresses ?? []));
  add('by way of', answer.way.flatMap(wayLines));
  add('verdict', verdictLines(answer));
  if (report !== null) add('report mode', [report]);
  if (change !== null) add(change.yaml === null ? 'what to do' : 'to permit it', [change.text, ...(change.yaml === null ? [] : ['', ...change.yaml.trimEnd().split('\n').map((line) => `  ${line}`), ''])]);
  else if (remedy !== null) add('what to do', [remedy]);
  add('note', notes);
  return `${lines.map((line) => printable(line.trimEnd())).join('\n').trimEnd()}\n`;
}

function targetLines({ target }: ExplainAnswer): string[] {
  if (target === null) return [];
  const { host, port, form, path, ambiguity } = target;
  const lines = [`${host}, port ${port}, as ${form}${path === null ? '' : `, path ${path}`}`];
  return ambiguity === null ? lines : [...lines, `✗ the path ${ambiguity}`];
}

function clientLines({ client, clients, clientsLeftOut, peer }: ExplainAnswer): string[] {
  const credentials = [
    ...(peer.user === null ? [] : [`user ${peer.user}`]),
    ...(peer.token === null ? [] : [`token of ${peer.token.subject}`]),
    ...(peer.sans.length === 0 ? [] : [`certificate of ${peer.sans.join(', ')}`]),
  ];
  const who = [peer.address, ...credentials].join(', ');
  const chosen = clients.find((one) => one.chosen);
  if (chosen !== undefined) return [`✓ ${chosen.name}  ${chosen.kinds.map(({ detail }) => detail).join('; ')}`];
  if (client !== null) return [`✓ ${client}  ${who}`];
  const near = clients.map(({ name, kinds }) => `✗ ${name}  ${kinds.filter(({ matches }) => !matches).map(({ detail }) => detail).join('; ')}`);
  return [who, ...near, ...(clientsLeftOut === 0 || near.length === 0 ? [] : [`✗ ${clientsLeftOut} others`])];
}

function destinationLines({ destinations }: ExplainAnswer): string[] {
  return destinations.flatMap(({ name, pattern, checks }) => [
    `${checks.every(({ passes }) => passes) ? '✓' : '✗'} ${name}  has ${pattern}`,
    ...checks.map(({ check, passes, detail }) => `  ${passes ? '✓' : '✗'} ${check.padEnd(6)} ${detail}`),
  ]);
}

function addressLines(addresses: readonly JudgedAddress[]): string[] {
  const width = Math.max(0, ...addresses.map(({ address }) => address.length));
  return addresses.flatMap(({ address, class: kind, via, reference, verdict, detail }) => [
    `${MARK[verdict]} ${address.padEnd(width)}  ${[kind ?? 'no plain address', via === null ? '' : `through ${via}`, reference ?? ''].filter((part) => part !== '').join(', ')}`,
    ...(detail === null ? [] : [`  ${detail}`]),
  ]);
}

function wayLines({ hop, parents }: ExplainedHop): string[] {
  return parents.flatMap(({ url, addresses, detail }) => [`${hop}  ${url}`, ...addressLines(addresses ?? []).map((line) => `  ${line}`), ...(detail === null ? [] : [`  ✗ ${detail}`])]);
}

function verdictLines({ verdict, code, status, why }: ExplainAnswer): string[] {
  const refusal = status === null ? code : `${code} (${status})`;
  if (verdict === 'deny') return [`✗ denied: ${refusal}`, why];
  if (verdict === 'report') return [status === null ? `! passes in report mode; enforced: ${code}` : `! passes in report mode, but would fail: ${refusal}`, why];
  return code === 'ok' ? [`✓ allowed`, why] : [`✓ allowed, but would fail: ${refusal}`, why];
}

/** Names of the configuration and arguments are shown as well: whatever is in them, it is text on one line. */
function printable(line: string): string {
  return escapeUnsafe(JSON.stringify(line).slice(1, -1).replaceAll('\\"', '"').replaceAll('\\\\', '\\'));
}

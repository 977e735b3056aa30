/** Turns the errors of the schema library into faults with advice. */
import type * as z from 'zod';
import { adviseSpace, type Complain, formatPath, nearest, type Path, quoteValue, showValue, suggest } from './finding.ts';
import { placeAt, type Tree, UNREADABLE } from './read-tree.ts';
import { ADVICE_SEPARATOR } from './schema.ts';

/** Text for one issue: problem and advice, one line each; for unknown keys the advice for each key in turn. */
export const explainIssue: z.core.$ZodErrorMap = (issue) => {
  const say = (problem: string, instead: string) => `${problem}${ADVICE_SEPARATOR}${instead}`;
  const { input } = issue;
  if (issue.code === 'unrecognized_keys') {
    const known = Object.keys((issue.inst as z.ZodObject).def.shape);
    return issue.keys.map((key) => adviseSpace(key) ?? suggest(key, known)).join(ADVICE_SEPARATOR);
  }
  if (issue.code === 'too_small') return say('The list is empty.', 'Write at least one entry, or remove the key.');
  if (issue.code === 'invalid_value') {
    const values = issue.values.map(String);
    const near = typeof input === 'string' ? nearest(input.toLowerCase(), values) : null;
    const choice =
      values.length === 1
        ? `Write ${values.join('')}${typeof input === 'string' ? ', without quotes' : ''}.`
        : `Write one of: ${values.join(', ')}.`;
    return say(
      `${showValue(input)} is not possible here.`,
      near === null || values.length === 1 ? choice : `Did you mean ${near}? ${choice}`,
    );
  }
  if (issue.code === 'invalid_type') {
    if (issue.expected === 'array')
      return say(`Expected a list, found ${found(input)}.`, 'Write [a, b], or one entry per line after "- ".');
    if (issue.expected === 'boolean') return say(`${showValue(input)} is neither true nor false.`, 'Write true or false, without quotes.');
    return say(`Expected a mapping (key: value), found ${found(input)}.`, 'Write its keys one per line, indented below it.');
  }
  return say(issue.message ?? 'This value is not possible here.', '');
};

/** In the middle of a sentence. */
function found(input: unknown): string {
  const shown = showValue(input);
  return typeof input === 'object' ? shown.charAt(0).toLowerCase() + shown.slice(1) : shown;
}

/** Makes a finding of each issue of zod, with its place in the file. */
export function complainAbout(issues: readonly z.core.$ZodIssue[], tree: Tree, complain: Complain): void {
  for (const issue of issues) {
    const path = issue.path as Path;
    const value = valueAt(tree.value, path);
    const lines = issue.message.split(ADVICE_SEPARATOR);
    if (value === UNREADABLE) continue;
    if (issue.code === 'unrecognized_keys') {
      for (const [index, key] of issue.keys.entries()) {
        complain([...path, key], `There is no key ${quoteValue(key)} ${inWhat(path)}.`, lines[index] ?? '', 'key');
      }
    } else if (value === undefined) {
      if (!isMisspelt(path, issues)) complainAboutMissing(path, tree, complain);
    } else {
      const emptied = issue.code === 'too_small' ? (placeAt(tree.root, [...path, 0])?.variables ?? []) : [];
      if (emptied.length > 0)
        complain(path, `The list is empty, because ${areEmpty(emptied)}.`, `Set ${emptied.join(' or ')}, or write an entry here.`);
      else
        complain(
          path,
          lines[0] ?? '',
          lines.slice(1).join(' '),
          issue.code === 'custom' && issue.params?.['hidden'] === true ? 'hidden' : 'value',
        );
    }
  }
}

/** True when the finding of an unknown key next to it suggests this one. */
function isMisspelt(missing: Path, issues: readonly z.core.$ZodIssue[]): boolean {
  const parent = formatPath(missing.slice(0, -1));
  const name = String(missing.at(-1));
  return issues.some(
    (issue) =>
      issue.code === 'unrecognized_keys' &&
      formatPath(issue.path as Path) === parent &&
      issue.keys.some((key) => nearest(key, [name]) !== null),
  );
}

function complainAboutMissing(path: Path, tree: Tree, complain: Complain): void {
  const key = String(path.at(-1));
  const variables = placeAt(tree.root, path)?.variables ?? [];
  if (variables.length > 0) {
    complain(path, `${key} is needed, but ${areEmpty(variables)}.`, `Set ${variables.join(' or ')}, or write a value here.`);
  } else {
    complain(
      path.slice(0, -1),
      `${key} is missing ${inWhat(path.slice(0, -1))}.`,
      key === 'version' ? 'Write version: 1 at the top.' : `Add ${key}: ${EXAMPLES[`${String(path[0])} ${key}`] ?? EXAMPLES[key] ?? ''}`,
      'key',
    );
  }
}

/** An example of each required key; with its section, where another key has the same name. */
const EXAMPLES: Readonly<Record<string, string>> = {
  addresses: '["10.8.0.0/14"], or basic, tokens or certificates',
  user: 'dynatrace-sit',
  hash: '$scrypt$ln=15,r=8,p=1$salt$hash, made with: npx eco-egress hash-password',
  issuer: 'https://kubernetes.default.svc',
  audience: 'eco-egress',
  subjects: '["system:serviceaccount:dynatrace-sit:*"]',
  jwksFile: 'keys.json, or jwksUrl',
  trustedPeers: '["10.0.0.0/28"], the addresses of the load balancer: from anyone else this would be believed too',
  names: '["eco-egress.eco-egress.svc"], the names by which clients call this proxy',
  certFile: 'tls.crt',
  keyFile: 'tls.key',
  clientCaFile: 'clients.pem, the authorities of their certificates',
  hosts: '["eco-sit.telus.internal"]',
  ports: '[443]',
  prefix: '/eco',
  url: 'https://eco-sit.telus.internal',
  'hops url': 'http://activegateway.telus.internal:3128',
  namespace: 'dynatrace-sit',
  address: '"0.0.0.0:8080"',
  clients: '[name of a client]',
  destinations: '[name of a destination]',
  config: 'egress.yaml, the file that is tested',
  tests: 'and below it a list of tests',
  perAddress: '{ requests: 50/s }, or perClient',
  requests: '50/s, or tunnels, sent or received',
  endpoint: 'https://collector.example/v1/traces',
  request: 'GET https://eco-sit.telus.internal/api/status',
  expect: 'allow, deny or report',
};

function areEmpty(variables: readonly string[]): string {
  return `${variables.join(' and ')} ${variables.length === 1 ? 'is' : 'are'} empty`;
}

function inWhat(path: Path): string {
  return path.length === 0 ? 'at the top of the file' : `in ${formatPath(path)}`;
}

/** UNREADABLE if the path leads through something unreadable. A step into a text that was split stays at the text. */
function valueAt(value: unknown, path: Path): unknown {
  let at = value;
  for (const step of path) {
    if (typeof at !== 'object' || at === null) return at;
    at = (at as Readonly<Record<string | number, unknown>>)[step];
  }
  return at;
}

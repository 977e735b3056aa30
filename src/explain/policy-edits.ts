/** The additions of one policy compared to another, as edits of a file, and the new text of the changed parts. */
import { type ClientConfig, type DestinationConfig, FORMS, type RateConfig, type RateLimits, type RuleConfig } from '../config/config.ts';
import type { PolicyConfig } from '../policy/compile.ts';

/** Lists of a destination that a change can extend, by their key. */
const LISTS = {
  ports: ['ports'],
  forms: ['forms'],
  addresses: ['addresses'],
  methods: ['http', 'methods'],
  paths: ['http', 'paths'],
} as const;
type ListKey = keyof typeof LISTS;

/** One change of a file; none removes anything. */
export type PolicyEdit =
  | { readonly kind: 'client'; readonly client: ClientConfig }
  | { readonly kind: 'destination'; readonly destination: DestinationConfig }
  /** `whole` is the new list, of which `added` is the end. */
  | {
      readonly kind: 'list';
      readonly destination: string;
      readonly path: readonly string[];
      readonly whole: readonly (string | number)[];
      readonly added: readonly (string | number)[];
    }
  | { readonly kind: 'rule'; readonly rule: RuleConfig };

/** In the order of the file. @param after has all of `before`, with new entries and longer lists */
export function listEdits(before: PolicyConfig, after: PolicyConfig): PolicyEdit[] {
  return [
    ...after.clients.slice(before.clients.length).map((client) => ({ kind: 'client', client }) as const),
    ...after.destinations.flatMap((destination, index): PolicyEdit[] => {
      const old = before.destinations[index];
      return old === undefined ? [{ kind: 'destination', destination }] : listLonger(old, destination);
    }),
    ...after.rules.slice(before.rules.length).map((rule) => ({ kind: 'rule', rule }) as const),
  ];
}

function listLonger(old: DestinationConfig, destination: DestinationConfig): PolicyEdit[] {
  return (Object.keys(LISTS) as ListKey[]).flatMap((key): PolicyEdit[] => {
    const whole = listIn(destination, key);
    const added = whole.slice(listIn(old, key).length);
    return added.length === 0 ? [] : [{ kind: 'list', destination: destination.name, path: LISTS[key], whole, added }];
  });
}

function listIn(destination: DestinationConfig, key: ListKey): readonly (string | number)[] {
  return (destination[key] ?? []).map((entry) => (typeof entry === 'number' ? entry : String(entry)));
}

/** YAML of whole new entries, and of changed lists. */
export function renderEdits(edits: readonly PolicyEdit[]): string {
  const clients = edits.flatMap((edit) => (edit.kind === 'client' ? [`  ${renderClient(edit.client)}`] : []));
  const rules = edits.flatMap((edit) => (edit.kind === 'rule' ? [`  - ${renderRule(edit.rule)}`] : []));
  const destinations: string[] = [];
  let open = '';
  for (const edit of edits) {
    if (edit.kind === 'destination') destinations.push(...renderDestination(edit.destination).map((line) => `  ${line}`));
    if (edit.kind !== 'list') continue;
    const [key = '', inner] = edit.path;
    const place = `  ${edit.destination}:\n`;
    // Lists of one destination are grouped, those of `http` last.
    if (!open.startsWith(place)) destinations.push(place.trimEnd());
    if (inner === undefined) destinations.push(`    ${key}: ${flowList(edit.whole)}`);
    else destinations.push(...(open === `${place}${key}` ? [] : [`    ${key}:`]), `      ${inner}: ${flowList(edit.whole)}`);
    open = `${place}${inner === undefined ? '' : key}`;
  }
  return [
    ['clients', clients],
    ['destinations', destinations],
    ['rules', rules],
  ]
    .map(([name, lines]) => (lines?.length === 0 ? '' : `${String(name)}:\n${(lines as string[]).join('\n')}\n`))
    .join('');
}

/** A client with addresses only, on one line. */
export function renderClient({ name, addresses }: ClientConfig): string {
  return `${name}: { addresses: ${flowList(addresses ?? [])} }`;
}

/** The text of a new destination, one line each; the first names it. */
export function renderDestination({ name, hosts, ports, addresses, forms }: DestinationConfig): string[] {
  return [
    `${name}:`,
    `  hosts: ${flowList(hosts)}`,
    `  ports: ${flowList(ports.map((port) => (typeof port === 'number' ? port : String(port))))}`,
    ...(addresses === null ? [] : [`  addresses: ${flowList(addresses)}`]),
    ...(forms.length === FORMS.length ? [] : [`  forms: ${flowList(forms)}`]),
  ];
}

/** On one line. */
export function renderRule({ clients, destinations, methods, paths, rate }: RuleConfig): string {
  const parts = [
    `clients: ${flowList(clients)}`,
    `destinations: ${flowList(destinations)}`,
    methods === null ? '' : `methods: ${flowList(methods)}`,
    paths === null ? '' : `paths: ${flowList(paths)}`,
    rate === null ? '' : `rate: ${renderRate(rate)}`,
  ];
  return `{ ${parts.filter((part) => part !== '').join(', ')} }`;
}

function renderRate({ perAddress, perClient, whenExhausted }: RateConfig): string {
  const scope = (name: string, limits: RateLimits | null): string[] =>
    limits === null
      ? []
      : [
          `${name}: { ${Object.entries(limits)
            .flatMap(([kind, limit]) => (limit === null ? [] : [`${kind}: ${limit.text}`]))
            .join(', ')} }`,
        ];
  return `{ ${[...scope('perAddress', perAddress), ...scope('perClient', perClient), ...(whenExhausted === 'refuse' ? [] : [`whenExhausted: ${whenExhausted}`])].join(', ')} }`;
}

/** On one line; JSON is valid YAML, and names need no quotes. */
function flowList(entries: readonly (string | number)[]): string {
  return `[${entries.map(renderEntry).join(', ')}]`;
}

/** One entry of a list. */
export function renderEntry(entry: string | number): string {
  return typeof entry === 'number' || (/^[A-Za-z][A-Za-z0-9-]*$/.test(entry) && !/^(?:true|false|null|yes|no|on|off|y|n)$/i.test(entry))
    ? String(entry)
    : JSON.stringify(entry);
}

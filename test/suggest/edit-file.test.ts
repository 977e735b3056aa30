/** Changes are inserted into the text of a file: everything else of it stays, to the byte. */
import fc from 'fast-check';
import t from 'tap';
import { parse } from 'yaml';
import type { PolicyEdit } from '../../src/explain/policy-edits.ts';
import { editFile } from '../../src/suggest/edit-file.ts';
import { makeClient, makeDestination, makeRule } from '../support/policy.ts';
import { holds } from '../support/property.ts';

const NEW: PolicyEdit[] = [
  { kind: 'client', client: makeClient('new-client', { addresses: ['10.0.0.1/32'] }) },
  { kind: 'destination', destination: makeDestination('new', ['x.example'], { ports: [443], forms: ['connect'] }) },
  { kind: 'list', destination: 'eco', path: ['ports'], whole: [], added: [22, '8000-8100'] },
  { kind: 'rule', rule: makeRule(['pods'], ['new']) },
  { kind: 'rule', rule: makeRule(['pods'], ['eco'], { methods: ['GET'], paths: ['/a'] }) },
];

interface Tree {
  readonly clients?: Readonly<Record<string, unknown>>;
  readonly destinations: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly rules?: readonly unknown[];
}

/** As the loader reads lists. */
const listOf = (value: unknown): string[] => (Array.isArray(value) ? value : String(value).split(',')).map((entry) => String(entry).trim());

const styles: [what: string, text: string][] = [
  ['lines', 'version: 1\n# who\nclients:\n  pods: { addresses: ["10.0.0.0/8"] } # all\n\ndestinations:\n  # the partner\n  eco:\n    hosts: [eco.example] # exact\n    ports: [443] # https\n\n# last\nrules:\n  - { clients: [pods], destinations: [eco] } # one\n# end\n'],
  ['four columns, lists in lines', 'destinations:\n    eco:\n        hosts: eco.example\n        ports:\n        - 443 # https\n        # more to come\nclients:\n    pods:\n        addresses: 10.0.0.0/8\nrules:\n-   clients: pods\n    destinations:\n        - eco\n'],
  ['brackets', '{ version: 1, clients: { pods: { addresses: 10.0.0.0/8 } }, destinations: { eco: { hosts: eco.example, ports: [443] } }, rules: [{ clients: pods, destinations: eco }] }\n'],
  ['brackets in lines, with a comma at the end', 'clients: {\n  pods: { addresses: 10.0.0.0/8 },\n}\ndestinations:\n  eco: { hosts: eco.example, ports: [443,], }\nrules: [\n  { clients: pods, destinations: eco },\n]\n'],
  ['brackets in lines, with comments', 'clients: {\n  pods: { addresses: 10.0.0.0/8 } # all\n}\ndestinations:\n  eco:\n    hosts: eco.example\n    ports: [\n      443, # https\n      80 # http\n    ]\nrules: [\n  { clients: pods, destinations: eco } # one\n  # end\n]\n'],
  ['a number, no rules, no clients, no line break at the end', 'destinations:\n  eco: { hosts: eco.example, ports: 443 }'],
  ['a text with commas', 'destinations:\n  eco: { hosts: eco.example, ports: "443, 80" }\nclients:\nrules:\n# nothing yet\n'],
  ['a plain text with commas', 'destinations:\n  eco:\n    ports: 443, 80 # two\n    hosts: eco.example\nrules: []\nclients: {}\n'],
  ['empty lines and Windows', 'destinations:\r\n  eco:\r\n    hosts: eco.example\r\n    ports: [443]\r\n\r\n\r\nrules:\r\n  - { clients: pods, destinations: eco }\r\n'],
  ['an item of many lines at the end', 'destinations:\n  eco: { hosts: eco.example, ports: [443] }\nrules:\n  - clients: pods\n    destinations: eco\n    reason: >-\n      folded\n      text\n\n'],
];

function check(text: string): string | null {
  const edited = editFile(text, NEW);
  if ('problems' in edited) return edited.problems.join();
  const [before, after] = [parse(text) as Tree, parse(edited.text) as Tree];
  const same = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other);
  const { eco: oldEco, ...oldOthers } = before.destinations;
  const { eco, new: made, ...others } = after.destinations;
  if (!same(listOf(eco?.['ports']), [...listOf(oldEco?.['ports']), '22', '8000-8100'])) return 'ports';
  if (!same({ ...eco, ports: 0 }, { ...oldEco, ports: 0 }) || !same(others, oldOthers)) return 'what was there';
  if (!same(made, { hosts: ['x.example'], ports: [443], forms: ['connect'] })) return 'the destination';
  if (!same(after.rules, [...(before.rules ?? []), { clients: ['pods'], destinations: ['new'] }, { clients: ['pods'], destinations: ['eco'], methods: ['GET'], paths: ['/a'] }])) return 'rules';
  if (!same(after.clients, { ...before.clients, 'new-client': { addresses: ['10.0.0.1/32'] } })) return 'clients';
  // What was written is there still, in its order: only insertions came.
  let at = 0;
  for (const line of text.split(/\r?\n/).map((each) => each.trim()).filter((each) => each.startsWith('#') || each.includes(' # '))) {
    const comment = line.slice(line.indexOf('#'));
    at = edited.text.indexOf(comment, at);
    if (at === -1) return `lost: ${comment}`;
    at += comment.length;
  }
  return null;
}

t.test('each style of writing', async (t) => {
  for (const [what, text] of styles) t.equal(check(text), null, what);
  const [, text = ''] = styles[0] ?? [];
  const edited = editFile(text, NEW);
  t.strictSame('text' in edited ? edited.text : '', `version: 1
# who
clients:
  pods: { addresses: ["10.0.0.0/8"] } # all
  new-client: { addresses: ["10.0.0.1/32"] }

destinations:
  # the partner
  eco:
    hosts: [eco.example] # exact
    ports: [443, 22, "8000-8100"] # https
  new:
    hosts: ["x.example"]
    ports: [443]
    forms: [connect]

# last
rules:
  - { clients: [pods], destinations: [eco] } # one
  - { clients: [pods], destinations: [new] }
  - { clients: [pods], destinations: [eco], methods: [GET], paths: ["/a"] }
# end
`);
});

t.test('what is written elsewhere is named', async (t) => {
  t.strictSame(editFile('destinations:\n  eco: { ports: "${PORTS}" }\n', NEW), { problems: ['destinations.eco.ports is taken from a variable: add 22, "8000-8100" by hand'] });
  t.match(editFile('destinations: "${ALL}"\n', NEW), { problems: [/^destinations\.eco\.ports is not written there as a list/, /^destinations is not written there as YAML: add new: \{ hosts: \["x\.example"\], ports: \[443\], forms: \[connect\] \} by hand$/] });
});

t.test('any layout', async (t) => {
  const space = fc.constantFrom('', '\n', '\n\n', '# a comment\n', '\n# a comment\n\n');
  const ports = fc.constantFrom('[443]', '[ 443 ]', '443', '"443"', "'443, 80'", '443, 80', '\n      - 443', '\n      - 443 # https\n      - 80', '\n    - 443');
  const rules = fc.constantFrom('', 'rules: []\n', 'rules:\n  - { clients: pods, destinations: eco }\n', 'rules:\n- clients: pods\n  destinations: [ eco ] # x\n', 'rules: [ { clients: pods, destinations: eco } ]\n');
  const clients = fc.constantFrom('', 'clients: {}\n', 'clients:\n  pods: { addresses: 10.0.0.0/8 }\n', 'clients: { pods: { addresses: 10.0.0.0/8 } } # all\n');
  holds(
    t,
    'layouts',
    3_000,
    fc.property(space, space, space, ports, rules, clients, fc.boolean(), fc.boolean(), (one, two, three, port, rule, client, last, trailing) => {
      const eco = `destinations:\n  eco:\n${last ? '    hosts: eco.example\n' : ''}    ports: ${port}\n${last ? '' : '    hosts: eco.example\n'}`;
      const text = `${one}${client}${two}${eco}${three}${rule}`;
      const wrong = check(trailing ? text.trimEnd() : text);
      if (wrong !== null) throw new Error(`${wrong}:\n${text}`);
    }),
  );
});

/** docs/glossary.md: sorted, each term once, and the words that users see in logs, metrics and the configuration are in it or on the page that it names. */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadConfig } from '../../src/config/load.ts';
import { FAULTS } from '../../src/errors.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import { readDocRows } from '../support/doc-table.ts';
import { readScrape } from '../support/prometheus.ts';
import { wordsOf } from '../support/words-of.ts';

const DOCS = join(import.meta.dirname, '../../docs');
const read = (page: string): string => readFileSync(join(DOCS, page), 'utf8');
const GLOSSARY = read('glossary.md');

interface Row {
  readonly term: string;
  readonly meaning: string;
  /** The page that says more. */
  readonly page: string;
}

function readRows(text: string): Row[] {
  return [...text.matchAll(/^\| (?!Term \|)(.+?) \| (.+?) \| \[[^\]]+\]\(([\w./-]+)(?:#[^)]*)?\) \|$/gm)].map(([, term = '', meaning = '', page = '']) => ({ term: term.replaceAll('`', ''), meaning, page }));
}

const ROWS = readRows(GLOSSARY);
const rowOf = (term: string): Row | undefined => ROWS.find((row) => row.term === term);
/** Whether it is a term, or in code letters in the meaning of `term` or on the page named there. */
function isKnown(word: string, term: string): boolean {
  const row = rowOf(term);
  return rowOf(word) !== undefined || (row !== undefined && (row.meaning.includes(`\`${word}\``) || read(row.page).includes(`\`${word}\``)));
}

/** Terms with fixed words, and where the source has these. */
const KINDS: Record<string, readonly string[]> = {
  form: wordsOf('FORMS'),
  outcome: wordsOf('Outcome'),
  'last outcome': wordsOf('LAST_OUTCOMES'),
  phase: ['dns', 'tcp', 'hop', 'tls', 'firstByte'],
  probe: wordsOf('SourceResult'),
  cause: wordsOf('SilenceCause'),
  reload: wordsOf('ReloadResult'),
  warning: wordsOf('WARNING_KINDS'),
  blame: wordsOf('Blame'),
  code: [...Object.keys(FAULTS), 'ok'],
  verdict: ['allow', 'deny', 'report'],
  'access line': wordsOf('ClosedBy').filter((word) => word !== '-'),
  'trusted peer': wordsOf('PEER_HEADERS'),
  label: [...wordsOf('LOSS_REASONS'), ...wordsOf('PARTS'), ...wordsOf('ADMIN_REFUSALS')],
};
/** Labels whose values come from the configuration or the machine. */
const NAMES = new Set(['client', 'destination', 'certificate', 'hash', 'file', 'ip', 'version', 'node', 'rule', 'owner', 'ticket']);
/** The term for what other labels hold. Where there is none, the words are of the label itself. */
const TERMS: Record<string, string> = { form: 'form', outcome: 'outcome', code: 'code', error: 'code', phase: 'phase', kind: 'warning', hop: 'hop', parent: 'parent proxy' };

t.test('the table', async (t) => {
  t.equal(ROWS.length, GLOSSARY.split('\n').filter((line) => line.startsWith('| ') && !line.startsWith('| Term |')).length, 'every row has a term, a meaning and a page');
  const terms = ROWS.map(({ term }) => term.toLowerCase());
  t.strictSame(terms, [...new Set(terms)].toSorted(), 'sorted, none twice');
  for (const index of [join(DOCS, 'README.md'), join(DOCS, '../CONTRIBUTING.md')]) t.match(readFileSync(index, 'utf8'), /\((docs\/)?glossary\.md\)/, index);
});

t.test('what is wrong is found', async (t) => {
  t.strictSame(readRows('| Term | Meaning | More |\n|---|---|---|\n| `b` | B, `x` | [P](p.md#a) |\n| a | A |'), [{ term: 'b', meaning: 'B, `x`', page: 'p.md' }]);
  t.notOk(isKnown('no-such-word', 'form'));
  t.throws(() => wordsOf('NoSuchType'));
});

t.test('words of the source', async (t) => {
  for (const [term, words] of Object.entries(KINDS)) {
    t.ok(rowOf(term), term);
    t.ok(words.length > 1, term);
    for (const word of words) t.ok(isKnown(word, term), `${term}: ${word}`);
  }
});

t.test('every form is a term, and every kind of listener is named', async (t) => {
  for (const form of wordsOf('FORMS')) t.ok(rowOf(form), form);
  const loaded = loadConfig({ file: 'egress.yaml', env: {}, readFile: () => 'version: 1\n' });
  t.ok(loaded.ok);
  if (loaded.ok) for (const kind of Object.keys(loaded.config.listeners)) t.match(rowOf('listener')?.meaning, `\`${kind}\``, kind);
});

t.test('labels of the metrics', async (t) => {
  const policy = { hash: 'abc123', file: '/e.yaml', loadedAt: 0, warnings: new Map(), clients: ['pods'], destinations: ['eco-sit'], limits: { connections: 1, tunnels: 1 }, certificates: new Map(), hops: new Map(), ruleEnds: [] };
  const { samples } = readScrape(await createMetrics({ policy, version: '1.0.0' }).exposition.text());
  let seen = 0;
  for (const series of samples.keys()) {
    if (!series.startsWith('eco_egress_')) continue;
    for (const [, label = '', value = ''] of series.matchAll(/(\w+)="([^"]*)"/g)) {
      if (NAMES.has(label) || value === '-') continue;
      seen += 1;
      if (!isKnown(value, TERMS[label] ?? 'label')) t.fail(`${series}: ${value} is explained nowhere`);
    }
  }
  t.ok(seen > 50);
  const labels = readDocRows('docs/metrics.md').filter(([name = '']) => name.startsWith('eco_egress_')).flatMap(([, , cell = '']) => cell.split(', ').filter((label) => label !== ''));
  for (const label of new Set(labels)) t.ok(NAMES.has(label) || TERMS[label] !== undefined || ['direction', 'state', 'class', 'reason', 'part', 'what', 'limit', 'result'].includes(label), `${label}: names, words of a term, or words of its own`);
});

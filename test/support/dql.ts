/** What a query in DQL asks for, as far as our own queries go: metrics with labels, and fields. Throws at what is none of it. */

/** By the name of a metric: its labels. */
export type DqlCatalogue = ReadonlyMap<string, ReadonlySet<string>>;

export interface DqlKnown {
  readonly metrics: DqlCatalogue;
  /** Of a log record. */
  readonly fields: ReadonlySet<string>;
  /** What labels and fields named `error` or `code` are compared with. */
  readonly codes: ReadonlySet<string>;
}

/** https://docs.dynatrace.com/docs/shortlink/dql-commands */
const COMMANDS = new Set(['timeseries', 'fetch', 'filter', 'fields', 'fieldsAdd', 'fieldsRemove', 'summarize', 'sort', 'limit', 'lookup', 'parse']);
const AGGREGATIONS = new Set(['sum', 'min', 'max', 'avg', 'percentile']);
const FUNCTIONS = new Set(['in', 'count', 'arrayMovingSum', 'arrayMax', 'arrayMin', 'arrayLast', 'isNotNull', 'isNull', 'now', 'unixSecondsFromTimestamp', 'upper', 'startsWith']);
const PARAMETERS = new Set(['by', 'filter', 'default', 'rate', 'union', 'sourceField', 'lookupField', 'fields']);
const WORDS = new Set(['true', 'false', 'null', 'and', 'or', 'not', 'asc', 'desc']);
const TOKEN = /\s*("(?:[^"\\]|\\.)*"|`[^`]+`|[A-Za-z_][\w.]*|\d+(?:\.\d+)?(?:ms|s|m|h|d)?|==|!=|<=|>=|[-+*/|(){}[\],:=<>])/y;
const PAIRS: Readonly<Record<string, string>> = { '(': ')', '{': '}', '[': ']' };

export function tokensOf(query: string): string[] {
  const tokens: string[] = [];
  const open: string[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < query.trimEnd().length) {
    const at = TOKEN.lastIndex;
    const token = TOKEN.exec(query)?.[1];
    if (token === undefined) throw new Error(`not DQL at character ${at}: ${query}`);
    if (token in PAIRS) open.push(PAIRS[token] ?? '');
    else if (Object.values(PAIRS).includes(token) && open.pop() !== token) throw new Error(`brackets do not pair: ${query}`);
    tokens.push(token);
  }
  if (open.length > 0) throw new Error(`a bracket is open: ${query}`);
  return tokens;
}

/** The commands between pipes; those of a query in brackets stay in one. */
function commandsOf(tokens: readonly string[]): string[][] {
  const commands: string[][] = [[]];
  let depth = 0;
  for (const token of tokens) {
    if (token in PAIRS) depth += 1;
    else if (Object.values(PAIRS).includes(token)) depth -= 1;
    if (token === '|' && depth === 0) commands.push([]);
    else commands.at(-1)?.push(token);
  }
  return commands;
}

const isName = (token: string | undefined): token is string => token !== undefined && /^[A-Za-z_`]/.test(token);

/** What is wrong with a query: metrics, labels and fields that do not exist, codes that nothing has. */
export function findDqlStrangers(query: string, known: DqlKnown): string[] {
  return strangersIn(tokensOf(query), known).strangers;
}

function strangersIn(tokens: readonly string[], known: DqlKnown, given?: ReadonlySet<string>): { strangers: string[]; fields: Set<string> } {
  const strangers: string[] = [];
  let fields = new Set<string>(given);
  for (const [name = '', ...rest] of commandsOf(tokens)) {
    if (!COMMANDS.has(name)) {
      strangers.push(`no command ${name}`);
      continue;
    }
    if (name === 'fetch') {
      if (rest.join(' ') !== 'logs') strangers.push(`no data ${rest.join(' ')}`);
      fields = new Set(known.fields);
      continue;
    }
    const before = fields;
    const made = new Set<string>();
    const grouped = new Set<string>();
    const metrics = rest.filter((token, index) => name === 'timeseries' && rest[index - 1] === '(' && AGGREGATIONS.has(rest[index - 2] ?? '') && isName(token));
    if (name === 'timeseries' && metrics.length === 0) strangers.push('it asks for no metric');
    for (const metric of metrics) if (!known.metrics.has(metric)) strangers.push(`no metric ${metric}`);
    let metric: string | null = null;
    let depthOfCall = 0;
    let depth = 0;
    let inBy = false;
    for (let index = 0; index < rest.length; index += 1) {
      const token = rest[index] ?? '';
      const next = rest[index + 1];
      if (name === 'lookup' && token === '[') {
        const end = closingOf(rest, index);
        const inner = strangersIn(rest.slice(index + 1, end), known);
        strangers.push(...inner.strangers);
        for (const field of inner.fields) made.add(field);
        index = end;
        continue;
      }
      if (token in PAIRS) depth += 1;
      if (Object.values(PAIRS).includes(token)) {
        depth -= 1;
        if (depth < depthOfCall) metric = null;
        if (depth === 0) inBy = false;
      }
      if (!isName(token) || WORDS.has(token)) continue;
      const field = token.replaceAll('`', '');
      if (next === '(') {
        if (AGGREGATIONS.has(token) && name === 'timeseries') {
          metric = rest[index + 2] ?? '';
          depthOfCall = depth + 1;
        } else if (!FUNCTIONS.has(token) && !AGGREGATIONS.has(token)) strangers.push(`no function ${token}`);
      } else if (next === ':') {
        if (!PARAMETERS.has(token)) strangers.push(`no parameter ${token}`);
        if (token === 'by') inBy = true;
      } else if (next === '=') made.add(field);
      else if (metrics.includes(token) && rest[index - 1] === '(') continue;
      else if (name === 'timeseries') {
        if (inBy) grouped.add(field);
        for (const one of metric === null ? metrics : [metric]) if (known.metrics.get(one)?.has(field) === false) strangers.push(`${one} has no label ${field}`);
        strangers.push(...strangeCodes(field, rest.slice(index + 1), known));
      } else {
        if (inBy) grouped.add(field);
        if (!before.has(field) && !made.has(field)) strangers.push(`no field ${field}`);
        strangers.push(...strangeCodes(field, rest.slice(index + 1), known));
      }
    }
    if (name === 'timeseries' || name === 'summarize') fields = new Set([...made, ...grouped]);
    else for (const field of made) fields.add(field);
  }
  return { strangers, fields };
}

function closingOf(tokens: readonly string[], at: number): number {
  let depth = 0;
  for (let index = at; index < tokens.length; index += 1) {
    if (tokens[index] === '[') depth += 1;
    if (tokens[index] === ']' && --depth === 0) return index;
  }
  return tokens.length;
}

/** Strings up to the next name or closing bracket. */
function strangeCodes(field: string, behind: readonly string[], { codes }: DqlKnown): string[] {
  if (field !== 'error' && field !== 'code') return [];
  const end = behind.findIndex((token) => isName(token) || token === ')' || token === '}');
  return behind.slice(0, end === -1 ? behind.length : end).filter((token) => token.startsWith('"') && !codes.has(token.slice(1, -1))).map((token) => `no code ${token.slice(1, -1)}`);
}

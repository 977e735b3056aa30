/**
 * One walk over a parsed YAML document: returns its plain value with variables
 * filled in. The position of a part in the file is found again when a finding
 * needs it.
 *
 * Variables are filled into scalars after parsing, so a value from the
 * environment is always one scalar, with any characters.
 */
import {
  type Document,
  isAlias,
  isCollection,
  isMap,
  isScalar,
  isSeq,
  type LineCounter,
  type ParsedNode,
  Scalar,
  type YAMLMap,
  type YAMLSeq,
} from 'yaml';
import { type Complain, type Path, quoteValue, type Range } from './finding.ts';

// Puts environment variables into one scalar: `${NAME}`, `${NAME:-default}`, and `$${` for a literal `${`.

/** The variables for `${NAME}` in a file. */
export type Environment = Readonly<Record<string, string | undefined>>;

interface Interpolated {
  readonly text: string;
  /** Names in the text, each once, set or not; empty: the scalar has none. */
  readonly variables: readonly string[];
  /** Those of them that yielded their default. */
  readonly defaulted: readonly string[];
  readonly problems: readonly { readonly problem: string; readonly instead: string }[];
}

const REFERENCE = /\$\$\{|\$\{([^}]*)(\}?)/g;
const BODY = /^([A-Za-z_]\w*)(?::-(.*))?$/s;

/** `:-` gives the default of a variable that is unset or empty, as in a shell. Values are never expanded again. */
export function interpolate(source: string, env: Environment): Interpolated {
  const variables: string[] = [];
  const defaulted: string[] = [];
  const problems: { problem: string; instead: string }[] = [];

  const text = source.replace(REFERENCE, (written, body: string | undefined, close: string) => {
    if (body === undefined) return '${';
    const match = BODY.exec(body);
    const name = match?.[1];
    const fallback = match?.[2];
    if (close === '') {
      problems.push({
        problem: `${quoteValue(written)} has no closing brace.`,
        instead: 'Write ${NAME} or ${NAME:-default}; $${ is a literal ${.',
      });
    } else if (name === undefined) {
      problems.push({
        problem: `${quoteValue(written)} is not a variable.`,
        instead: 'Write ${NAME} or ${NAME:-default}; $${ is a literal ${.',
      });
    } else if (fallback?.includes('${') === true) {
      problems.push({
        problem: `The default of ${name} holds another variable.`,
        instead: 'Write one variable with a plain default: ${NAME:-default}.',
      });
    } else {
      variables.push(name);
      // process.env inherits from Object.prototype: `toString` is not a variable.
      const value = Object.hasOwn(env, name) ? env[name] : undefined;
      if (value !== undefined && (value !== '' || fallback === undefined)) return value;
      if (fallback !== undefined) {
        defaulted.push(name);
        return fallback;
      }
      problems.push({
        problem: `The environment variable ${name} is not set.`,
        instead: `Set ${name}, or write a default: \${${name}:-default}.`,
      });
    }
    return '';
  });

  return { text, variables: [...new Set(variables)], defaulted: [...new Set(defaulted)], problems };
}

/** In place of a value that could not be read: the fault was reported, and further ones would be noise. */
export const UNREADABLE = Symbol('unreadable');

/** The position of a part of the file, and its origin. */
export interface NodePlace {
  /** The key; the value if there is no key. */
  readonly key: Range;
  readonly value: Range;
  /** One value, not a list or mapping. */
  readonly scalar: boolean;
  /** Environment variables it was made of. */
  readonly variables: readonly string[];
  /** Those of them that yielded their default. */
  readonly defaulted: readonly string[];
  /** By key, or position in the list; null for a scalar. An empty value is not in the document's value, but has a position. */
  readonly parts: ReadonlyMap<string | number, NodePlace> | null;
}

/** The plain value of a YAML document, and the place of every part of it. */
export interface Tree {
  readonly value: unknown;
  readonly root: NodePlace;
  /** All variables in the file. */
  readonly variables: ReadonlySet<string>;
}

/** The position of the part at `path`; undefined: there is none. */
export function placeAt(root: NodePlace, path: Path): NodePlace | undefined {
  let place: NodePlace | undefined = root;
  for (const step of path) place = place?.parts?.get(step);
  return place;
}

/** The result of expanding a scalar. */
interface Filling extends Pick<NodePlace, 'variables' | 'defaulted'> {
  readonly empty: boolean;
}

const NO_FILLING: Filling = { variables: [], defaulted: [], empty: false };

/** A position that finds its parts on demand: a file may have tens of thousands, and few have findings. */
class LazyPlace implements NodePlace {
  readonly key: Range;
  readonly value: Range;
  readonly #node: ParsedNode | null;
  readonly #fillings: ReadonlyMap<ParsedNode, Filling>;
  #parts: ReadonlyMap<string | number, NodePlace> | null = null;

  constructor(node: ParsedNode | null, key: Range | null, fillings: ReadonlyMap<ParsedNode, Filling>) {
    this.value = node === null ? (key ?? [0, 0]) : rangeOf(node);
    this.key = key ?? this.value;
    this.#node = node;
    this.#fillings = fillings;
  }

  get scalar(): boolean {
    return this.#node !== null && !isCollection(this.#node);
  }

  get variables(): readonly string[] {
    return this.#filling(this.#node).variables;
  }

  get defaulted(): readonly string[] {
    return this.#filling(this.#node).defaulted;
  }

  get parts(): ReadonlyMap<string | number, NodePlace> | null {
    return isCollection(this.#node) ? (this.#parts ??= isMap(this.#node) ? this.#entries(this.#node) : this.#items(this.#node)) : null;
  }

  #entries({ items }: YAMLMap.Parsed): Map<string, NodePlace> {
    const parts = new Map<string, NodePlace>();
    for (const { key, value } of items) {
      const name = keyName(key);
      if (!NO_KEYS.has(name) && !parts.has(name)) parts.set(name, new LazyPlace(value, rangeOf(key), this.#fillings));
    }
    return parts;
  }

  /** The next item takes the position of one that was empty. */
  #items({ items }: YAMLSeq.Parsed): Map<number, NodePlace> {
    const parts = new Map<number, NodePlace>();
    let position = 0;
    for (const item of items) {
      parts.set(position, new LazyPlace(item, null, this.#fillings));
      if (!this.#filling(item).empty) position += 1;
    }
    return parts;
  }

  #filling(node: ParsedNode | null): Filling {
    return (node === null ? undefined : this.#fillings.get(node)) ?? NO_FILLING;
  }
}

function rangeOf({ range: [start, end] }: ParsedNode): Range {
  return [start, end];
}

/** Names that no key may have: their values are not read. */
const NO_KEYS: ReadonlySet<string> = new Set(['', '__proto__', '<<']);

/** Empty for a key that is a list or mapping. */
function keyName(key: ParsedNode): string {
  return isScalar(key) ? key.source : '';
}

/** Reads a document with variables filled in. Unreadable parts are reported, and are `UNREADABLE` in the value. */
export function readTree(document: Document.Parsed, lines: LineCounter, env: Environment, complain: Complain): Tree {
  const used = new Set<string>();
  const fillings = new Map<ParsedNode, Filling>();
  /** The current position of the walk: tens of thousands of parts need no path of their own. */
  const here: (string | number)[] = [];
  const say = (problem: string, instead: string, aim?: Range | 'key'): void => {
    complain([...here], problem, instead, aim);
  };

  /** Undefined if variables yielded nothing, which counts as not written. */
  function read(node: ParsedNode | null): unknown {
    if (isMap(node)) return readMap(node);
    if (isSeq(node)) return readList(node.items);
    if (isAlias(node)) {
      if (node.source.startsWith('.'))
        say(
          `*${node.source} is not in quotes, and YAML takes a * at the beginning for a reference.`,
          `Write ${quoteValue(`*${node.source}`)}.`,
        );
      else
        say(
          `*${node.source} repeats another part of the file, which is not supported.`,
          'Write the value out: the file should show what it permits.',
        );
      return UNREADABLE;
    }
    if (isScalar(node) && typeof node.value === 'string') return node.value.includes('${') ? fillIn(node, node.value) : node.value;
    if (isScalar(node) && node.value !== null) return node.value;
    // With nothing between: `ticket: #123`.
    const cut = isScalar(node) && /^[^\s#]/.test(node.comment ?? '');
    say(
      'There is no value here.',
      `Write a value, or take the ${typeof here.at(-1) === 'number' ? 'entry' : 'key'} out.${cut ? ' A text that begins with # needs quotes.' : ''}`,
      'key',
    );
    return UNREADABLE;
  }

  function readList(nodes: readonly ParsedNode[]): unknown[] {
    const items: unknown[] = [];
    for (const node of nodes) {
      here.push(items.length);
      const item = read(node);
      here.pop();
      if (item !== undefined) items.push(item);
    }
    return items;
  }

  function fillIn(node: Scalar.Parsed, source: string): unknown {
    const { text, variables, defaulted, problems } = interpolate(source, env);
    for (const { problem, instead } of problems) say(problem, instead);
    if (problems.length > 0) return UNREADABLE;
    if (variables.length === 0) return text;
    for (const name of variables) used.add(name);
    const trimmed = text.trim();
    fillings.set(node, { variables, defaulted, empty: trimmed === '' });
    if (trimmed === '') return undefined;
    return node.type === Scalar.PLAIN ? readPlain(trimmed) : text;
  }

  /** The YAML value of unquoted text: a number, true or false, or else the text itself. */
  function readPlain(text: string): unknown {
    for (const tag of document.schema.tags) {
      if (tag.default === true && tag.collection === undefined && tag.test?.test(text) === true) {
        const resolved: unknown = tag.resolve(text, () => {}, {});
        const value = isScalar(resolved) ? resolved.value : resolved;
        if (typeof value === 'number' || typeof value === 'boolean') return value;
      }
    }
    return text;
  }

  function readMap(node: YAMLMap.Parsed): unknown {
    let readable = true;
    const result: Record<string, unknown> = {};
    const starts = new Map<string, number>();
    for (const { key, value } of node.items) {
      const name = keyName(key);
      const first = starts.get(name);
      readable &&= name !== '' && name !== '<<';
      if (name === '' || name === '__proto__') {
        say('A key here is not a plain word.', 'Write key: value, the key one word.', rangeOf(key));
      } else if (name === '<<') {
        say(
          '<< merges another part of the file, which is not supported.',
          'Write the keys out: the file should show what it permits.',
          rangeOf(key),
        );
      } else if (first !== undefined) {
        here.push(name);
        say(
          `${quoteValue(name)} is written twice; the first one is on line ${lines.linePos(first).line}.`,
          'Keep one of the two, or give them different names.',
          rangeOf(key),
        );
        here.pop();
      } else {
        starts.set(name, key.range[0]);
        here.push(name);
        const item = read(value);
        here.pop();
        if (item !== undefined) result[name] = item;
      }
    }
    return readable ? result : UNREADABLE;
  }

  return { value: read(document.contents), root: new LazyPlace(document.contents, [0, 0], fillings), variables: used };
}

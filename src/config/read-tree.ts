/**
 * One walk over a parsed YAML document: gives its plain value with variables
 * filled in, and remembers where in the file every part of it stands.
 *
 * Variables are filled into scalars after parsing, so a value from the
 * environment is always one scalar, whatever characters it holds.
 */
import { type Document, isAlias, isMap, isScalar, isSeq, type LineCounter, type ParsedNode, Scalar, type YAMLMap } from 'yaml';
import { type Complain, type Path, quoteValue, type Range } from './finding.ts';

// Puts environment variables into one scalar: `${NAME}`, `${NAME:-default}`, and `$${` for a literal `${`.

/** Variables that `${NAME}` in a file may take its value from. */
export type Environment = Readonly<Record<string, string | undefined>>;

interface Interpolated {
  readonly text: string;
  /** Names that were written, set or not; empty when the scalar has none. */
  readonly variables: readonly string[];
  /** Those of them that yielded their default. */
  readonly defaulted: readonly string[];
  readonly problems: readonly { readonly problem: string; readonly instead: string }[];
}

const REFERENCE = /\$\$\{|\$\{([^}]*)(\}?)/g;
const BODY = /^([A-Za-z_]\w*)(?::-(.*))?$/s;

/** `:-` stands in for a variable that is unset or empty, as in a shell. Values are never read for references again. */
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
      problems.push({ problem: `${quoteValue(written)} has no closing brace.`, instead: 'Write ${NAME} or ${NAME:-default}; $${ is a literal ${.' });
    } else if (name === undefined) {
      problems.push({ problem: `${quoteValue(written)} is not a variable.`, instead: 'Write ${NAME} or ${NAME:-default}; $${ is a literal ${.' });
    } else if (fallback?.includes('${') === true) {
      problems.push({ problem: `The default of ${name} holds another variable.`, instead: 'Write one variable with a plain default: ${NAME:-default}.' });
    } else {
      variables.push(name);
      // process.env inherits from Object.prototype: `toString` is no variable.
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

  return { text, variables, defaulted, problems };
}

/** Stands where a value could not be read: that was complained about, and all else said of it would be noise. */
export const UNREADABLE = Symbol('unreadable');

/** Where a part of the file stands, and what it was made of. */
export interface NodePlace {
  /** The key; the value where there is no key. */
  readonly key: Range;
  readonly value: Range;
  /** One value, not a list or mapping. */
  readonly scalar: boolean;
  /** Environment variables it was made of. */
  readonly variables: readonly string[];
  /** Those of them that yielded the default beside them. */
  readonly defaulted: readonly string[];
  /** By key, or position in the list; null for a scalar. A value that came out empty is not in the document's value, but has its place. */
  readonly parts: ReadonlyMap<string | number, NodePlace> | null;
}

/** The plain value of a YAML document, and the place of every part of it. */
export interface Tree {
  readonly value: unknown;
  readonly root: NodePlace;
  /** All that are written in it. */
  readonly variables: ReadonlySet<string>;
}

/** The place of the part at `path`; undefined where there is none. */
export function placeAt(root: NodePlace, path: Path): NodePlace | undefined {
  let place: NodePlace | undefined = root;
  for (const step of path) place = place?.parts?.get(step);
  return place;
}

const NONE: readonly string[] = [];

/** Reads a document with variables filled in. What cannot be read is complained about, and is `UNREADABLE` in the value. */
export function readTree(document: Document.Parsed, lines: LineCounter, env: Environment, complain: Complain): Tree {
  const used = new Set<string>();
  /** Where the walk is: tens of thousands of parts need no path of their own. */
  const here: (string | number)[] = [];
  const say = (problem: string, instead: string, aim?: Range | 'key'): void => {
    complain([...here], problem, instead, aim);
  };

  /** @returns the value, undefined where variables yielded nothing, which counts as not written; and its place */
  function read(node: ParsedNode | null, key: Range | null): [value: unknown, place: NodePlace] {
    const value: Range = node === null ? (key ?? [0, 0]) : [node.range[0], node.range[1]];
    const parts = new Map<string | number, NodePlace>();
    const place = { key: key ?? value, value, scalar: false, variables: NONE, defaulted: NONE, parts };
    if (isMap(node)) return [readMap(node, parts), place];
    if (isSeq(node)) return [readList(node.items, parts), place];
    return readScalar(node, { ...place, scalar: node !== null, parts: null });
  }

  function readList(nodes: readonly ParsedNode[], parts: Map<string | number, NodePlace>): unknown[] {
    const items: unknown[] = [];
    for (const node of nodes) {
      here.push(items.length);
      const [item, place] = read(node, null);
      here.pop();
      parts.set(items.length, place);
      if (item !== undefined) items.push(item);
    }
    return items;
  }

  function readScalar(node: ParsedNode | null, place: NodePlace): [value: unknown, place: NodePlace] {
    if (isAlias(node)) {
      say(`*${node.source} repeats another part of the file, which is not supported.`, 'Write the value out: the file should show what it permits.');
      return [UNREADABLE, place];
    }
    if (isScalar(node) && typeof node.value === 'string') return readText(node, node.value, place);
    if (isScalar(node) && node.value !== null) return [node.value, place];
    say('There is no value here.', 'Write a value, or take the whole line out.', 'key');
    return [UNREADABLE, place];
  }

  function readText(node: Scalar, source: string, place: NodePlace): [value: unknown, place: NodePlace] {
    if (!source.includes('${')) return [source, place];
    const { text, variables, defaulted, problems } = interpolate(source, env);
    for (const { problem, instead } of problems) say(problem, instead);
    if (problems.length > 0) return [UNREADABLE, place];
    if (variables.length === 0) return [text, place];
    for (const name of variables) used.add(name);
    const trimmed = text.trim();
    const value = trimmed === '' ? undefined : node.type === Scalar.PLAIN ? readPlain(trimmed) : text;
    return [value, { ...place, variables, defaulted }];
  }

  /** What YAML makes of unquoted text: a number, true or false, or else the text itself. */
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

  function readMap(node: YAMLMap.Parsed, parts: Map<string | number, NodePlace>): unknown {
    let merges = false;
    const result: Record<string, unknown> = {};
    for (const { key, value } of node.items) {
      const range: Range = [key.range[0], key.range[1]];
      const name = isScalar(key) ? key.source : '';
      const first = parts.get(name);
      if (name === '' || name === '__proto__') {
        say('A key here is not a plain word.', 'Write key: value, the key one word.', range);
      } else if (name === '<<') {
        merges = true;
        say('<< merges another part of the file, which is not supported.', 'Write the keys out: the file should show what it permits.', range);
      } else if (first !== undefined) {
        here.push(name);
        say(`${quoteValue(name)} is written twice; the first one is on line ${lines.linePos(first.key[0]).line}.`, 'Keep one of the two, or give them different names.', range);
        here.pop();
      } else {
        here.push(name);
        const [item, place] = read(value, range);
        here.pop();
        parts.set(name, place);
        if (item !== undefined) result[name] = item;
      }
    }
    return merges ? UNREADABLE : result;
  }

  const [value, root] = read(document.contents, [0, 0]);
  return { value, root, variables: used };
}

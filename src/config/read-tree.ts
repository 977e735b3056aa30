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
}

/** The plain value of a YAML document, and the place of every part of it. */
export interface Tree {
  readonly value: unknown;
  /** By `placeKey(path)`. A value that came out empty is not in `value`, but has its place. */
  readonly places: ReadonlyMap<string, NodePlace>;
}

/** Key of `Tree.places` for a path. */
export function placeKey(path: Path): string {
  return JSON.stringify(path);
}

/** Reads a document with variables filled in. What cannot be read is complained about, and is `UNREADABLE` in the value. */
export function readTree(document: Document.Parsed, lines: LineCounter, env: Environment, complain: Complain): Tree {
  const places = new Map<string, NodePlace>();

  /** Undefined: variables that yielded nothing, which counts as not written. */
  function read(node: ParsedNode | null, path: Path, key: Range): unknown {
    const value: Range = node === null ? key : [node.range[0], node.range[1]];
    const place: NodePlace = { key, value, scalar: isScalar(node) || isAlias(node), variables: [], defaulted: [] };
    places.set(placeKey(path), place);
    if (isMap(node)) return readMap(node, path);
    if (isSeq(node)) {
      const items: unknown[] = [];
      for (const item of node.items) {
        const read_ = read(item, [...path, items.length], [item.range[0], item.range[1]]);
        if (read_ !== undefined) items.push(read_);
      }
      return items;
    }
    if (isAlias(node)) {
      complain(path, `*${node.source} repeats another part of the file, which is not supported.`, 'Write the value out: the file should show what it permits.');
      return UNREADABLE;
    }
    if (isScalar(node) && typeof node.value === 'string') return readText(node, node.value, path, place);
    if (isScalar(node) && node.value !== null) return node.value;
    complain(path, 'There is no value here.', 'Write a value, or take the whole line out.', 'key');
    return UNREADABLE;
  }

  function readText(node: Scalar, source: string, path: Path, place: NodePlace): unknown {
    const { text, variables, defaulted, problems } = interpolate(source, env);
    if (problems.length > 0) {
      for (const { problem, instead } of problems) complain(path, problem, instead);
      return UNREADABLE;
    }
    if (variables.length === 0) return text;
    places.set(placeKey(path), { ...place, variables, defaulted });
    const trimmed = text.trim();
    if (trimmed === '') return undefined;
    return node.type === Scalar.PLAIN ? readPlain(trimmed) : text;
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

  function readMap(node: YAMLMap.Parsed, path: Path): unknown {
    let merges = false;
    const result: Record<string, unknown> = {};
    const lineOf = new Map<string, number>();
    for (const { key, value } of node.items) {
      const range: Range = [key.range[0], key.range[1]];
      const name = isScalar(key) ? key.source : '';
      const inside = [...path, name];
      const first = lineOf.get(name);
      if (name === '' || name === '__proto__') {
        complain(path, 'A key here is not a plain word.', 'Write key: value, the key one word.', range);
      } else if (name === '<<') {
        merges = true;
        complain(path, '<< merges another part of the file, which is not supported.', 'Write the keys out: the file should show what it permits.', range);
      } else if (first !== undefined) {
        complain(inside, `${quoteValue(name)} is written twice; the first one is on line ${first}.`, 'Keep one of the two, or give them different names.', range);
      } else {
        lineOf.set(name, lines.linePos(range[0]).line);
        const read_ = read(value, inside, range);
        if (read_ !== undefined) result[name] = read_;
      }
    }
    return merges ? UNREADABLE : result;
  }

  return { value: read(document.contents, [], [0, 0]), places };
}

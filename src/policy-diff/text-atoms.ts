/**
 * Divides all texts by several lists of patterns: each set of lists that some
 * text matches and no other list does, with such a text. The patterns run side
 * by side as one automaton, so nothing is sampled; texts that no request can
 * have (ambiguous paths, control characters) are left out.
 */
import { SEGMENT_STOPS } from '../policy/patterns.ts';
import { findAmbiguity } from '../targets/path.ts';
import type { Meter } from './work.ts';

/** One step of a pattern. */
type Token =
  | { readonly kind: 'char'; readonly code: number }
  /** Any number of characters, and no text of `stops`: characters, or escapes. */
  | { readonly kind: 'star'; readonly stops: readonly string[] }
  /** Any number of whole segments, each after a slash. */
  | { readonly kind: 'segments' };

/** A pattern, step by step. */
export type TokenPattern = readonly Token[];

/** The tokens of a path pattern in its canonical spelling, as `compilePaths` parses it. */
export function tokenizePath(pattern: string): TokenPattern {
  const star = pattern.indexOf('*');
  const rest = star === -1 ? '' : pattern.slice(star);
  if (star === -1) return literal(pattern);
  if (rest === '*' || rest === '**') return [...literal(pattern.slice(0, star)), { kind: 'star', stops: [] }];
  const segments = pattern.slice(1).split('/');
  if (segments.at(-1) === '**') segments[segments.length - 1] = '*';
  const tokens: Token[] = segments.flatMap((segment, index): Token[] =>
    segment === '**' && index < segments.length - 1
      ? [{ kind: 'segments' }]
      : [...literal('/'), ...withStars(segment, ['/', ...SEGMENT_STOPS], ['/'])],
  );
  return segments.at(-1)?.endsWith('*') === true ? [...tokens, { kind: 'segments' }] : tokens;
}

/** The tokens of a pattern as `matchWildcard` parses it. */
export function tokenizeText(pattern: string, stops: readonly string[]): TokenPattern {
  return withStars(pattern, stops, []);
}

function withStars(pattern: string, stops: readonly string[], lastStops: readonly string[]): Token[] {
  const last = pattern.length - 1;
  return pattern
    .split('')
    .map((character, index): Token =>
      character === '*' ? { kind: 'star', stops: index === last ? lastStops : stops } : { kind: 'char', code: character.charCodeAt(0) },
    );
}

function literal(text: string): Token[] {
  return text.split('').map((character): Token => ({ kind: 'char', code: character.charCodeAt(0) }));
}

/** The set of texts. */
export interface TextKind {
  /** `path`: unambiguous, with a slash at the beginning. `text`: without control characters, not empty. */
  readonly texts: 'path' | 'text';
  /** Paths with an encoded slash as well, which must match in both readings. */
  readonly encodedSlashes: boolean;
}

/** Texts that match the same lists. */
export interface TextAtom {
  /** For each list `1` or `0`. */
  readonly vector: string;
  /** The shortest of them, or one of the shortest. */
  readonly text: string;
  /** It has an encoded slash. */
  readonly slashed: boolean;
}

/** A list with a fixed text in front: the path of a gateway's URL. */
export interface TextList {
  readonly patterns: readonly TokenPattern[];
  readonly before: string;
}

/** Position of a pattern: `offset + 2 × token`, one more inside of a segment that `segments` takes. */
type Positions = readonly number[];

interface Machine {
  readonly tokens: readonly (Token | null)[];
  /** List of each pattern's end, by its position. */
  readonly ends: ReadonlyMap<number, number>;
  readonly others: string;
}

interface TextState {
  readonly text: string;
  readonly positions: Positions;
  /** In the reading in which an encoded slash is a slash; the same if there is none. */
  readonly slashes: Positions;
  readonly slashed: boolean;
  readonly shape: string;
}

/** Yields from time to time. @throws {TooMuchWork} */
export function* cutTexts(lists: readonly TextList[], kind: TextKind, meter: Meter): Generator<undefined, TextAtom[]> {
  const { machine, start } = buildMachine(lists);
  const atoms = new Map<string, TextAtom>();
  const first: TextState = { text: '', positions: start, slashes: start, slashed: false, shape: kind.texts === 'path' ? 'start' : 'empty' };
  const queue: TextState[] = [first];
  const seen = new Set<string>([keyOf(first)]);
  for (let at = 0; at < queue.length; at += 1) {
    const state = queue[at];
    if (state === undefined) break;
    if (at % 64 === 63) yield;
    if (endsWell(state.shape)) {
      const vector = vectorOf(machine, state, lists.length);
      const key = `${vector} ${state.slashed}`;
      if (!atoms.has(key)) atoms.set(key, { vector, text: state.text, slashed: state.slashed });
    }
    for (const symbol of symbolsAt(machine, state, kind)) {
      const shape = kind.texts === 'path' ? nextShape(state.shape, symbol) : 'text';
      if (shape === null) continue;
      const slash = symbol === ENCODED_SLASH;
      const positions = readSymbol(machine, state.positions, symbol);
      const slashes = state.slashed || slash ? readSymbol(machine, state.slashes, slash ? '/' : symbol) : positions;
      const next: TextState = { text: state.text + symbol, positions, slashes, slashed: state.slashed || slash, shape };
      meter.spend(1 + (positions.length >> 3));
      if (kind.texts === 'path' && next.text.includes('%') && TWICE_ENCODED.test(next.text)) continue;
      const key = keyOf(next);
      if (seen.has(key)) continue;
      seen.add(key);
      queue.push(next);
      meter.spend(STEPS_OF_STATE);
    }
  }
  return [...atoms.values()];
}

/** Whether two lists of patterns have a text in common. */
export function* intersects(one: TokenPattern, other: TokenPattern, kind: TextKind, meter: Meter): Generator<undefined, boolean> {
  const atoms = yield* cutTexts(
    [
      { patterns: [one], before: '' },
      { patterns: [other], before: '' },
    ],
    kind,
    meter,
  );
  return atoms.some(({ vector }) => vector === '11');
}

/** A state is kept until the end: adjacent stars can create any number of them. */
const STEPS_OF_STATE = 20;
const ENCODED_SLASH = '%2F';
/** What findAmbiguity refuses in a sequence of escapes, at the end of a text. */
const TWICE_ENCODED = /%25(?:25)*(?:2e|2f|5c|[01][0-9a-f]|7f)$|%c[01]$|%e0%[89][0-9a-f]$|%f0%8[0-9a-f]$/i;
/** How such a sequence may begin. */
const ESCAPES_BEFORE = /%25(?:25)*[0-9a-f]?$|%[ef]0$/i;

function keyOf({ positions, slashes, slashed, shape, text }: TextState): string {
  const escapes = text.includes('%') ? (ESCAPES_BEFORE.exec(text)?.[0] ?? '') : '';
  return `${shape} ${positions.join()} ${slashed ? slashes.join() : '-'} ${escapes}`;
}

function buildMachine(lists: readonly TextList[]): { machine: Machine; start: Positions } {
  const tokens: (Token | null)[] = [];
  const ends = new Map<number, number>();
  const starts: [position: number, before: string][] = [];
  const used = new Set<number>();
  for (const [list, { patterns, before }] of lists.entries()) {
    for (const pattern of patterns) {
      starts.push([tokens.length * 2, before]);
      for (const token of pattern) {
        tokens.push(token);
        if (token.kind === 'char') used.add(token.code);
      }
      ends.set(tokens.length * 2, list);
      tokens.push(null);
    }
  }
  const machine: Machine = { tokens, ends, others: OTHERS.find((character) => !used.has(character.charCodeAt(0))) ?? '' };
  const start = starts.flatMap(([position, before]) =>
    symbolsOf(before).reduce<Positions>((positions, symbol) => readSymbol(machine, positions, symbol), close(machine, [position])),
  );
  return { machine, start: [...new Set(start)].sort((a, b) => a - b) };
}

/** Represent every character that is in no pattern. */
const OTHERS = Array.from('xyzqwvkjuhgfbdmnprstclaoeiXYZQWVKJUHGFBDMNPRSTCLAOEI9876543210_~!$,=@');

function close(machine: Machine, positions: readonly number[]): number[] {
  const found = new Set<number>();
  const add = (position: number): void => {
    if (found.has(position)) return;
    found.add(position);
    const token = machine.tokens[position >> 1];
    if ((position & 1) === 1) add(position - 1);
    else if (token?.kind === 'star' || token?.kind === 'segments') add(position + 2);
  };
  for (const position of positions) add(position);
  return [...found].sort((a, b) => a - b);
}

function readCharacter(machine: Machine, positions: Positions, character: string): Positions {
  const code = character.charCodeAt(0);
  const next: number[] = [];
  for (const position of positions) {
    const token = machine.tokens[position >> 1];
    if ((position & 1) === 1) {
      if (character !== '/') next.push(position);
    } else if (token?.kind === 'char') {
      if (token.code === code) next.push(position + 2);
    } else if (token?.kind === 'star') {
      if (!token.stops.includes(character)) next.push(position);
    } else if (token?.kind === 'segments' && character === '/') next.push(position + 1);
  }
  return next.length === 0 ? NO_POSITIONS : close(machine, next);
}

const NO_POSITIONS: Positions = [];

/** An escape is three characters in a pattern, but one in the meaning of a path. */
function readSymbol(machine: Machine, positions: Positions, symbol: string): Positions {
  let next = symbol.length === 1 ? positions : positions.filter((position) => !isStopped(machine, position, symbol));
  for (const character of symbol) next = readCharacter(machine, next, character);
  return next;
}

function isStopped({ tokens }: Machine, position: number, symbol: string): boolean {
  const token = (position & 1) === 1 ? undefined : tokens[position >> 1];
  return token?.kind === 'star' && token.stops.includes(symbol);
}

const symbolsOf = (text: string): readonly string[] => text.match(/%[0-9A-F]{2}|[^]/g) ?? [];

/** The symbols after which the state may differ; all others are like `others`. */
function symbolsAt(machine: Machine, { positions, slashes, slashed, shape }: TextState, kind: TextKind): Iterable<string> {
  if (shape === 'start') return ['/'];
  const symbols = new Set<string>(machine.others === '' ? [] : [machine.others]);
  const escaped = kind.texts === 'path';
  const add = (position: number): void => {
    const token = (position & 1) === 1 ? undefined : machine.tokens[position >> 1];
    if (token?.kind === 'star') for (const stop of token.stops) symbols.add(stop);
    if (token?.kind !== 'char') return;
    const character = String.fromCharCode(token.code);
    if (!escaped || character !== '%') symbols.add(character);
    else symbols.add(String.fromCharCode(...[0, 1, 2].map((step) => codeAt(machine, (position >> 1) + step))));
  };
  for (const position of positions) add(position);
  if (slashed) for (const position of slashes) add(position);
  if (kind.texts === 'path') symbols.add('/');
  if (kind.encodedSlashes) symbols.add(ENCODED_SLASH);
  return symbols;
}

function codeAt({ tokens }: Machine, index: number): number {
  const token = tokens[index];
  return token?.kind === 'char' ? token.code : 0;
}

function vectorOf(machine: Machine, { positions, slashes, slashed }: TextState, lists: number): string {
  const listsOf = (found: Positions): Set<number> => new Set(found.flatMap((position) => machine.ends.get(position) ?? []));
  const matched = listsOf(positions);
  const both = slashed ? listsOf(slashes) : matched;
  let vector = '';
  for (let list = 0; list < lists; list += 1) vector += matched.has(list) && both.has(list) ? '1' : '0';
  return vector;
}

// The segment that a path is in, as findAmbiguity looks at it: `start`, then its dots, `o` for other characters, `;`
// behind one, `s` where it has an encoded slash. Each is tested by calling findAmbiguity with a segment of the same
// shape.

const SEGMENTS = new Map<string, string | null>();

function nextShape(shape: string, symbol: string): string | null {
  if (symbol === '/') return shape === 'start' ? '' : mayEnd(shape, '/') ? '' : null;
  if (shape === 'start') return null;
  const key = `${shape} ${symbol}`;
  let next = SEGMENTS.get(key);
  if (next === undefined) SEGMENTS.set(key, (next = shapeAfter(shape, symbol)));
  return next;
}

function shapeAfter(shape: string, symbol: string): string | null {
  if (symbol === ENCODED_SLASH) return mayEnd(shape, ENCODED_SLASH) ? 's' : null;
  if (findAmbiguity(`/x${symbol}`, 'allow') !== null) return null;
  const semicolon = symbol === ';' || symbol.toUpperCase() === '%3B';
  if (shape.includes(';')) return shape;
  if (semicolon) return `${shape};`;
  if (symbol !== '.' || shape.includes('o')) return shape.includes('o') ? shape : `${shape.replaceAll('.', '')}o`;
  return shape.includes('...') ? shape : `${shape}.`;
}

/** Whether such a segment may end there: findAmbiguity decides for one of the same shape. */
function mayEnd(shape: string, end: string): boolean {
  const segment = shape.replace('s', ENCODED_SLASH).replace('o', 'x');
  return findAmbiguity(`/${segment}${end}x`, 'allow') === null;
}

function endsWell(shape: string): boolean {
  if (shape === 'text') return true;
  if (shape === 'start' || shape === 'empty') return false;
  return findAmbiguity(`/${shape.replace('s', ENCODED_SLASH).replace('o', 'x')}`, 'allow') === null;
}

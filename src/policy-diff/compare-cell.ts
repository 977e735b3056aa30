/**
 * The heart of the comparison: for one host (or gateway prefix) and one pair of
 * clients, calls `decide` of both policies for one representative of each piece
 * that their destinations and rules distinguish, and joins pieces with the same
 * change.
 */
import { isIP } from 'node:net';
import type { Form } from '../config/config.ts';
import { type CompiledDestination, type CompiledRule, NO_RULE } from '../policy/compile.ts';
import { cutMethods, cutPorts, cutTimes, type PathCutter } from './cut-requests.ts';
import type { DiffBox, MethodSet, PathCut, PathList, Span } from './diff-class.ts';
import { type AddressFates, withFate } from './address-fates.ts';
import { type DiffRequest, type DiffVerdict, judgeRequest, keyOfVerdict, type PolicySide } from './judge-request.ts';
import type { PeerPair } from './peer-pairs.ts';
import type { Meter } from './work.ts';

/** Two policies to compare, from a time on. */
export interface Comparison {
  readonly sides: readonly [before: PolicySide, after: PolicySide];
  readonly start: number;
  readonly meter: Meter;
  readonly paths: PathCutter;
  readonly fates: AddressFates;
}

/** The target of requests: a host, or the paths below a prefix. */
export interface CellTarget {
  /** Null for a prefix. */
  readonly host: string | null;
  readonly prefix: string | null;
  /** Prefixes below it. */
  readonly deeper: readonly string[];
  /** Of each side, in the order in which they are tried. */
  readonly destinations: readonly [before: readonly CompiledDestination[], after: readonly CompiledDestination[]];
}

/** Requests of one cell with the same change. */
export interface CellChange extends DiffBox {
  readonly before: DiffVerdict;
  readonly after: DiffVerdict;
  readonly codes: readonly [before: readonly string[], after: readonly string[]];
  readonly witness: DiffRequest;
}

/** One piece of the grid; indexes into its cuts. */
interface Piece {
  readonly time: number;
  readonly port: number;
  readonly method: number;
  readonly path: number;
  readonly before: DiffVerdict;
  readonly after: DiffVerdict;
  readonly witness: DiffRequest;
}

/** Value for fields that a form does not use. */
const NO_DIMENSION = -1;
const NO_PORTS = [[NO_DIMENSION, null]] as const;
const UNSEEN_CONTENT = [[NO_DIMENSION, null]] as const;
const EVERY_PORT: readonly Span[] = [[1, 65_535]];
const EVERY_METHOD: MethodSet = { listed: [], others: true };
const EVERY_PATH: PathCut = { lists: [], atoms: [{ kind: 'plain', vector: '', text: '/' }] };

/** The rules that join the peer with a destination. */
export function chainsOf(
  { policy }: PolicySide,
  who: PeerPair['before'],
  destinations: readonly CompiledDestination[],
): readonly (readonly CompiledRule[])[] {
  const client = typeof who === 'number' ? policy.clients[who] : undefined;
  return destinations.map(({ index }) => client?.rules[index] ?? NO_RULE);
}

/** @throws {TooMuchWork} */
export function* compareCell(comparison: Comparison, target: CellTarget, pair: PeerPair): Generator<undefined, CellChange[]> {
  const { sides, start, meter } = comparison;
  const { host, prefix, destinations } = target;
  const chains = [chainsOf(sides[0], pair.before, destinations[0]), chainsOf(sides[1], pair.after, destinations[1])].map((side) =>
    side.flat(),
  );
  const parts = [...destinations[0], ...destinations[1], ...chains.flat()];
  const times = cutTimes(chains.flat(), start);
  const methods = cutMethods(parts);
  // The first atom is that of all other methods.
  const ofOptions = Math.max(
    0,
    methods.findIndex(({ named }) => named?.includes('OPTIONS') === true),
  );
  const lists = ([0, 1] as const).flatMap((side): PathList[] => {
    const before = prefix === null ? '' : textBefore(prefix, destinations[side][0]);
    return [...destinations[side], ...(chains[side] ?? [])].flatMap(({ config }) =>
      config.paths === null ? [] : [{ side, patterns: config.paths, before }],
    );
  });
  const slashes = prefix !== null && destinations.flat().some(({ config }) => config.gateway?.encodedSlashes === 'allow');
  const cut = yield* comparison.paths.cut(lists, { gateway: prefix !== null, slashes, deeper: target.deeper });
  const ports = prefix === null ? cutPorts(destinations.flat()) : [];
  const address = host !== null && isIP(host) !== 0 ? host : null;

  // If neither a rule nor report mode permits any request, only the checks before the rules decide.
  const reports = sides.some(({ policy }) => policy.mode === 'report' || policy.reportsSome);
  const nobody = !reports && typeof pair.before === 'string' && typeof pair.after === 'string';
  const changes: CellChange[] = [];
  for (const { form, scheme, schemes } of formsToTry(target, pair, address)) {
    const tunnel = form === 'connect' || form === 'sni';
    const blind = tunnel || (!reports && (chains.flat().length === 0 || !destinations.flat().some(({ forms }) => forms.has(form))));
    const peer = form === 'sni' ? (pair.bare ?? pair.peer) : pair.peer;
    const pieces: Piece[] = [];
    for (const [time, [from]] of times.entries()) {
      for (const [port, portAtom] of form === 'sni' || form === 'gateway'
        ? NO_PORTS
        : nobody
          ? [[NO_DIMENSION, { witness: 443 }] as const]
          : ports.entries()) {
        for (const [method, methodAtom] of blind ? UNSEEN_CONTENT : methods.entries()) {
          for (const [path, pathAtom] of blind ? UNSEEN_CONTENT : cut.atoms.entries()) {
            // Only OPTIONS can ask for a whole server (RFC 9112 §3.2.4).
            const whole = pathAtom?.text === '*';
            if (whole && method !== ofOptions) continue;
            meter.spend(4);
            const shown = tunnel
              ? null
              : { method: whole ? 'OPTIONS' : (methodAtom?.witness ?? 'GET'), path: `${prefix ?? ''}${pathAtom?.text ?? '/'}` };
            const witness: DiffRequest = {
              form,
              scheme,
              peer,
              now: from,
              host: host ?? '',
              port: portAtom?.witness ?? 0,
              method: shown?.method ?? null,
              path: shown?.path ?? null,
            };
            const before = judge(comparison, 0, witness, address);
            const after = judge(comparison, 1, witness, address);
            if (differ(comparison, before, after, address)) pieces.push({ time, port, method, path, before, after, witness });
          }
        }
      }
    }
    if (pieces.length > 0) changes.push(...joinPieces(pieces, form, schemes, { times, ports, methods, cut }));
    yield;
  }
  const named = sides[1].policy.hasHost(host ?? '') ? sides[1] : sides[0];
  return joinForms(changes, named.policy.tlsPort(host ?? ''));
}

function textBefore(prefix: string, destination: CompiledDestination | undefined): string {
  const gateway = destination?.config.gateway ?? null;
  return gateway === null ? '' : `${gateway.basePath}${prefix.slice(gateway.prefix.length)}`;
}

interface FormToTry {
  readonly form: Form;
  readonly scheme: 'http' | 'https';
  /** The requests that it represents. */
  readonly schemes: readonly ('http' | 'https')[];
}

const BOTH = ['http', 'https'] as const;

function formsToTry({ host, destinations }: CellTarget, { bare }: PeerPair, address: string | null): FormToTry[] {
  if (host === null) return [{ form: 'gateway', scheme: 'http', schemes: BOTH }];
  const forms: FormToTry[] = (['connect', 'forward'] as const).map((form) => ({ form, scheme: 'http', schemes: BOTH }));
  // The scheme matters if plain HTTP is forwarded over TLS.
  if (destinations.flat().every(({ config }) => config.upgradePlainHttp === null))
    forms.push({ form: 'host-routed', scheme: 'http', schemes: BOTH });
  else for (const scheme of BOTH) forms.push({ form: 'host-routed', scheme, schemes: [scheme] });
  // A ClientHello names no address (RFC 6066 §3).
  if (bare !== null && address === null) forms.push({ form: 'sni', scheme: 'https', schemes: BOTH });
  return forms;
}

/** An IP literal in a request is checked itself. */
function judge({ sides, fates }: Comparison, side: 0 | 1, request: DiffRequest, address: string | null): DiffVerdict {
  const verdict = judgeRequest(sides[side], request);
  if (address === null || verdict.verdict === 'deny') return verdict;
  return withFate(verdict, fates.of(sides[side].policy.mode, verdict.destination, address));
}

function differ({ sides, fates }: Comparison, before: DiffVerdict, after: DiffVerdict, address: string | null): boolean {
  if (keyOfVerdict(before) !== keyOfVerdict(after)) return true;
  return (
    address === null &&
    before.verdict !== 'deny' &&
    fates.text(sides[0].policy.mode, before.destination) !== fates.text(sides[1].policy.mode, after.destination)
  );
}

interface Cuts {
  readonly times: readonly Span[];
  readonly ports: readonly { readonly spans: readonly Span[] }[];
  readonly methods: readonly { readonly named: readonly string[] | null }[];
  readonly cut: PathCut;
}

const DIMENSIONS = ['path', 'method', 'port', 'time'] as const;

/** Joins along one dimension after the other, so few boxes are left; they do not overlap. */
function joinPieces(pieces: readonly Piece[], form: Form, schemes: DiffBox['schemes'], { times, ports, methods, cut }: Cuts): CellChange[] {
  let joined = pieces.map((piece) => ({
    ...piece,
    change: changeText(piece),
    codes: [[piece.before.code], [piece.after.code]] as [string[], string[]],
    sets: { path: [piece.path], method: [piece.method], port: [piece.port], time: [piece.time] },
  }));
  for (const dimension of DIMENSIONS) {
    const groups = new Map<string, (typeof joined)[number]>();
    for (const piece of joined) {
      const others = `${DIMENSIONS.map((other) => (other === dimension ? '' : piece.sets[other].join())).join(' ')} ${piece.change}`;
      const known = groups.get(others);
      if (known === undefined) groups.set(others, { ...piece, sets: { ...piece.sets, [dimension]: [...piece.sets[dimension]] } });
      else {
        known.sets[dimension].push(...piece.sets[dimension]);
        known.codes = joinCodes([known.codes, piece.codes]);
      }
    }
    joined = [...groups.values()];
  }
  return joined.map(({ before, after, witness, codes, sets }) => ({
    before,
    after,
    witness,
    codes,
    forms: [form],
    schemes,
    ports: sets.port.includes(NO_DIMENSION) ? EVERY_PORT : joinSpans(sets.port.flatMap((index) => ports[index]?.spans ?? [])),
    methods: sets.method.includes(NO_DIMENSION) ? EVERY_METHOD : joinMethods(sets.method, methods),
    paths:
      sets.path.includes(NO_DIMENSION) || sets.path.length === cut.atoms.length
        ? { cut: EVERY_PATH, atoms: [0] }
        : { cut, atoms: sets.path.toSorted((a, b) => a - b) },
    times: joinSpans(
      sets.time.flatMap((index) => {
        const span = times[index];
        return span === undefined ? [] : [[span[0], span[1] - 1] as const];
      }),
    ).map(([from, to]) => [from, to + 1] as const),
  }));
}

function joinMethods(indexes: readonly number[], methods: Cuts['methods']): MethodSet {
  const chosen = new Set(indexes);
  if (methods.every(({ named }, index) => named !== null || !chosen.has(index)))
    return { listed: [...chosen].flatMap((index) => methods[index]?.named ?? []), others: false };
  return { listed: methods.flatMap(({ named }, index) => (chosen.has(index) ? [] : (named ?? []))), others: true };
}

/** Joins adjacent spans. */
function joinSpans(spans: readonly Span[]): Span[] {
  const joined: [number, number][] = [];
  for (const [first, last] of spans.toSorted((a, b) => a[0] - b[0])) {
    const before = joined.at(-1);
    if (before !== undefined && before[1] >= first - 1) before[1] = Math.max(before[1], last);
    else joined.push([first, last]);
  }
  return joined;
}

/**
 * The same change by several forms is one, if they have the same limits. The form `sni` has no port of its own.
 * @param sniPort the port that it leads to
 */
function joinForms(changes: readonly CellChange[], sniPort: number): CellChange[] {
  const steered = join(
    changes,
    (one, other) => one.forms[0] === 'host-routed' && other.forms[0] === 'host-routed' && samePorts(one, other),
  );
  return join(steered, (one, other) => {
    if (one.schemes.length !== other.schemes.length || one.schemes[0] !== other.schemes[0]) return false;
    if (!other.forms.includes('sni')) return samePorts(one, other);
    return (
      (one.forms.includes('connect') || one.forms.includes('forward')) &&
      one.ports.some(([first, last]) => first <= sniPort && sniPort <= last)
    );
  });
}

function join(changes: readonly CellChange[], fits: (one: CellChange, other: CellChange) => boolean): CellChange[] {
  const joined: CellChange[] = [];
  for (const change of changes) {
    const same = joined.findIndex((known) => sameLimits(known, change) && fits(known, change));
    const known = joined[same];
    if (known === undefined) joined.push(change);
    else
      joined[same] = {
        ...known,
        forms: [...new Set([...known.forms, ...change.forms])],
        schemes: [...new Set([...known.schemes, ...change.schemes])],
        codes: joinCodes([known.codes, change.codes]),
      };
  }
  return joined;
}

function samePorts(one: DiffBox, other: DiffBox): boolean {
  return String(one.ports) === String(other.ports);
}

function sameLimits(one: CellChange, other: CellChange): boolean {
  if (changeText(one) !== changeText(other) || String(one.times) !== String(other.times)) return false;
  return (
    JSON.stringify(one.methods) === JSON.stringify(other.methods) &&
    one.paths.cut === other.paths.cut &&
    String(one.paths.atoms) === String(other.paths.atoms)
  );
}

/**
 * Equal for changes that are reported as one. If one side permits and the other does not, that is the change, with any
 * code. Names of clients, and the target, count only if they change.
 */
export function changeText({ before, after }: Pick<CellChange, 'before' | 'after'>): string {
  const denied = [before, after].filter(({ verdict }) => verdict === 'deny').length;
  const plain = ({ verdict, code, destination, ruleName, client, leads }: DiffVerdict): unknown[] => {
    if (verdict === 'deny') return denied === 2 ? [code] : ['deny'];
    const among = denied === 0 ? [code, before.leads === after.leads ? '' : leads, before.client === after.client ? '' : client] : [];
    return [verdict, destination?.name, verdict === 'report' ? null : ruleName, ...among];
  };
  return JSON.stringify([plain(before), plain(after)]);
}

/** Codes of either side, each once. */
export function joinCodes(codes: readonly (readonly [readonly string[], readonly string[]])[]): [string[], string[]] {
  return [[...new Set(codes.flatMap(([before]) => before))], [...new Set(codes.flatMap(([, after]) => after))]];
}

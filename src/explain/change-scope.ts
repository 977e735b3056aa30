/** Whether a change has exactly the described effect: every class of requests that two policies decide differently is compared with what each step was to permit. */
import type { Ask } from '../policy/verdict.ts';
import { describeClass } from '../policy-diff/describe-class.ts';
import type { DiffClass, PathSet, PolicyDiff } from '../policy-diff/diff-class.ts';
import { bound } from '../telemetry/safe-text.ts';

/** What a change newly permits: nothing outside these scopes. */
export interface Scope {
  /** Null: every client. */
  readonly client: string | null;
  readonly destination: string;
  /** Null: any. */
  readonly port: number | null;
  readonly form: Ask['form'] | null;
  readonly methods: readonly string[] | null;
  readonly path: string | null;
}

const LONGEST_CLASS = 300;

/** One sentence about a further effect of the change; null: none. */
export function findHarm(diff: PolicyDiff, scopes: readonly Scope[]): string | null {
  for (const one of diff.classes) {
    if (one.change === 'refused') continue;
    const what = bound(describeClass(diff, one), LONGEST_CLASS);
    if (one.change === 'denied') return `no change is proposed: it would deny ${what}`;
    const { before, after } = one;
    if (one.change === 'otherwise')
      return `no change is proposed: it would ${before.leads === after.leads ? `take over ${what}, which ${before.destination?.name ?? 'another destination'} serves now` : `lead ${what} to ${after.leads}, and no longer to ${before.leads}`}`;
    const pieces = scopes.some((scope) => isInside(scope, one, diff)) ? [] : [...piecesOf(one)];
    if (!pieces.every((piece) => scopes.some((scope) => isInside(scope, piece, diff))))
      return `no change is proposed: it would also permit ${what}`;
  }
  return null;
}

/** Parts of a class that a scope covers as a whole or not at all: several steps may cover the class together. */
function* piecesOf(one: DiffClass): Generator<DiffClass> {
  const { listed, others } = one.methods;
  const methods = others ? [one.methods] : listed.map((method) => ({ listed: [method], others: false }));
  for (const form of one.forms)
    for (const span of one.ports)
      for (const method of methods)
        for (const atom of one.paths.atoms)
          yield { ...one, forms: [form], ports: [span], methods: method, paths: { cut: one.paths.cut, atoms: [atom] } };
}

/** Whether the description of a step covers all of a class. */
function isInside(scope: Scope, one: DiffClass, diff: PolicyDiff): boolean {
  const { forms, ports, methods, peers, after, prefixes } = one;
  // The form `sni` and the gateway have the port of the destination.
  const anyPort = prefixes.length > 0 || forms.every((form) => form === 'sni');
  return (
    after.destination?.name === scope.destination &&
    (scope.client === null || peers.every((pair) => typeof pair.after === 'number' && diff.clients[1][pair.after] === scope.client)) &&
    (scope.port === null || anyPort || ports.every(([first, last]) => first === scope.port && last === scope.port)) &&
    (scope.form === null || forms.every((form) => form === scope.form)) &&
    (scope.methods === null ||
      (!methods.others &&
        methods.listed.every(
          (method) => scope.methods?.includes(method) === true || (method === 'HEAD' && scope.methods?.includes('GET') === true),
        ))) &&
    (scope.path === null || isPath(one.paths, scope.path))
  );
}

/** Whether a set of paths is exactly this one: each part is on a list that has at most this path more than another list, which does not have the part. */
function isPath({ cut: { lists, atoms }, atoms: chosen }: PathSet, path: string): boolean {
  return chosen.every((index) => {
    const has = (list: number): boolean => atoms[index]?.vector[list] === '1';
    const without = [[], ...lists.flatMap(({ patterns }, list) => (has(list) ? [] : [patterns]))];
    return lists.some(
      ({ patterns }, list) =>
        has(list) && without.some((known) => patterns.every((pattern) => pattern === path || known.includes(pattern))),
    );
  });
}

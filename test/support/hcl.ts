/** Terraform files read by HashiCorp's own parser and formatter, compiled to WebAssembly: blocks, what they refer to, their canonical form. */
import { createRequire } from 'node:module';

export type Value = string | number | boolean | null | readonly Value[] | Block;
export interface Block {
  readonly [name: string]: Value;
}

/** `path` without indexes: `data.google_compute_address.nat.address`. */
export interface Reference {
  readonly path: readonly string[];
  /** Names that `for` expressions around it bind. */
  readonly bound: readonly string[];
}

interface Node {
  readonly type: string;
  readonly children: readonly Node[];
  readonly meta?: { readonly traversal?: readonly { readonly type: string; readonly segment: string }[]; readonly keyVar?: string; readonly valVar?: string };
}

// Their own types bring in the whole DOM, for every file of the project.
const require = createRequire(import.meta.url);
const { parse, getExpressionAst } = require('@cdktn/hcl2json') as {
  parse: (file: string, text: string) => Promise<Block>;
  getExpressionAst: (file: string, expression: string) => Promise<Node | null>;
};
const { format } = require('@cdktn/hcl-tools') as { format: (text: string) => Promise<string> };

/** @throws {Error} naming the line, when it is not HCL */
export function parseHcl(file: string, text: string): Promise<Block> {
  return parse(file, text);
}

/** As `terraform fmt` writes it. */
export function formatHcl(text: string): Promise<string> {
  return format(text);
}

/** Blocks of one type, by their labels: `blocksOf(file, 'variable')`, `blocksOf(file, 'resource', 'google_compute_address')`. */
export function blocksOf(file: Block, ...path: readonly string[]): [name: string, block: Block][] {
  const found = path.reduce<Value | undefined>((at, name) => (isBlock(at) ? at[name] : undefined), file);
  return isBlock(found) ? Object.entries(found).flatMap(([name, blocks]) => listOf(blocks).map((block): [string, Block] => [name, block])) : [];
}

export function isBlock(value: Value | undefined): value is Block {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A literal or an expression as it is written; empty for anything else. */
export function textOf(value: Value | undefined): string {
  return typeof value === 'string' ? value : '';
}

/** A nested block comes as a list, of one or several. */
export function listOf(value: Value | undefined): readonly Block[] {
  return (Array.isArray(value) ? (value as readonly Value[]) : [value]).filter(isBlock);
}

/** Every reference in the expressions of a value, at any depth. */
export async function referencesOf(value: Value): Promise<Reference[]> {
  const found: Reference[] = [];
  for (const template of templatesOf(value)) {
    // As a heredoc: in it, quotes and line ends stand for themselves.
    const tree = await getExpressionAst('expression', `<<END\n${template}\nEND\n`);
    if (tree !== null) collect(tree, [], found);
  }
  return found;
}

function templatesOf(value: Value): string[] {
  if (typeof value === 'string') return value.includes('${') ? [value] : [];
  if (typeof value !== 'object' || value === null) return [];
  return Object.values(value).flatMap(templatesOf);
}

function collect(node: Node, bound: readonly string[], into: Reference[]): void {
  const inner = node.type === 'for' ? [...bound, node.meta?.keyVar ?? '', node.meta?.valVar ?? ''] : bound;
  if (node.type === 'scopeTraversal') into.push({ path: namesOf(node), bound });
  // x[*].y: the attribute belongs to what the splat is of.
  const [source, each] = node.type === 'splat' ? node.children : [];
  if (source?.type === 'scopeTraversal' && each !== undefined) into.push({ path: [...namesOf(source), ...namesOf(each)], bound });
  for (const child of node.children) collect(child, inner, into);
}

function namesOf(node: Node): string[] {
  return (node.meta?.traversal ?? []).filter(({ type }) => type === 'nameTraversal').map(({ segment }) => segment);
}

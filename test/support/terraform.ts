/** What `terraform validate` would say of a module, as far as it can be said without the provider, and what the house wants besides. */
import { blocksOf, formatHcl, isBlock, listOf, parseHcl, referencesOf, textOf } from './hcl.ts';
import type { Block, Reference, Value } from './hcl.ts';

/** Arguments and nested blocks of each resource by its path: `google_compute_router_nat.rules.action`; data sources begin with `data.`. */
export type Schema = Readonly<Record<string, { readonly required?: readonly string[]; readonly optional?: readonly string[]; readonly computed?: readonly string[] }>>;

/** Files of a module by name, and the modules it calls by their source. */
export interface Module {
  readonly files: ReadonlyMap<string, string>;
  readonly modules: ReadonlyMap<string, Module>;
}

const META_ARGUMENTS = new Set(['count', 'for_each', 'depends_on', 'provider', 'lifecycle', 'dynamic']);
const BUILT_IN = new Set(['each', 'count', 'self', 'path', 'terraform']);
const SENTENCE = /\w\W*\.$/;

/** Faults, each with the place it is at. None: an empty list. */
export async function judgeModule(module: Module, schema: Schema): Promise<string[]> {
  const faults: string[] = [];
  const parsed: [file: string, content: Block][] = [];
  for (const [file, text] of module.files) {
    try {
      parsed.push([file, await read(file, text)]);
      if ((await formatHcl(text)) !== text) faults.push(`${file}: not as terraform fmt writes it`);
    } catch (error) {
      faults.push(`${file}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  // What could not be read would only be reported as missing.
  if (parsed.length < module.files.size) return faults;

  const files = parsed.map(([, content]) => content);
  faults.push(...judgeDeclarations(files), ...judgePins(files));
  for (const file of files) faults.push(...judgeResources(file, schema), ...judgeCalls(file, module));
  return [...faults, ...(await judgeReferences(files, module, schema))];
}

const cache = new Map<string, Promise<Block>>();
function read(file: string, text: string): Promise<Block> {
  const known = cache.get(text) ?? parseHcl(file, text);
  cache.set(text, known);
  return known;
}

const all = (files: readonly Block[], ...path: readonly string[]): [string, Block][] => files.flatMap((file) => blocksOf(file, ...path));

function judgeDeclarations(files: readonly Block[]): string[] {
  const faults: string[] = [];
  for (const [name, variable] of all(files, 'variable')) {
    if (typeof variable['type'] !== 'string') faults.push(`variable ${name}: no type`);
    if (!SENTENCE.test(textOf(variable['description']))) faults.push(`variable ${name}: no description`);
    for (const validation of listOf(variable['validation'])) {
      if (!textOf(validation['condition']).includes(`var.${name}`)) faults.push(`variable ${name}: its validation is about something else`);
    }
  }
  for (const [name, output] of all(files, 'output')) {
    if (!SENTENCE.test(textOf(output['description']))) faults.push(`output ${name}: no description`);
    if (output['value'] === undefined) faults.push(`output ${name}: no value`);
  }
  return faults;
}

function judgePins(files: readonly Block[]): string[] {
  const terraform = files.flatMap((file) => listOf(file['terraform']));
  const faults = terraform.some((block) => typeof block['required_version'] === 'string') ? [] : ['terraform: no required_version'];
  const used = new Set(files.flatMap((file) => typesOf(file).map((type) => type.replace(/^data\./, '').split('_')[0] ?? '')));
  for (const provider of used) {
    const pin = terraform.flatMap((block) => listOf(block['required_providers'])).map((pins) => pins[provider]).find(isBlock);
    if (!/>=.*<|~>/.test(textOf(pin?.['version']))) faults.push(`provider ${provider}: no range of versions`);
  }
  return faults;
}

function typesOf(file: Block): string[] {
  const names = (key: string): string[] => Object.keys(isBlock(file[key]) ? file[key] : {});
  return [...names('resource'), ...names('data').map((type) => `data.${type}`)];
}

/** Resources and data sources: type, as in the schema, name and content. */
function resourcesOf(file: Block): [type: string, name: string, block: Block][] {
  return typesOf(file).flatMap((type) =>
    blocksOf(file, ...(type.startsWith('data.') ? ['data', type.slice(5)] : ['resource', type])).map(([name, block]): [string, string, Block] => [type, name, block]));
}

function judgeResources(file: Block, schema: Schema): string[] {
  return resourcesOf(file).flatMap(([type, name, block]) => judgeBlock(block, type, `${type}.${name}`, schema));
}

function judgeBlock(block: Block, path: string, place: string, schema: Schema): string[] {
  const known = schema[path];
  if (known === undefined) return [`${place}: ${path} is not in the schema`];
  const arguments_ = [...(known.required ?? []), ...(known.optional ?? [])];
  const given: [string, Value][] = [...Object.entries(block), ...dynamicBlocks(block)];
  const faults = given.filter(([name]) => !META_ARGUMENTS.has(name) && !arguments_.includes(name)).map(([name]) => `${place}: no argument ${name}`);
  faults.push(...(known.required ?? []).filter((name) => !given.some(([other]) => other === name)).map((name) => `${place}: ${name} is required`));
  faults.push(...ignoredIn(block).filter((name) => !arguments_.includes(name)).map((name) => `${place}: no argument ${name} to ignore`));
  for (const [name, value] of given) {
    if (schema[`${path}.${name}`] !== undefined) faults.push(...listOf(value).flatMap((inner) => judgeBlock(inner, `${path}.${name}`, `${place}.${name}`, schema)));
  }
  return faults;
}

/** `ignore_changes = [x]` names arguments of its own resource. */
function ignoredIn(block: Block): string[] {
  return listOf(block['lifecycle']).flatMap(({ ignore_changes: names }) => (Array.isArray(names) ? (names as readonly Value[]) : [])).map((name) => textOf(name).replace(/^\$\{(.*)\}$/, '$1'));
}

/** `dynamic "rules" { content { … } }` is a block `rules`. */
function dynamicBlocks(block: Block): [string, Value][] {
  return listOf(block['dynamic']).flatMap((dynamic) => Object.entries(dynamic)).map(([name, of]) => [name, listOf(of).flatMap(({ content }) => listOf(content))]);
}

function judgeCalls(file: Block, { modules }: Module): string[] {
  return blocksOf(file, 'module').flatMap(([name, { source, ...given }]) => {
    const called = modules.get(textOf(source));
    if (called === undefined) return [`module ${name}: nothing at ${textOf(source)}`];
    const known = declared(called, 'variable');
    return [
      ...Object.keys(given).filter((key) => !META_ARGUMENTS.has(key) && !known.has(key)).map((key) => `module ${name}: no variable ${key}`),
      ...[...known].filter(([key, text]) => !(key in given) && !/^ {2}default\b/m.test(text)).map(([key]) => `module ${name}: ${key} is required`),
    ];
  });
}

/** Blocks of a module by their label, with their text. */
function declared({ files }: Module, kind: 'variable' | 'output'): Map<string, string> {
  const text = [...files.values()].join('\n');
  return new Map([...text.matchAll(new RegExp(`^${kind} "(\\w+)" \\{$[^]*?^\\}$`, 'gm'))].map(([block, name = '']) => [name, block]));
}

async function judgeReferences(files: readonly Block[], module: Module, schema: Schema): Promise<string[]> {
  const variables = new Set(all(files, 'variable').map(([name]) => name));
  const locals = new Set(files.flatMap((file) => listOf(file['locals'])).flatMap((block) => Object.keys(block)));
  const calls = new Map(all(files, 'module').map(([name, call]) => [name, textOf(call['source'])]));
  const dynamics = new Set(JSON.stringify(files).match(/(?<="dynamic":\{")\w+/g));
  const ignored = new Set(files.flatMap(resourcesOf).flatMap(([, , block]) => ignoredIn(block)));
  const used = new Set<string>();
  const faults: string[] = [];

  /** What is wrong with a reference, or nothing. */
  const judge = ({ path, bound }: Reference): string | null => {
    const [root = '', name = '', third, fourth] = path;
    const at = path.join('.');
    if (bound.includes(root) || BUILT_IN.has(root) || dynamics.has(root) || (path.length === 1 && ignored.has(root))) return null;
    if (root === 'var') return variables.has(name) ? null : `no variable ${name}`;
    if (root === 'local') return locals.has(name) ? null : `no local ${name}`;
    if (root === 'module') return calls.has(name) && outputsOf(calls.get(name)).has(third ?? '') ? null : `no output ${at}`;
    const [type, label, attribute] = root === 'data' ? [`data.${name}`, third, fourth] : [root, name, third];
    const exists = files.flatMap(resourcesOf).some(([otherType, otherLabel]) => otherType === type && otherLabel === label);
    if (!exists) return `nothing called ${at}`;
    const known = schema[type];
    const attributes = ['id', ...(known?.required ?? []), ...(known?.optional ?? []), ...(known?.computed ?? [])];
    return attribute === undefined || attributes.includes(attribute) ? null : `${at}: no such attribute`;
  };
  const outputsOf = (source = ''): ReadonlySet<string> => new Set(declared(module.modules.get(source) ?? { files: new Map(), modules: new Map() }, 'output').keys());

  for (const file of files) {
    for (const [kind, content] of Object.entries(file)) {
      // The type of a variable is made of words that refer to nothing.
      const places: [string, Value][] = kind === 'variable' ? blocksOf(file, kind).map(([name, block]) => [name, block['validation'] ?? null]) : [['', content]];
      for (const [place, value] of places) {
        const found = await references(value);
        faults.push(...found.map(judge).filter((fault) => fault !== null));
        for (const { path } of found) if (!(path[0] === 'var' && path[1] === place)) used.add(path.slice(0, 2).join('.'));
      }
    }
  }
  faults.push(...[...variables].filter((name) => !used.has(`var.${name}`)).map((name) => `variable ${name}: not used`));
  faults.push(...[...locals].filter((name) => !used.has(`local.${name}`)).map((name) => `local ${name}: not used`));
  return faults;
}

const found = new WeakMap<object, Promise<Reference[]>>();
/** Parsed blocks are the same objects from one judgement to the next. */
function references(value: Value): Promise<Reference[]> {
  if (typeof value !== 'object' || value === null) return referencesOf(value);
  const known = found.get(value) ?? referencesOf(value);
  found.set(value, known);
  return known;
}

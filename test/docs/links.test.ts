/** Every link of every page, and every page that a file names, leads to a file that is there, and to a heading that it has. */
import t from 'tap';
import { existsSync, globSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');
const PAGES = globSync(['*.md', 'docs/**/*.md', 'deploy/**/*.md', 'examples/*.md', '.github/*.md'], { cwd: ROOT });
const OTHERS = globSync(['{src,test,bench,bin,examples,.ci,.github}/**/*.{ts,yaml,yml,json,sh,c}', 'deploy/**/*.{yaml,json,tf,service}', 'bin/*', '.ci/run', '.npmrc', '*.{js,json,yml}', 'Dockerfile'], { cwd: ROOT, exclude: (path) => path.includes('node_modules') });
const anchors = new Map<string, Set<string>>();

/** As GitHub makes them: lower case, no punctuation, a dash for each blank, numbered where a heading comes again. */
function anchorsOf(file: string): Set<string> {
  let found = anchors.get(file);
  if (found !== undefined) return found;
  found = new Set();
  for (const [, heading = ''] of withoutCode(readFileSync(file, 'utf8')).matchAll(/^#{1,6} +(.*)$/gm)) {
    const slug = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1').trim().toLowerCase().replaceAll(/[^\p{L}\p{N}\p{M}_ -]/gu, '').replaceAll(' ', '-');
    let name = slug;
    for (let again = 1; found.has(name); again++) name = `${slug}-${again}`;
    found.add(name);
  }
  anchors.set(file, found);
  return found;
}

const withoutCode = (text: string): string => text.replaceAll(/^ *```[^]*?^ *```$/gm, '');

function* brokenLinks(page: string, text: string): Generator<string> {
  for (const [, target = ''] of withoutCode(text).replaceAll(/`[^`\n]*`/g, '').matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(target)) continue;
    const [path = '', anchor] = target.split('#');
    const file = path === '' ? join(ROOT, page) : join(ROOT, dirname(page), path);
    if (!existsSync(file) || relative(ROOT, file).startsWith('..')) yield `${page}: ${target} is not there`;
    else if (anchor !== undefined && (statSync(file).isDirectory() || !anchorsOf(file).has(anchor))) yield `${page}: ${target} has no such heading`;
  }
}

/** Of the form `[text][name]`, with `[name]: address` further down: each has its address, and each address is used. */
function* brokenReferences(page: string, text: string): Generator<string> {
  const bare = withoutCode(text).replaceAll(/`[^`\n]*`/g, 'code');
  const used = new Set([...bare.matchAll(/\]\[([a-z][\w-]*)\]/g)].map(([, name = '']) => name));
  const given = new Set([...bare.matchAll(/^\[([\w-]+)\]: https:\/\/\S+$/gm)].map(([, name = '']) => name));
  for (const name of used) if (!given.has(name)) yield `${page}: [${name}] has no address`;
  for (const name of given) if (!used.has(name)) yield `${page}: nothing refers to [${name}]`;
}

t.test('links', async (t) => {
  t.ok(PAGES.length > 50);
  t.strictSame(PAGES.flatMap((page) => [...brokenLinks(page, readFileSync(join(ROOT, page), 'utf8'))]), []);
  t.strictSame(PAGES.flatMap((page) => [...brokenReferences(page, readFileSync(join(ROOT, page), 'utf8'))]), []);
});

/** Of a file that is no page: in a comment or a message, from the root of the project. */
function* brokenNames(file: string, text: string): Generator<string> {
  for (const [name, path = '', anchor] of text.matchAll(/\b(docs\/(?:[\w-]+\/)*[\w-]{2,}\.md)(?:#([\w-]+))?/g)) {
    if (!existsSync(join(ROOT, path)) || (anchor !== undefined && !anchorsOf(join(ROOT, path)).has(anchor))) yield `${file}: ${name} is not there`;
  }
}

t.test('pages that other files name', async (t) => {
  t.ok(OTHERS.length > 300);
  t.strictSame(OTHERS.flatMap((file) => [...brokenNames(file, readFileSync(join(ROOT, file), 'utf8'))]), []);
  for (const [text, broken] of [['docs/tls.md', false], ['docs/operations.md#limits', false], ['docs/' + 'no.md', true], ['docs/tls.md' + '#no', true]] as const) t.equal([...brokenNames('x.ts', text)].length > 0, broken, text);
});

t.test('a broken one is found', async (t) => {
  for (const [text, broken] of [['[a](no.md)', true], ['[a](../README.md)', false], ['[a](policy.md#no)', true], ['[a](#x-and-y)\n## x, and `y`', true], ['[a](../../x.md)', true], ['`[a](no.md)`', false], ['```\n[a](no.md)\n```', false], ['[a](https://x.example/no.md)', false]] as const) {
    t.equal([...brokenLinks('docs/README.md', text)].length > 0, broken, text);
  }
  for (const [text, broken] of [['[a][b]\n\n[b]: https://x.example/', false], ['[a][b]', true], ['a\n\n[b]: https://x.example/', true], ['`[a][b]`', false]] as const) t.equal([...brokenReferences('x.md', text)].length > 0, broken, text);
});

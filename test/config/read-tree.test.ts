/** Places of the parts of a file: found when they are asked for, and kept. */
import t from 'tap';
import type { Path } from '../../src/config/finding.ts';
import { placeAt, readTree, type Tree, UNREADABLE } from '../../src/config/read-tree.ts';
import { readYaml } from '../../src/config/read-yaml.ts';

function treeOf(text: string, env: Record<string, string> = {}): Tree {
  const { document, lines } = readYaml(text, () => {});
  if (document === null) throw new Error('no YAML');
  return readTree(document, lines, env, () => {});
}

t.test('every part has its place', async (t) => {
  const text = 'a: { b: [x, "y z", 1] }\nc:\n  - d: true\n';
  const { root } = treeOf(text);
  const table: [path: Path, key: string, value: string, scalar: boolean][] = [
    [['a'], 'a', '{ b: [x, "y z", 1] }', false],
    [['a', 'b'], 'b', '[x, "y z", 1]', false],
    [['a', 'b', 1], '"y z"', '"y z"', true],
    [['a', 'b', 2], '1', '1', true],
    [['c', 0, 'd'], 'd', 'true', true],
  ];
  for (const [path, key, value, scalar] of table) {
    const place = placeAt(root, path);
    t.strictSame([place?.key, place?.value].map((range) => text.slice(...(range ?? [0, 0]))), [key, value], path.join('.'));
    t.equal(place?.scalar, scalar, path.join('.'));
  }
  t.equal(placeAt(root, ['a', 'b', 3]), undefined);
  t.equal(placeAt(root, ['a', 'b', 0, 'x']), undefined);
  t.equal(placeAt(root, ['c', 0, 'e']), undefined);
});

t.test('the next item of a list takes the position of one that came out empty', async (t) => {
  const { value, root } = treeOf('list: ["${NONE:-}", "${ONE}", two, "${NONE:-}"]', { ONE: '1' });
  t.strictSame(value, { list: ['1', 'two'] });
  t.strictSame([0, 1, 2, 3].map((index) => placeAt(root, ['list', index])?.variables), [['ONE'], [], ['NONE'], undefined]);
  t.strictSame(placeAt(root, ['list', 2])?.defaulted, ['NONE']);
});

t.test('of a key that is written twice the first one counts; what is no key has no place', async (t) => {
  const text = 'a: 1\na: 2\n"": 3\n__proto__: 4\n<<: { b: 5 }\n';
  const { value, root } = treeOf(text);
  t.equal(value, UNREADABLE);
  t.strictSame([...(root.parts?.keys() ?? [])], ['a']);
  t.strictSame(placeAt(root, ['a'])?.value, [3, 4]);
});

t.test('places are looked for once, however often they are asked for', async (t) => {
  const { root } = treeOf('a: { b: [1, 2] }');
  for (const path of [[], ['a'], ['a', 'b']]) t.equal(placeAt(root, path)?.parts, placeAt(root, path)?.parts, path.join('.'));
  t.equal(placeAt(root, ['a', 'b', 1]), placeAt(root, ['a', 'b', 1]));
});

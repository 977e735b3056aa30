/** docs/invariants.md names tests that exist. */
import { readFileSync } from 'node:fs';
import t from 'tap';

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const PAGE = read('docs/invariants.md');

t.test('every invariant is proved, by tests that are there', async (t) => {
  const sections = PAGE.split(/^## /m).slice(1);
  t.same(sections.map((section) => Number.parseInt(section, 10)), sections.map((_, index) => index + 1));
  for (const section of sections) {
    const items = section.split('\n').filter((line) => line.startsWith('- '));
    t.ok(items.length > 0, section.slice(0, 80));
    for (const item of items) {
      const [, path = '', link, title = ''] = /^- \[(test\/[\w/.-]+)\]\(\.\.\/(test\/[\w/.-]+)\): "(.+)"$/.exec(item) ?? [];
      t.equal(link, path, item);
      const source = read(path);
      t.ok(source.includes(`'${title}'`) || source.includes(`"${title}"`), item);
    }
  }
});

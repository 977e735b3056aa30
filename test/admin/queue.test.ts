import t from 'tap';
import { Queue } from '../../src/admin/callers.ts';

/** Work that ends when the test says so. */
function work(): { begun: boolean; run: () => Promise<string>; end: () => void } {
  const ending = Promise.withResolvers<string>();
  const self = {
    begun: false,
    run: () => {
      self.begun = true;
      return ending.promise;
    },
    end: () => {
      ending.resolve('done');
    },
  };
  return self;
}

const nextTurn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });

t.test('so much at once, the rest in order, of one caller a little', async (t) => {
  const queue = new Queue({ atOnce: 2, most: 4, mostOfOne: 2 });
  const works = Array.from({ length: 6 }, work);
  const callers = ['a', 'a', 'a', 'b', 'c', 'd'];
  const answers = works.map(({ run }, index) => queue.run(callers[index] ?? '', run));
  await nextTurn();
  t.strictSame(works.map(({ begun }) => begun), [true, true, false, false, false, false]);
  t.equal(await answers[2], 'busy', 'a third of one caller');
  t.equal(await answers[5], 'busy', 'a fifth in all');
  works[1]?.end();
  t.equal(await answers[1], 'done');
  await nextTurn();
  t.strictSame(works.map(({ begun }) => begun), [true, true, false, true, false, false]);
  for (const { end } of works) end();
  t.strictSame(await Promise.all(answers), ['done', 'done', 'busy', 'done', 'done', 'busy']);
  t.equal(await queue.run('a', () => Promise.resolve('again')), 'again');
});

t.test('what fails gives its place back', async (t) => {
  const queue = new Queue({ atOnce: 1, most: 2, mostOfOne: 1 });
  for (let round = 0; round < 3; round += 1) await t.rejects(queue.run('a', () => Promise.reject(new Error('no'))), { message: 'no' });
  t.equal(await queue.run('a', () => Promise.resolve(1)), 1);
});

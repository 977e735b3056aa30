import fc from 'fast-check';
import t from 'tap';
import { Crowd } from '../src/crowd.ts';

t.test('as a set', async (t) => {
  const members = Array.from({ length: 8 }, (_, id) => ({ id }));
  const step = fc.record({ member: fc.constantFrom(...members), add: fc.boolean() });
  const difference = fc.check(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const crowd = new Crowd<{ id: number }>();
      const set = new Set<{ id: number }>();
      for (const { member, add } of steps) {
        if (add) {
          crowd.add(member);
          set.add(member);
        } else if (crowd.delete(member) !== set.delete(member)) return false;
        if (crowd.size !== set.size || crowd.has(member) !== set.has(member)) return false;
      }
      return [...crowd].length === set.size && [...crowd].every((member) => set.has(member));
    }),
  );
  t.equal(difference.failed, false, JSON.stringify(difference.counterexample));
});

t.test('members may leave and come while it is walked through', async (t) => {
  const crowd = new Crowd<{ id: number }>();
  const members = [1, 2, 3].map((id) => ({ id }));
  for (const member of members) crowd.add(member);
  const seen: number[] = [];
  for (const { id } of crowd) {
    seen.push(id);
    for (const member of members) crowd.delete(member);
    crowd.add({ id: id + 10 });
  }
  t.strictSame(seen, [1, 2, 3]);
  t.equal(crowd.size, 3);
});

t.test('one may be in several crowds', async (t) => {
  const [one, other] = [new Crowd<object>(), new Crowd<object>()];
  const member = {};
  one.add(member);
  t.ok(one.has(member));
  t.notOk(other.has(member));
  t.notOk(other.delete(member));
  other.add(member);
  one.delete(member);
  t.ok(other.has(member));
});

t.test('who waits until it is empty is told once the last has left', async (t) => {
  const crowd = new Crowd<object>();
  await crowd.emptied();
  const [one, other] = [{}, {}];
  crowd.add(one);
  crowd.add(other);
  let told = 0;
  const waiting = [crowd.emptied(), crowd.emptied()].map((empty) => empty.then(() => (told += 1)));
  crowd.delete(one);
  await new Promise(setImmediate);
  t.equal(told, 0);
  crowd.delete(other);
  await Promise.all(waiting);
  t.equal(told, 2);
});

import fc from 'fast-check';
import t from 'tap';
import { Crowd, Tally } from '../src/crowd.ts';

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

t.test('what waits until it is empty is called once the last has left', async (t) => {
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

t.test('counts by name, as a Map would have them', async (t) => {
  const step = fc.record({ name: fc.constantFrom('a', 'b', 'c'), add: fc.boolean() });
  const difference = fc.check(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const tally = new Tally();
      const counts = new Map<string, number>();
      for (const { name, add } of steps) {
        const count = counts.get(name) ?? 0;
        if (add) tally.add(name);
        else if (count > 0) tally.remove(name);
        counts.set(name, Math.max(0, count + (add ? 1 : -1)));
        if (tally.of(name) !== counts.get(name) || tally.most !== Math.max(0, ...counts.values())) return false;
      }
      return true;
    }),
  );
  t.equal(difference.failed, false, JSON.stringify(difference.counterexample));
  t.throws(() => { new Tally().remove('nobody'); }, /negative/);
});

t.test('the largest count of very many', async (t) => {
  const tally = new Tally();
  for (let at = 0; at < 200_000; at += 1) tally.add(`name ${at}`);
  tally.add('name 7');
  t.equal(tally.most, 2);
});

t.test('names that count nothing are forgotten before they are many', async (t) => {
  const tally = new Tally();
  for (let at = 0; at < 10; at += 1) tally.add(`stays ${at}`);
  let most = 0;
  for (let at = 0; at < 5_000; at += 1) {
    tally.add(`goes ${at}`);
    tally.remove(`goes ${at}`);
    most = Math.max(most, tally.size);
  }
  t.ok(most <= 10 + 65, `${most} names`);
  for (let at = 0; at < 10; at += 1) t.equal(tally.of(`stays ${at}`), 1);
});

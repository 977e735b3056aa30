/** Every behaviour of a partner, in every form, one client at a time and many at once. */
import t from 'tap';
import { FULL } from '../support/full.ts';
import { BEHAVIOURS, type Behaviour, judge } from './behaviours.ts';
import { exchange, nameOf, type Place, type Route, ROUTES } from './exchange.ts';
import { startPartnerLab } from './lab.ts';

const ALONE = FULL ? 20 : 1;
const AT_ONCE = FULL ? 100 : 3;
/** Where a hundredth may fail: of fewer, it would be none. */
const MANY_AT_ONCE = FULL ? 100 : 40;
/** Of uploads: a fast client meets a close in the middle of a write, a slow one between two. ms; undefined: at full speed. */
const PACES = FULL ? [2, undefined, 20] : [5, 20];
/** Behaviours that are tried at the same time: each mostly waits. */
const SIDE_BY_SIDE = FULL ? 1 : 4;

t.setTimeout(FULL ? 45 * 60_000 : 300_000);
t.jobs = SIDE_BY_SIDE;

/** @returns what was wrong, once for each exchange that was */
async function drive(place: Place, route: Route, { question = {}, expected }: Behaviour, times: number, atOnce: boolean): Promise<string[]> {
  const ask = async (_: unknown, i: number): Promise<string | null> => {
    const { content } = question;
    const pace = PACES[i % PACES.length];
    return judge(await exchange(place, route, content === undefined || pace === undefined ? question : { ...question, content: { ...content, pace } }), expected, true);
  };
  const wrong: (string | null)[] = [];
  if (atOnce) wrong.push(...(await Promise.all(Array.from({ length: times }, ask))));
  else for (let i = 0; i < times; i += 1) wrong.push(await ask(null, i));
  return wrong.filter((text) => text !== null).map((text) => `${nameOf(route)}: ${text}`);
}

/** The clients of one way at a time where they are many: those of four ways would wait for the connections of one pool. */
async function driveAll(place: Place, routes: readonly Route[], behaviour: Behaviour, atOnce: number): Promise<string[]> {
  const wrong = (await Promise.all(routes.map((route) => drive(place, route, behaviour, ALONE, false)))).flat();
  const rounds = FULL ? routes.map((route) => [route]) : [routes];
  for (const round of rounds) wrong.push(...(await Promise.all(round.map((route) => drive(place, route, behaviour, atOnce, true)))).flat());
  return wrong;
}

for (const behaviour of BEHAVIOURS.filter(({ onlyInFull = false }) => FULL || !onlyInFull)) {
  const { name, routes = () => true, mayFail = 0, timeouts = {}, script } = behaviour;
  t.test(name, { buffered: true }, async (t) => {
    const { lab, place, plain, secure } = await startPartnerLab(t, {
      script,
      configure: (draft) => {
        Object.assign(draft.timeouts, timeouts);
        // Each exchange is to meet the partner itself, however many fail.
        Object.assign(draft, { circuitBreaker: { enabled: false } });
      },
    });
    const chosen = ROUTES.filter(routes);
    const atOnce = mayFail > 0 ? MANY_AT_ONCE : AT_ONCE;
    const all = chosen.length * (ALONE + atOnce);
    const wrong = await driveAll(place, chosen, behaviour, atOnce);
    for (const route of chosen) {
      const [first, ...others] = wrong.filter((text) => text.startsWith(`${nameOf(route)}:`));
      if (first !== undefined) t.comment(`${others.length + 1} of ${ALONE + atOnce}, the first: ${first}`);
    }
    t.ok(wrong.length <= mayFail * all, `${wrong.length} of ${all} exchanges went wrong: ${[...new Set(wrong)].slice(0, 10).join('; ')}`);
    t.same([...plain.failures, ...secure.failures], [], 'the partner did what its script says');
    t.same(lab.log.filter(({ code }) => code === 'internal'), [], 'nothing was a surprise');
  });
}

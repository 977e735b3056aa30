/** Every behaviour of a partner, in every form, one client at a time and many at once. */
import t from 'tap';
import { BEHAVIOURS, type Behaviour, judge } from './behaviours.ts';
import { exchange, nameOf, type Place, type Route, ROUTES } from './exchange.ts';
import { FULL, startPartnerLab } from './lab.ts';

const ALONE = FULL ? 20 : 1;
const AT_ONCE = FULL ? 100 : 3;
/** Of uploads: a fast client meets a close in the middle of a write, a slow one between two. ms; undefined: at full speed. */
const PACES = FULL ? [2, undefined, 20] : [5, 20];
/** Behaviours that are tried at the same time: each mostly waits. */
const SIDE_BY_SIDE = FULL ? 1 : 4;

t.setTimeout(FULL ? 45 * 60_000 : 300_000);
t.jobs = SIDE_BY_SIDE;

/** @returns what was wrong, once for each exchange that was */
async function drive(place: Place, route: Route, { question = {}, expected }: Behaviour): Promise<string[]> {
  const ask = async (_: unknown, i: number): Promise<string | null> => {
    const { content } = question;
    const pace = PACES[i % PACES.length];
    return judge(await exchange(place, route, content === undefined || pace === undefined ? question : { ...question, content: { ...content, pace } }), expected, true);
  };
  const wrong: (string | null)[] = [];
  for (let i = 0; i < ALONE; i += 1) wrong.push(await ask(null, i));
  wrong.push(...(await Promise.all(Array.from({ length: AT_ONCE }, ask))));
  return wrong.filter((text) => text !== null);
}

for (const behaviour of BEHAVIOURS.filter(({ onlyInFull = false }) => FULL || !onlyInFull)) {
  const { name, routes = () => true, mayFail = 0, timeouts = {}, script } = behaviour;
  t.test(name, { buffered: true }, async (t) => {
    const { lab, place, plain, secure } = await startPartnerLab(t, { script, configure: (draft) => Object.assign(draft.timeouts, timeouts) });
    const chosen = ROUTES.filter(routes);
    // Of all routes together: a hundredth of a few is none.
    const all = chosen.length * (ALONE + AT_ONCE);
    const wrong = await Promise.all(
      chosen.map(async (route) => {
        const found = await drive(place, route, behaviour);
        if (found.length > 0) t.comment(`${nameOf(route)}: ${found.length} of ${ALONE + AT_ONCE}: ${found[0] ?? ''}`);
        return found.map((text) => `${nameOf(route)}: ${text}`);
      }),
    );
    t.ok(wrong.flat().length <= mayFail * all, `${wrong.flat().length} of ${all} exchanges went wrong: ${[...new Set(wrong.flat())].slice(0, 10).join('; ')}`);
    t.same([...plain.failures, ...secure.failures], [], 'the partner did what its script says');
    t.same(lab.log.filter(({ code }) => code === 'internal'), [], 'nothing was a surprise');
  });
}

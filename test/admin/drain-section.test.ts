/** What the status page says of a shutdown. */
import t from 'tap';
import { renderDrain } from '../../src/admin/drain-section.ts';
import type { DrainView } from '../../src/drain/drain-view.ts';

const VIEW: DrainView = {
  state: 'running',
  deadline: null,
  secondsLeft: null,
  tunnels: { open: 200, idle: 150, busy: 50, endsPerSecond: 8.4, medianAge: 60.5, oldestAge: 3600, byClient: [{ client: 'pods', tunnels: 200 }], byDestination: [{ destination: 'eco', tunnels: 200 }] },
  exchanges: 3,
  ended: { byThemselves: 0, quiet: 0, busy: 0, cut: 0, exchangesCut: 0 },
};

t.test('before: a forecast, or nothing where no tunnel is open', async (t) => {
  const page = renderDrain(VIEW);
  for (const text of ['<h2>Shutdown</h2>', '200: 150 idle, 50 busy', 'A shutdown now would end', '8.4 tunnels a second', '60.5 s median, 3600 s at most']) t.match(page, text);
  t.notMatch(page, 'Deadline');
  t.equal(renderDrain({ ...VIEW, tunnels: { ...VIEW.tunnels, open: 0, medianAge: null, oldestAge: null } }), '');
});

t.test('meanwhile: the deadline, and what has ended how', async (t) => {
  const page = renderDrain({ ...VIEW, state: 'draining', deadline: '2026-01-01T00:00:00.000Z', secondsLeft: 12.5, ended: { byThemselves: 1, quiet: 2, busy: 3, cut: 0, exchangesCut: 0 }, tunnels: { ...VIEW.tunnels, medianAge: null, oldestAge: null } });
  for (const text of ['ending tunnels', '2026-01-01T00:00:00.000Z, in 12.5 s', '1 by themselves, 2 quietly, 3 while busy, 0 cut; exchanges cut: 0']) t.match(page, text);
});

/** A file with more faults than anybody reads: what log and `/readyz` say of it. */
import t from 'tap';
import { startLab } from '../support/lab.ts';

t.test('a file with thousands of faults: the log has the first of them, in a line that its reader takes', async (t) => {
  const lab = await startLab(t);
  const outcome = await lab.reload((draft) => {
    for (let i = 0; i < 12_000; i += 1) draft.rules.push({ clients: [`unknown-${i}`], destinations: ['eco'] });
  });
  t.match(outcome, { result: 'refused', reasons: { length: 51, 50: /^11950 further faults of the configuration: npx eco-egress check shows them all\.$/ } });
  const line = await lab.logged(({ msg }) => msg === 'reload refused: the previous configuration stays active');
  t.match(line['reasons'], { length: 51, 0: /unknown-0/ });
  t.equal(((await (await fetch(`${lab.adminUrl}/readyz`)).json()) as { warnings: string[] }).warnings.length, 52);
  t.equal((await lab.scrape()).samples.get('eco_egress_log_lines_dropped_total{reason="slow"}'), 0);
});

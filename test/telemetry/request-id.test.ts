import t from 'tap';
import { createRequestIds } from '../../src/telemetry/access-record.ts';

t.test('ids are unique, of one width, and safe in a URL', async (t) => {
  const [one, other] = [createRequestIds(), createRequestIds()];
  const ids = new Set<string>();
  for (let count = 0; count < 50_000; count += 1) ids.add(one()).add(other());
  t.equal(ids.size, 100_000);
  for (const id of ids) if (!/^[0-9a-f]{12}-[0-9a-z]{9}$/.test(id)) t.fail(id);
});

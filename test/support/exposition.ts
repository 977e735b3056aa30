/** An exposition without metrics, for tests of what shows or fills one. */
import { Attempts } from '../../src/telemetry/telemetry.ts';
import { Exposition } from '../../src/telemetry/exposition.ts';

export function createExposition(): Exposition {
  return new Exposition(new Attempts(() => {}).run);
}

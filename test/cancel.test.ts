/** Calling off: as an AbortController does it. */
import t from 'tap';
import { Cancellation, type CancelSignal } from '../src/cancel.ts';

for (const [what, make] of [['AbortController', () => new AbortController()], ['Cancellation', () => new Cancellation()]] as const) {
  t.test(`${what}: listeners are called once, in order, and none that was taken off`, async (t) => {
    const controller = make();
    const signal: CancelSignal = controller instanceof AbortController ? controller.signal : controller;
    const called: string[] = [];
    const first = (): void => void called.push('first');
    const second = { handleEvent: () => void called.push('second') };
    const third = (): void => void called.push('third');
    const fourth = (): void => void called.push('fourth');
    const remover = (): void => {
      signal.removeEventListener('abort', fourth);
    };
    signal.addEventListener('abort', first);
    signal.addEventListener('abort', second);
    signal.addEventListener('abort', third);
    signal.removeEventListener('abort', third);
    signal.removeEventListener('abort', third);
    signal.addEventListener('abort', remover);
    signal.addEventListener('abort', fourth);
    t.equal(signal.aborted, false);
    controller.abort('why');
    controller.abort('later');
    signal.addEventListener('abort', third);
    t.strictSame([signal.aborted, signal.reason, called], [true, 'why', ['first', 'second']]);
  });
}

t.test('a listener that throws keeps no other from being called', async (t) => {
  const cancellation = new Cancellation();
  const called: string[] = [];
  cancellation.addEventListener('abort', () => {
    throw new Error('on purpose');
  });
  cancellation.addEventListener('abort', () => {
    called.push('behind it');
  });
  t.throws(() => {
    cancellation.abort();
  }, { message: 'on purpose' });
  t.strictSame(called, ['behind it']);
});

/** What a dial that was called off rejects with. */
import { Fault } from '../errors.ts';

/** The Fault the signal was aborted with; without one, the client is taken to have left. */
export function abortFault(signal: AbortSignal): Fault {
  const reason: unknown = signal.reason;
  return reason instanceof Fault ? reason : new Fault('client-closed', 'nobody waits for this connection any more', { cause: reason });
}

/** Lets a guard judge every address of a name, before any of them is dialled. */
import { Fault } from '../errors.ts';
import type { AddressGuard } from './dial.ts';

/** @throws Fault of the first refused address, naming all, when none may be dialled. */
export function judge(addresses: readonly string[], port: number, guard: AddressGuard): readonly string[] {
  const [only] = addresses;
  if (only !== undefined && addresses.length === 1) {
    const refusal = guard(only, port);
    if (refusal !== null) throw refusal;
    return addresses;
  }
  const refusals: Fault[] = [];
  const permitted = addresses.filter((address) => {
    const refusal = guard(address, port);
    if (refusal !== null) refusals.push(refusal);
    return refusal === null;
  });
  const [first] = refusals;
  if (permitted.length > 0 || first === undefined) return permitted;
  if (refusals.length === 1) throw first;
  throw new Fault(first.code, refusals.map((refusal) => refusal.message).join('; '), {
    cause: first,
    ...(first.remedy === null ? {} : { remedy: first.remedy }),
  });
}

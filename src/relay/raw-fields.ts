/** Header and trailer fields as the upstream sent them, from undici's controller. */
import type { Dispatcher } from 'undici';

/** Names and values in turn. */
export type RawFields = readonly (string | Buffer)[];

const NONE: RawFields = [];

// undici keeps the fields as they came beside the parsed ones, which have lost case and order.
export function rawHeaders(controller: Dispatcher.DispatchController): RawFields {
  return (controller.rawHeaders as RawFields | null | undefined) ?? NONE;
}

export function rawTrailers(controller: Dispatcher.DispatchController): RawFields {
  return (controller.rawTrailers as RawFields | null | undefined) ?? NONE;
}

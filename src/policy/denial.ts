/** A verdict against a request on its way to the client, with what had been asked. */
import { Fault } from '../errors.ts';
import type { Ask, Deny } from './verdict.ts';

export class Denial extends Fault {
  readonly ask: Ask;

  constructor(ask: Ask, { code, detail, remedy, challenges }: Deny) {
    super(code, detail, { remedy, challenges });
    this.ask = ask;
  }
}

/** Client connections of all HTTP listeners together, and their limit. */
import type { LimitsConfig } from '../config/config.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';

export class ConnectionCount {
  readonly #telemetry: Telemetry;
  #limit: number;
  #open = 0;

  constructor({ connections }: LimitsConfig, telemetry: Telemetry) {
    this.#limit = connections;
    this.#telemetry = telemetry;
  }

  get limit(): number {
    return this.#limit;
  }

  adopt({ connections }: LimitsConfig): void {
    this.#limit = connections;
  }

  /** False when the limit is reached. Each true is answered by one `leave`. */
  enter(): boolean {
    if (this.#open >= this.#limit) return false;
    this.#open += 1;
    this.#telemetry.clientConnections(1);
    return true;
  }

  leave(): void {
    this.#open -= 1;
    this.#telemetry.clientConnections(-1);
  }
}

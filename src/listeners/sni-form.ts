/**
 * Raw TLS that was steered here: its ClientHello says which destination is
 * meant. Judged like any other request, then passed on byte for byte.
 */
import type { Socket } from 'node:net';
import type { Form } from '../config/config.ts';
import type { Egress } from '../egress.ts';
import { Fault } from '../errors.ts';
import type { Ask } from '../policy/verdict.ts';
import type { AccessRecord } from '../telemetry/access-record.ts';
import { takeForm } from './take-form.ts';
import type { ClientPeer } from './trusted-peers.ts';
import { Visit, type VisitContext } from './visit.ts';

export interface SniFormOptions {
  readonly egress: Egress;
  readonly context: VisitContext;
  readonly record: (clientAddress: string) => AccessRecord;
}

export interface SteeredTls {
  /** Nobody listens to it; owned from here on. */
  readonly socket: Socket;
  /** All that has been read from it. */
  readonly head: Buffer;
  /** Canonical. */
  readonly host: string;
  /** A second, encrypted name may be inside. */
  readonly ech: boolean;
  readonly peer: ClientPeer;
  /** That the listener takes. */
  readonly forms: readonly Form[];
}

export class SniForm {
  readonly #options: SniFormOptions;

  constructor(options: SniFormOptions) {
    this.#options = options;
  }

  /** Everything that goes wrong is answered by an alert. */
  onSteered({ socket, head, host, ech, peer, forms }: SteeredTls): void {
    const { egress, context, record: begin } = this.#options;
    const record = begin(peer.address);
    const visit = new Visit(context, record, { socket, req: null, res: null, head });
    record.host = host;
    try {
      record.port = egress.policy.tlsPort(host);
      takeForm(record, 'sni', forms);
      // Raw TLS shows the proxy no credentials.
      const { address, sans } = peer;
      const ask: Ask = { form: 'sni', peer: { address, sans, user: null, token: null, rejected: null }, now: Date.now(), host, port: record.port, method: null, path: null };
      const permit = egress.admit(ask, 'tunnels', record);
      visit.hold(permit);
      void visit.startTunnel((signal) => egress.openTunnel(permit, peer.port, record, signal), null);
    } catch (error) {
      const fault = Fault.from(error);
      if (ech) fault.message += '; a second, encrypted name may be inside (ECH), which cannot be read here';
      visit.refuse(fault);
    }
  }
}

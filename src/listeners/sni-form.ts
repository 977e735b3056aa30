/**
 * Steered raw TLS: its ClientHello names the destination. It is authorised like
 * any other request, then forwarded byte for byte.
 */
import { Fault } from '../errors.ts';
import { type Ask, peerAt } from '../policy/verdict.ts';
import { AccessRecord, nextRequestId } from '../telemetry/access-record.ts';
import type { ClientConnection } from './client-connection.ts';
import { createSteeringGuard } from './fronting-guard.ts';
import { takeForm } from './http-forms.ts';
import { endUnread, environmentOf, overloadFault, RequestContext, type RequestEnvironment } from './request-context.ts';
import { alertFor } from './tls-terminator.ts';

/** What is known of a connection once its ClientHello has been read. */
export interface SteeredTls {
  /** All bytes read from the connection. */
  readonly head: Buffer;
  /** Canonical. */
  readonly host: string;
  /** From the ClientHello. */
  readonly random: string;
  /** It may contain a second, encrypted name. */
  readonly ech: boolean;
}

/** Serves raw TLS on the TLS listeners. Has no state per request. */
export class SniForm {
  readonly #environment: RequestEnvironment;

  constructor(environment: RequestEnvironment) {
    this.#environment = environment;
  }

  /** Every error is answered by an alert. */
  onSteered(connection: ClientConnection, { head, host, random, ech }: SteeredTls): void {
    const { egress, config } = this.#environment;
    const { peer } = connection;
    const record = new AccessRecord(nextRequestId(), performance.now(), peer.address);
    record.host = host;
    record.form = 'sni';
    const environment = environmentOf(connection, this.#environment);
    const overloaded = overloadFault(connection, environment, record);
    if (overloaded !== null) {
      connection.endWith(alertFor(overloaded));
      endUnread(environment, record, overloaded, 0);
      return;
    }
    const request = new RequestContext(environment, record, connection, null);
    try {
      record.port = egress.policy.tlsPort(host);
      takeForm(record, 'sni', connection.forms);
      const loop = request.enterHello(random);
      if (loop !== null) throw loop;
      refuseMeshTls(record);
      const ask: Ask = { form: 'sni', peer: peerAt(peer.address), now: Date.now(), host, port: record.port, method: null, path: null };
      const permit = egress.admit(ask, 'tunnels', record);
      request.hold(permit);
      request.startTunnel(permit, peer.port, createSteeringGuard(request, permit, config), head);
    } catch (error) {
      if (ech) record.noteDetail('a second, encrypted name may be inside (ECH), which cannot be read here');
      request.failed(error);
    }
  }
}

/**
 * Sidecars name the cluster of their route in their own mTLS:
 * `outbound_.8443_._.eco-egress.eco-egress.svc.cluster.local`. No partner has such a name, and the proxy cannot
 * terminate that TLS.
 */
function refuseMeshTls(record: AccessRecord): void {
  if (!record.host.startsWith('outbound_.')) return;
  record.verdict = 'deny';
  throw new Fault(
    'host-not-allowed',
    `${record.host} is the server name of a sidecar's own mTLS, and this proxy has no sidecar to end it`,
    {
      remedy: "set trafficPolicy.tls.mode: DISABLE for the proxy in the DestinationRule of the client's namespace; no host has to be added",
    },
  );
}

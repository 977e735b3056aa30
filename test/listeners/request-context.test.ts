/** A request that ends while it is dialled for. What a whole proxy does then is in test/integration/tunnel.test.ts. */
import { Socket } from 'node:net';
import t from 'tap';
import type { CancelSignal } from '../../src/cancel.ts';
import { Crowd } from '../../src/crowd.ts';
import type { Permit } from '../../src/egress.ts';
import type { ClientConnection } from '../../src/listeners/client-connection.ts';
import { RequestContext, type RequestEnvironment } from '../../src/listeners/request-context.ts';
import { AccessRecord } from '../../src/telemetry/access-record.ts';

t.test('a connection that comes after the client has gone is closed, and carries nothing', async (t) => {
  const ended: string[] = [];
  const written: unknown[] = [];
  const crashes: unknown[] = [];
  // As much of both as a request needs that never gets as far as a tunnel.
  const dial = Promise.withResolvers<Socket>();
  let signal: CancelSignal | null = null;
  const environment = {
    telemetry: { ended: ({ code }: AccessRecord) => ended.push(code), tunnelOpened: () => ended.push('opened') },
    remember: () => {},
    egress: {
      clientName: () => '-',
      openTunnel: (_permit: Permit, _port: number, _record: AccessRecord, given: CancelSignal) => {
        signal = given;
        return dial.promise;
      },
    },
    requests: new Crowd<RequestContext>(),
    hellos: new Set(),
    overload: null,
    draining: false,
  } as unknown as RequestEnvironment;
  const connection = {
    request: null,
    pause: () => {},
    detach: () => null,
    crash: (error: unknown) => crashes.push(error),
    socket: { write: (bytes: unknown) => written.push(bytes) },
  } as unknown as ClientConnection;
  const request = new RequestContext(environment, new AccessRecord('id', 0, '10.8.1.4'), connection, null);

  request.startTunnel({} as unknown as Permit, 0, null);
  request.clientClosed();
  t.equal((signal as CancelSignal | null)?.aborted, true, 'the dial is called off');
  t.strictSame(ended, ['client-closed']);

  // It had succeeded in the very same turn.
  const upstream = new Socket();
  dial.resolve(upstream);
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(upstream.destroyed, true);
  t.strictSame([written, crashes, ended], [[], [], ['client-closed']]);
  t.equal(environment.requests.size, 0);
});

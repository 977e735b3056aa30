/** Access records for tests of what listens to the data path. */
import { AccessRecord } from '../../src/telemetry/access-record.ts';

/** An exchange that went well through destination `eco-sit`, with `changes` on top. */
export function makeRecord(changes: Partial<AccessRecord> = {}): AccessRecord {
  const record = new AccessRecord(changes.requestId ?? 'id-1', 0, changes.clientAddress ?? '10.8.3.17');
  return Object.assign(record, {
    form: 'gateway',
    client: 'dynatrace-sit',
    method: 'GET',
    host: 'eco-sit.telus.internal',
    port: 443,
    path: '/api/x',
    destination: 'eco-sit',
    rule: 'rules[0]',
    verdict: 'allow',
    status: 200,
    upstreamAddress: '10.40.1.9',
    became: 'exchange',
    dialled: true,
    durationMs: 12,
    bytesSent: 120,
    bytesReceived: 4096,
    closedBy: 'upstream',
    ...changes,
  });
}

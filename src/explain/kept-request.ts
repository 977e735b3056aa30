/** The record of a denied or failed request: copies of its values, limited in length, without credentials and queries. */
import type { Form } from '../config/config.ts';
import type { FaultCode } from '../errors.ts';
import { detach, ownAsk } from '../policy/own-ask.ts';
import type { Ask } from '../policy/verdict.ts';
import { formatAuthority } from '../targets/host.ts';
import type { AccessRecord } from '../telemetry/access-record.ts';
import { bound } from '../telemetry/safe-text.ts';

/** Plain data of one denial or failure, safe to show: no credentials, no query. */
export interface DenialRecord {
  readonly requestId: string;
  /** When it ended: RFC 3339, as in the log. */
  readonly time: string;
  /** `report`: it passed in report mode; `code` is then that of the denial that was not enforced. `allow`: it was permitted and has failed. */
  readonly verdict: 'deny' | 'report' | 'allow';
  readonly code: FaultCode;
  readonly detail: string;
  readonly remedy: string | null;
  /** Sent to the client; 0: nothing was sent. */
  readonly status: number;
  /** `-`: not known when it was denied. */
  readonly form: Form | '-';
  readonly client: string;
  readonly clientAddress: string;
  readonly method: string;
  readonly host: string;
  readonly port: number;
  readonly path: string;
  readonly destination: string;
}

/** The same with the input of the policy, so that it can be decided again. */
export interface KeptRequest {
  readonly shown: Omit<DenialRecord, 'time'>;
  /** Ms since the epoch. */
  readonly endedAt: number;
  /** The input of the policy; null: the policy did not decide, or it was too long to keep. */
  readonly ask: Ask | null;
}

/** Longest text kept of each kind, characters. */
const MAX_KEPT_METHOD = 32;
const MAX_KEPT_HOST = 256;
const MAX_KEPT_PATH = 2_048;
const MAX_KEPT_DETAIL = 1_024;

/** The part that may be shown. */
export function recordOf({ shown: { requestId, ...rest }, endedAt }: Omit<KeptRequest, 'ask'>): DenialRecord {
  return { requestId, time: new Date(endedAt).toISOString(), ...rest };
}

/** As `explain` takes it: `TLS` and a host for raw TLS. A request that was refused before its target was known has `no host`. */
export function questionOf({ form, method, host, port, path }: Omit<DenialRecord, 'time'>): { method: string; target: string } {
  if (form === 'sni') return { method: 'TLS', target: host };
  return { method, target: host === '-' ? 'no host' : `${formatAuthority(host, port)}${path}` };
}

/** The fault of a request. */
export interface Found {
  readonly code: FaultCode;
  readonly detail: string;
  readonly remedy: string | null;
}

/** Copies what is kept of a record; the record itself is not kept. */
export function keep(
  record: AccessRecord,
  verdict: DenialRecord['verdict'],
  { code, detail, remedy }: Found,
  ask: Ask | null,
  endedAt: number,
): KeptRequest {
  const host = own(record.host, MAX_KEPT_HOST);
  const path = own(record.path, MAX_KEPT_PATH);
  const { requestId, status, form, client, port, destination } = record;
  const shown = {
    requestId,
    verdict,
    code,
    detail: own(detail, MAX_KEPT_DETAIL),
    remedy: remedy === null ? null : own(remedy, MAX_KEPT_DETAIL),
    status,
    form,
    client,
    clientAddress: own(record.clientAddress, MAX_KEPT_HOST),
    method: own(record.method, MAX_KEPT_METHOD),
    host,
    port,
    path,
    destination,
  };
  return { shown, endedAt, ask: ask === null ? null : ownAsk(ask, [host, path]) };
}

function own(text: string, length: number): string {
  return detach(bound(text, length));
}

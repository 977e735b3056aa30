/** A proxy that forms of request are tried by. */
import type { Socket } from 'node:net';
import type { Form } from '../config/config.ts';
import type { Finding } from './finding.ts';
import type { ProxyAddress } from './proxy-url.ts';

/** The forms, and TLS that ends at the proxy with any of them inside. */
export type TriedForm = Form | 'terminated';

export interface FormsProxy {
  readonly kind: 'named' | 'running' | 'stand-in';
  readonly findings: readonly Finding[];
  /** A connection to a listener that takes the form; null: none does. The caller closes it. Rejects with a Fault. */
  open(form: TriedForm): Promise<Socket> | null;
  readonly credentials: ProxyAddress['credentials'];
  close(): Promise<void>;
}

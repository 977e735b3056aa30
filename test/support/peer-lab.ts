/** A lab behind load balancers: who connects from 127.0.0.1 may speak for others, who connects from 127.0.0.2 may not. */
import type { Test } from 'tap';
import type { HttpForm } from '../../src/config/config.ts';
import { type Draft, ECO, type Lab, type LabOptions, startLab } from './lab.ts';

/** The load balancer. More of them stand in 10.9.0.0/16. */
export const TRUSTED = '127.0.0.1';
/** A pod that connects by itself. It may use ECO, too. */
export const STRANGER = '127.0.0.2';
/** Behind the load balancer: may use ECO, by IPv4 and IPv6. */
export const POD = '10.8.3.17';
export const POD6 = '2001:db8:8::7';
/** Behind the load balancer, the neighbours just outside of what may. */
export const OTHER = '10.12.0.0';
export const OTHER6 = '2001:db8:9::';

export interface PeerLabOptions extends Omit<LabOptions, 'configure'> {
  /** Keys of the listener. */
  readonly listener?: Record<string, unknown>;
  readonly configure?: (draft: Draft) => void;
}

export function startPeerLab(t: Test, { listener = {}, configure, ...options }: PeerLabOptions = {}): Promise<Lab> {
  return startLab(t, {
    ...options,
    configure: (draft) => {
      draft.listeners['http'] = [{ address: '127.0.0.1:0', trustedPeers: [`${TRUSTED}/32`, '10.9.0.0/16'], ...listener }];
      Object.assign(draft.clients, { pods: { addresses: ['10.8.0.0/14', '2001:db8:8::/48'] }, strangers: { addresses: [`${STRANGER}/32`] } });
      draft.rules[0] = { clients: ['pods', 'strangers'], destinations: ['eco'] };
      configure?.(draft);
    },
  });
}

/** One request in a form, for the plain upstream, as it stands on the wire. A tunnel's first bytes come with it, unasked. */
export function wireRequest(lab: Lab, form: HttpForm, fields: readonly string[] = []): string {
  const authority = `${ECO}:${lab.upstream.httpPort}`;
  const rest = `${fields.map((field) => `${field}\r\n`).join('')}\r\n`;
  switch (form) {
    case 'connect':
      return `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${rest}GET /connect HTTP/1.1\r\nHost: eco\r\nConnection: close\r\n\r\n`;
    case 'forward':
      return `GET http://${authority}/forward HTTP/1.1\r\nHost: ${authority}\r\nConnection: close\r\n${rest}`;
    case 'gateway':
      return `GET /eco/gateway HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n${rest}`;
    case 'host-routed':
      return `GET /host-routed HTTP/1.1\r\nHost: ${authority}\r\nConnection: close\r\n${rest}`;
  }
}

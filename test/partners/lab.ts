/** A whole proxy between the clients of these tests and a scripted partner, with a network's delays on both sides. */
import type { Test } from 'tap';
import { type Draft, ECO, labCertificates, type Lab, type LabOptions } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { OWN, startTlsLab } from '../support/tls-lab.ts';
import type { Place } from './exchange.ts';
import { createPartner, type Partner, type PartnerOptions } from './partner.ts';
import { createRelay } from './relay.ts';

/** The longest delay of one direction on one side, ms. */
export const MOST_DELAY = 50;

export interface PartnerLab {
  readonly lab: Lab;
  readonly place: Place;
  readonly plain: Partner;
  readonly secure: Partner;
}

export interface PartnerLabOptions extends Pick<PartnerOptions, 'script' | 'onConnection'>, Pick<LabOptions, 'lookup' | 'files'> {
  readonly configure?: (draft: Draft) => void;
  /** Of both sides, ms. */
  readonly delay?: number;
  readonly seed?: number;
}

export async function startPartnerLab(t: Test, { script, onConnection, configure, delay = MOST_DELAY, seed = 1, ...options }: PartnerLabOptions): Promise<PartnerLab> {
  const { authority, certPem, keyPem } = await labCertificates();
  let relays = 0;
  /** With a network before it. */
  const near = async (port: number): Promise<number> => {
    relays += 1;
    return delay === 0 ? port : listen(t, createRelay({ port, most: delay, seed: seed * 10 + relays }));
  };
  const start = async (secure: boolean): Promise<{ partner: Partner; port: number }> => {
    const partner = createPartner({ script, certificate: secure ? { certPem, keyPem } : null, ...(onConnection !== undefined && { onConnection }) });
    return { partner, port: await near(await listen(t, partner.server)) };
  };
  const [plain, secure] = [await start(false), await start(true)];
  const lab = await startTlsLab(t, {
    ...options,
    configure: (draft) => {
      const plainHost = 'plain.telus.internal';
      Object.assign(draft.destinations.eco, { ports: [secure.port, plain.port], gateway: { prefix: '/eco', url: `https://${ECO}:${secure.port}` } });
      draft.destinations['plain'] = { hosts: [plainHost], ports: [plain.port], addresses: ['127.0.0.0/8'], gateway: { prefix: '/plain', url: `http://${plainHost}:${plain.port}` } };
      draft.rules.push({ clients: ['pods'], destinations: ['plain'] });
      configure?.(draft);
    },
  });
  const port = await near(lab.port);
  return {
    lab,
    plain: plain.partner,
    secure: secure.partner,
    place: {
      port,
      gatewayPort: port,
      tlsPort: await near(lab.tlsPort),
      ownName: OWN,
      host: ECO,
      plainPort: plain.port,
      securePort: secure.port,
      plainPrefix: '/plain',
      securePrefix: '/eco',
      ca: authority.certPem,
    },
  };
}

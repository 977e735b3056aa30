/** A lab whose proxy goes to ECO by parents; one of them may be another proxy of ours. */
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import type { Test } from 'tap';
import { hashPassword } from '../../src/identity/proxy-authorization.ts';
import { type Draft, ECO, type Lab, type LabOptions } from './lab.ts';
import { OWN, startTlsLab, type TlsLab } from './tls-lab.ts';

export const LOGIN = 'eco-egress:gate-password';

/** For a hop whose parents are of this machine; new each time, since a file cannot repeat itself. */
export const local = (): { addresses: string[] } => ({ addresses: ['127.0.0.0/8', '::1/128'] });

/** Sends ECO by these hops, nearest first. */
export function goBy(draft: Draft, hops: Readonly<Record<string, object>>, change: object = {}): void {
  draft.hops = Object.fromEntries(Object.entries(hops).map(([name, hop]) => [name, { ...local(), ...hop }]));
  Object.assign(draft.destinations.eco, { via: Object.keys(hops), ...change });
}

export interface HopLabOptions extends Omit<LabOptions, 'configure'> {
  readonly hops: Readonly<Record<string, object>>;
  readonly configure?: (draft: Draft) => void;
}

/** `hops` and `configure` hold for its reloads, too. */
export async function startHopLab(t: Test, { hops, configure, ...options }: HopLabOptions): Promise<TlsLab> {
  const lab = await startTlsLab(t, {
    ...options,
    configure: (draft) => {
      goBy(draft, hops);
      configure?.(draft);
    },
  });
  return {
    ...lab,
    reload: (change) =>
      lab.reload((draft) => {
        goBy(draft, hops);
        configure?.(draft);
        change(draft);
      }),
  };
}

/** Another proxy of ours, whose listeners take LOGIN in plain and a token inside TLS. */
export interface ParentProxy {
  readonly lab: Lab;
  readonly http: string;
  readonly https: string;
  readonly token: string;
  /** Permits what a lab asks for, by name and by address, and nothing else. */
  permit(lab: Lab): Promise<void>;
}

export async function startParentProxy(t: Test, { name = 'parent-proxy' }: { readonly name?: string } = {}): Promise<ParentProxy> {
  const [user = '', password = ''] = LOGIN.split(':');
  const { privateKey, publicKey } = await generateKeyPair('ES256');
  const jwks = JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: 'k', alg: 'ES256', use: 'sig' }] });
  const file = `${t.testdir({ 'jwks.json': jwks })}/jwks.json`;
  const clients = {
    'by-password': { basic: [{ user, hash: await hashPassword(password) }] },
    'by-token': { tokens: [{ issuer: 'https://issuer.test', audience: name, subjects: ['eco-egress'], jwksFile: file }] },
  };
  const configure = (draft: Draft): void => {
    draft.name = name;
    delete draft.clients['pods'];
    Object.assign(draft.clients, clients);
    Object.assign(draft.rules[0] ?? {}, { clients: Object.keys(clients) });
  };
  const lab = await startTlsLab(t, { configure, files: { [file]: jwks } });
  const token = await new SignJWT({}).setProtectedHeader({ alg: 'ES256', kid: 'k' }).setIssuer('https://issuer.test').setAudience(name).setSubject('eco-egress').setIssuedAt().setExpirationTime('5m').sign(privateKey);
  return {
    lab,
    http: `http://parent.test:${lab.port}`,
    https: `https://${OWN}:${lab.tlsPort}`,
    token,
    permit: async (child) => {
      const { result } = await lab.reload((draft) => {
        configure(draft);
        Object.assign(draft.destinations.eco, { hosts: [ECO, '127.0.0.1'], ports: [child.upstream.httpsPort, child.upstream.httpPort], gateway: undefined });
      });
      if (result !== 'applied') throw new Error('the parent proxy refused its configuration');
    },
  };
}


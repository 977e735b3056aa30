import t from 'tap';
import type { UpstreamTlsConfig } from '../../src/config/config.ts';
import { createAuthority } from '../../src/demo/authority.ts';
import { describePolicy } from '../../src/telemetry/collectors.ts';
import { startLab } from '../support/lab.ts';
import type { Scrape } from '../support/prometheus.ts';
import { createRevokingAuthority } from '../support/revoking-authority.ts';
import { startTlsLab } from '../support/tls-lab.ts';

const SOON = new Date('2031-01-02T03:04:05Z');
const LATER = new Date('2032-01-02T03:04:05Z');
const seconds = (date: Date): number => date.getTime() / 1000;

function expiries({ samples }: Scrape): Record<string, number> {
  const series = [...samples].filter(([name]) => name.startsWith('eco_egress_certificate_expiry_timestamp_seconds{'));
  return Object.fromEntries(series.map(([name, value]) => [/certificate="(.*)"/.exec(name)?.[1] ?? '', value]));
}

t.test('every configured file with certificates tells when the first of them expires', async (t) => {
  const authority = await createAuthority();
  const soon = await authority.issue({ names: ['a.example'], notAfter: SOON });
  const later = await authority.issue({ names: ['b.example'], notAfter: LATER });
  const tls = (files: Partial<UpstreamTlsConfig>): { readonly tls: UpstreamTlsConfig } => ({ tls: { ca: null, cert: null, key: null, serverName: null, ...files } });
  const described = {
    clients: [],
    destinations: [
      { name: 'chain', ...tls({ cert: `# ours\n${later.certPem}\n${soon.certPem}`, ca: later.certPem }) },
      { name: 'plain', ...tls({}) },
    ],
    hops: [{ name: 'activegateway', parents: [], ...tls({ ca: soon.certPem }) }],
    sourceIp: { probe: tls({ ca: later.certPem }) },
    tracing: tls({ ca: soon.certPem, cert: later.certPem }),
    limits: {},
    tlsServer: { cert: soon.certPem, clientCa: null },
  } as unknown as Parameters<typeof describePolicy>[0];
  t.strictSame(Object.fromEntries(describePolicy(described, { hash: 'hash', file: '-', loadedAt: 0, warnings: new Map(), ruleEnds: [] }).certificates), {
    'tlsServer.certFile': seconds(SOON),
    'destinations.chain.tls.certFile': seconds(SOON),
    'destinations.chain.tls.caFile': seconds(LATER),
    'hops.activegateway.tls.caFile': seconds(SOON),
    'sourceIp.probe.tls.caFile': seconds(LATER),
    'tracing.tls.certFile': seconds(LATER),
    'tracing.tls.caFile': seconds(SOON),
  });
});

t.test('a running proxy tells it, and anew after a reload', async (t) => {
  const { certPem, keyPem } = await (await createAuthority()).issue({ names: ['pods.example'], clientAuth: true, notAfter: SOON });
  const lab = await startLab(t, { files: { '/lab/client.pem': certPem, '/lab/client.key': keyPem } });
  const before = expiries(await lab.scrape());
  t.strictSame(Object.keys(before), ['destinations.eco.tls.caFile']);
  t.match(before['destinations.eco.tls.caFile'], Number);

  await lab.reload((draft) => {
    draft.destinations.eco['tls'] = { certFile: 'client.pem', keyFile: 'client.key' };
  });
  t.strictSame(expiries(await lab.scrape()), { 'destinations.eco.tls.certFile': seconds(SOON) }, 'what is no longer configured is gone');
});

t.test('when the first list of revoked certificates is out of date, and nothing without one', async (t) => {
  const [authority, other] = [await createRevokingAuthority('revoking'), await createRevokingAuthority('other')];
  const files: Record<string, string> = { '/lab/clients.crt': `${authority.certPem}\n${other.certPem}`, '/lab/revoked.crl': `${await authority.list([], LATER)}${await other.list([], SOON)}` };
  const lab = await startTlsLab(t, { files, tlsServer: { clientCaFile: 'clients.crt', crlFile: 'revoked.crl', clientCertificate: 'request' } });
  const end = async (): Promise<number | undefined> => (await lab.scrape()).samples.get('eco_egress_revocation_list_expiry_timestamp_seconds');
  t.equal(await end(), seconds(SOON));
  lab.files['/lab/revoked.crl'] = `${await authority.list([], LATER)}${await other.list([], LATER)}${await other.list([], SOON, { thisUpdate: new Date(0) })}`;
  await lab.reload(() => {});
  t.equal(await end(), seconds(LATER), 'anew after a reload');
  t.equal((await (await startLab(t)).scrape()).samples.has('eco_egress_revocation_list_expiry_timestamp_seconds'), false);
});

t.test('limits are shown beside what they limit, and updated after a reload', async (t) => {
  const lab = await startLab(t, {
    configure: (draft) => {
      draft.limits['tunnels'] = 7;
    },
  });
  const limit = async (name: string): Promise<number | undefined> => (await lab.scrape()).samples.get(`eco_egress_limit{limit="${name}"}`);
  t.equal(await limit('tunnels'), 7);
  await lab.reload((draft) => {
    draft.limits['tunnels'] = 8;
    draft.limits['connections'] = 100;
  });
  t.equal(await limit('tunnels'), 8);
  t.equal(await limit('connections'), 100);
});

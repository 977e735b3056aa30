/** A partner that cannot prove who it is gets nothing: 502 with the reason, in every form that ends in TLS. */
import { createServer } from 'node:https';
import t from 'tap';
import { createAuthority, type IssuedCertificate } from '../../src/demo/authority.ts';
import { accessLines, readAnswers, stillServes } from '../support/hostile.ts';
import { ECO, labCertificates, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { askRaw } from '../support/wire.ts';

const DAY = 86_400_000;

t.test('certificates that prove nothing', async (t) => {
  const { authority } = await labCertificates();
  const stranger = await createAuthority('a stranger');
  const now = Date.now();
  const certificates: [name: string, made: Promise<IssuedCertificate>, detail: RegExp][] = [
    ['of an authority that nobody named', stranger.issue({ names: [ECO] }), /not trusted/],
    ['expired', authority.issue({ names: [ECO], notBefore: new Date(now - 2 * DAY), notAfter: new Date(now - DAY) }), /expired/],
    ['not valid yet', authority.issue({ names: [ECO], notBefore: new Date(now + DAY), notAfter: new Date(now + 2 * DAY) }), /not yet valid/],
    ['for another name', authority.issue({ names: ['eco-prod.telus.internal'] }), /not for eco-sit/],
    ['for a name above', authority.issue({ names: ['*.internal', 'telus.internal'] }), /not for eco-sit/],
    ['for the address only', authority.issue({ names: [], addresses: ['127.0.0.1'] }), /not for eco-sit/],
    ['of a client', authority.issue({ names: [ECO], clientAuth: true }), /certificate/],
  ];
  for (const [name, made, detail] of certificates) {
    const { certPem, keyPem } = await made;
    const reached: string[] = [];
    const port = await listen(
      t,
      createServer({ cert: certPem, key: keyPem }, (req, res) => {
        reached.push(req.url ?? '');
        res.end('no');
      }),
    );
    const lab = await startLab(t, {
      configure: ({ destinations: { eco } }, { http }) => {
        eco['ports'] = [port, http];
        eco['gateway'] = { prefix: '/eco', url: `https://${ECO}:${port}` };
      },
    });
    const requests = {
      gateway: `GET /eco/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\nConnection: close\r\n\r\n`,
      'gateway, with a body': `POST /eco/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello`,
      WebSocket: `GET /eco/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`,
      forward: `GET https://${ECO}:${port}/x HTTP/1.1\r\nHost: ${ECO}:${port}\r\nConnection: close\r\n\r\n`,
    };
    for (const [form, request] of Object.entries(requests)) {
      const before = accessLines(lab).length;
      const [answer] = readAnswers(await askRaw(t, lab.port, request));
      t.match(answer?.line, /^HTTP\/1\.1 502 Upstream failed: tls-certificate$/, `${form}: ${name}`);
      t.match(answer?.headers.get('proxy-status'), 'error=tls_certificate_error');
      t.match(JSON.parse(answer?.body ?? '{}'), { code: 'tls-certificate', detail, remedy: /./ });
      t.match(accessLines(lab).slice(before), { length: 1, 0: { code: 'tls-certificate', status: 502, detail } }, 'one line');
    }
    t.same(reached, [], 'no request was ever sent');
    await stillServes(t, lab);
  }
});

t.test('the environment cannot switch verification off', async (t) => {
  const stranger = await createAuthority('a stranger');
  const { certPem, keyPem } = await stranger.issue({ names: [ECO] });
  const port = await listen(t, createServer({ cert: certPem, key: keyPem }));
  t.teardown(() => {
    delete process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
  });
  process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';
  const lab = await startLab(t, {
    configure: ({ destinations: { eco } }) => {
      eco['ports'] = [port];
      eco['gateway'] = { prefix: '/eco', url: `https://${ECO}:${port}` };
    },
  });
  t.match(await askRaw(t, lab.port, 'GET /eco/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'), /^HTTP\/1\.1 502 Upstream failed: tls-certificate\r\n/);
});

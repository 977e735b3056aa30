/** Who the client is, as a trusted peer says it: the policy, the log and the limits go by it, in every form. A stranger's word changes nothing. */
import t, { type Test } from 'tap';
import { FORMS, valuesOf } from '../support/ask.ts';
import type { Lab } from '../support/lab.ts';
import { OTHER, OTHER6, POD, POD6, startPeerLab, STRANGER, TRUSTED, wireRequest } from '../support/peer-lab.ts';
import { binary, block4, block6, line, LOCAL, PROXY, TCP4, TCP6, tlv } from '../support/proxy-header.ts';
import { askRaw, openWire } from '../support/wire.ts';

const PROXIED = { proxyProtocol: 'from-trusted' };
const FORWARDED = { believe: ['x-forwarded-for'] };

const hex = (address: string): string => (address === POD6 ? '20010db8000800000000000000000007' : '20010db8000900000000000000000000');
/** What a load balancer can put before a connection of an address. */
const HEADERS: readonly (readonly [what: string, header: (address: string) => Buffer, good: string, bad: string])[] = [
  ['v1', (address) => line(`TCP4 ${address} 10.0.0.1 56324 8080`), POD, OTHER],
  ['v1, IPv6', (address) => line(`TCP6 ${address} 2001:db8::1 56324 8080`), POD6, OTHER6],
  ['v1, IPv4 in IPv6', (address) => line(`TCP6 ::ffff:${address} ::1 56324 8080`), POD, OTHER],
  ['v2', (address) => binary(PROXY, TCP4, block4(address)), POD, OTHER],
  ['v2, IPv6', (address) => binary(PROXY, TCP6, block6(hex(address))), POD6, OTHER6],
  ['v2 with TLVs', (address) => binary(PROXY, TCP4, Buffer.concat([block4(address), tlv(0xea, Buffer.alloc(30)), tlv(0x04, Buffer.alloc(300))])), POD, OTHER],
];

const served = /^HTTP\/1\.1 200 /;
const denied = /^HTTP\/1\.1 403 Egress denied: client-not-allowed\r\n/;
const after = (header: Buffer, request: string): Buffer => Buffer.concat([header, Buffer.from(request, 'latin1')]);

/** The line of the log for the latest request, of which there is one more than before. */
async function told(lab: Lab, ask: () => Promise<unknown>): Promise<Record<string, unknown>> {
  const known = new Set(lab.log);
  await ask();
  return lab.logged((line) => !known.has(line) && 'clientAddress' in line);
}

t.test('PROXY protocol: the address in it decides and is logged, allowed and denied, in every form', async (t) => {
  const lab = await startPeerLab(t, { listener: PROXIED });
  for (const form of FORMS) {
    for (const [what, header, good, bad] of HEADERS) {
      const allowed = await told(lab, async () => {
        const heard = await askRaw(t, lab.port, after(header(good), wireRequest(lab, form)));
        t.match(heard, served, `${form}, ${what}`);
        t.match(heard, `"url":"/${form === 'gateway' ? 'gateway' : form}"`, `${form}, ${what}: the upstream answered`);
      });
      t.match(allowed, { form, clientAddress: good, client: 'pods', verdict: 'allow', code: 'ok' }, `${form}, ${what}`);
      const reached = lab.upstream.requests.length;
      const refused = await told(lab, async () => {
        t.match(await askRaw(t, lab.port, after(header(bad), wireRequest(lab, form))), denied, `${form}, ${what}`);
      });
      t.match(refused, { form, clientAddress: bad, client: '-', verdict: 'deny', code: 'client-not-allowed' }, `${form}, ${what}`);
      t.equal(lab.upstream.requests.length, reached, 'nothing reached the upstream');
    }
  }
});

t.test('PROXY protocol: a peer that speaks for itself is asked about itself', async (t) => {
  const lab = await startPeerLab(t, { listener: PROXIED });
  for (const header of [line('UNKNOWN'), line(`UNKNOWN ${POD} ${POD} 1 2`), binary(LOCAL, TCP4, block4(POD)), binary(PROXY, 0, block4(POD))]) {
    const record = await told(lab, async () => {
      t.match(await askRaw(t, lab.port, after(header, wireRequest(lab, 'forward'))), denied);
    });
    t.match(record, { clientAddress: TRUSTED });
  }
});

t.test('PROXY protocol: from a stranger it is refused by name, and without it a stranger is served under its own address', async (t) => {
  for (const listener of [PROXIED, {}]) {
    const lab = await startPeerLab(t, { listener });
    for (const [what, header] of HEADERS) {
      const record = await told(lab, async () => {
        const heard = await askRaw(t, lab.port, after(header(POD), wireRequest(lab, 'forward')), STRANGER);
        t.match(heard, /^HTTP\/1\.1 403 Egress denied: peer-not-trusted\r\n/, what);
        t.match(heard, /trustedPeers/, what);
      });
      t.match(record, { clientAddress: STRANGER, client: 'strangers', code: 'peer-not-trusted' }, what);
    }
    for (const form of FORMS) {
      const record = await told(lab, async () => {
        t.match(await askRaw(t, lab.port, wireRequest(lab, form), STRANGER), served, form);
      });
      t.match(record, { form, clientAddress: STRANGER, client: 'strangers' });
    }
    t.equal(lab.upstream.requests.length, FORMS.length);
  }
});

t.test('PROXY protocol: a trusted peer without it, with a broken one or with two gets an answer that says so', async (t) => {
  const lab = await startPeerLab(t, { listener: PROXIED });
  const good = line(`TCP4 ${POD} 10.0.0.1 1 2`);
  const broken: readonly (readonly [what: string, bytes: Buffer, because: RegExp])[] = [
    ['none', Buffer.from(wireRequest(lab, 'forward')), /begins with \\?"GET http/],
    ['TLS', Buffer.from([0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0]), /which is not a PROXY protocol header/],
    ['a broken one', after(line(`TCP4 ${POD} 10.0.0.1 1`), wireRequest(lab, 'forward')), /two ports/],
    ['one for UDP', after(binary(PROXY, 0x12, block4(POD)), wireRequest(lab, 'forward')), /UDP over IPv4/],
    ['two', Buffer.concat([good, good]), /second PROXY header/],
    ['two of version 2', Buffer.concat([good, binary(PROXY, TCP4, block4(POD))]), /second PROXY header/],
  ];
  for (const [what, bytes, because] of broken) {
    const record = await told(lab, async () => {
      const heard = await askRaw(t, lab.port, bytes);
      t.match(heard, /^HTTP\/1\.1 400 Bad request: proxy-protocol-malformed\r\n/, what);
      t.match(heard, because, what);
      t.match(heard, /\r\nProxy-Status: eco-egress;error=http_request_error;/, what);
    });
    t.match(record, { clientAddress: what.startsWith('two') ? POD : TRUSTED, code: 'proxy-protocol-malformed', status: 400 }, what);
  }
  t.equal(lab.upstream.connections, 0);
});

t.test('X-Forwarded-For: of a trusted peer decides and is logged, of a stranger it means nothing', async (t) => {
  const lab = await startPeerLab(t, { listener: FORWARDED });
  const cases: readonly (readonly [from: string, fields: readonly string[], address: string, answer: RegExp])[] = [
    [TRUSTED, [`X-Forwarded-For: ${POD}`], POD, served],
    [TRUSTED, [`X-Forwarded-For: ${OTHER}`], OTHER, denied],
    [TRUSTED, [`X-Forwarded-For: ${POD}, ${OTHER}`], OTHER, denied],
    [TRUSTED, [`X-Forwarded-For: ${POD}`, `X-Forwarded-For: ${OTHER}`], OTHER, denied],
    [TRUSTED, [`X-Forwarded-For: ${OTHER}`, `x-forwarded-for: ${POD}`], POD, served],
    [TRUSTED, [`X-Forwarded-For: ${OTHER}, ${POD}, 10.9.0.1`], POD, served],
    [TRUSTED, [`X-Forwarded-For: ${POD6}`], POD6, served],
    [TRUSTED, [`X-Forwarded-For: ${OTHER6}`], OTHER6, denied],
    [TRUSTED, [], TRUSTED, denied],
    [STRANGER, [`X-Forwarded-For: ${POD}`], STRANGER, served],
    [STRANGER, [`X-Forwarded-For: ${OTHER}`], STRANGER, served],
    [STRANGER, ['X-Forwarded-For: nonsense'], STRANGER, served],
  ];
  for (const form of FORMS) {
    for (const [from, fields, address, answer] of cases) {
      const record = await told(lab, async () => {
        t.match(await askRaw(t, lab.port, wireRequest(lab, form, fields), from), answer, `${form}: ${from} says ${fields.join('; ')}`);
      });
      t.match(record, { form, clientAddress: address });
    }
  }
});

t.test('X-Forwarded-For: where the listener does not believe it, it means nothing from anyone', async (t) => {
  const lab = await startPeerLab(t, { listener: { ...PROXIED, trustedPeers: ['10.9.0.0/16'] } });
  for (const form of FORMS) {
    const record = await told(lab, async () => {
      t.match(await askRaw(t, lab.port, wireRequest(lab, form, [`X-Forwarded-For: ${POD}`])), denied, form);
    });
    t.match(record, { clientAddress: TRUSTED });
  }
});

t.test('X-Forwarded-For: of a trusted peer that cannot be read, the request is refused in every form', async (t) => {
  const lab = await startPeerLab(t, { listener: FORWARDED });
  for (const form of FORMS) {
    const record = await told(lab, async () => {
      const heard = await askRaw(t, lab.port, wireRequest(lab, form, ['X-Forwarded-For: unknown', 'Connection: close']));
      t.match(heard, /^HTTP\/1\.1 400 Bad request: request-malformed\r\n/, form);
      t.match(heard, /X-Forwarded-For: \\"unknown\\"/, form);
    });
    t.match(record, { clientAddress: TRUSTED, code: 'request-malformed' });
  }
  t.equal(lab.upstream.connections, 0);
});

t.test('X-Forwarded-Client-Cert: the last certificate that a trusted peer names decides, and is not passed on', async (t) => {
  const lab = await startPeerLab(t, {
    listener: { believe: ['x-forwarded-client-cert'] },
    configure: (draft) => {
      Object.assign(draft.clients, { mesh: { certificates: ['spiffe://td/ns/dynatrace-sit/*'] } });
      Object.assign(draft.headers, { xForwarded: 'pass' });
      draft.rules.push({ clients: ['mesh'], destinations: ['eco'] });
    },
  });
  const [good, bad] = ['URI=spiffe://td/ns/dynatrace-sit/sa/otel', 'URI=spiffe://td/ns/dynatrace-prod/sa/otel'];
  const cases: readonly (readonly [from: string, values: readonly string[], client: string, code: string])[] = [
    [TRUSTED, [good], 'mesh', 'ok'],
    [TRUSTED, [`By=spiffe://td/ns/eco/sa/egress;Hash=${'a'.repeat(64)};Subject="CN=a,b";${good}`], 'mesh', 'ok'],
    [TRUSTED, [bad], '-', 'client-not-allowed'],
    [TRUSTED, [`${good},${bad}`], '-', 'client-not-allowed'],
    [TRUSTED, [good, bad], '-', 'client-not-allowed'],
    [TRUSTED, [`${bad},${good}`], 'mesh', 'ok'],
    [TRUSTED, [], '-', 'client-not-allowed'],
    [TRUSTED, ['nonsense'], '-', 'request-malformed'],
    [STRANGER, [good], 'strangers', 'ok'],
    [STRANGER, ['nonsense'], 'strangers', 'ok'],
    ['127.0.0.3', [good], '-', 'client-not-allowed'],
  ];
  for (const form of FORMS) {
    for (const [from, values, client, code] of cases) {
      const record = await told(lab, () => askRaw(t, lab.port, wireRequest(lab, form, values.map((value) => `X-Forwarded-Client-Cert: ${value}`)), from));
      t.match(record, { form: code === 'request-malformed' ? '-' : form, clientAddress: from, client, code }, `${form}: ${from} says ${values.join('; ')}`);
    }
  }
  t.strictSame(lab.upstream.requests.flatMap(({ rawHeaders }) => valuesOf(rawHeaders, 'x-forwarded-client-cert')), []);
  t.equal(lab.upstream.requests.length, FORMS.length * cases.filter(([, , , code]) => code === 'ok').length);
});

t.test('both: X-Forwarded-For counts only where the client of the PROXY header is trusted itself', async (t) => {
  const lab = await startPeerLab(t, { listener: { ...PROXIED, ...FORWARDED } });
  const ask = (proxied: string, forwarded: string): Promise<string> =>
    askRaw(t, lab.port, after(line(`TCP4 ${proxied} 10.0.0.1 1 2`), wireRequest(lab, 'forward', [`X-Forwarded-For: ${forwarded}`])));
  t.match(await ask('10.9.0.7', POD), served, 'a second load balancer speaks for a pod');
  t.match(await ask('10.9.0.7', OTHER), denied, 'and for somebody else');
  t.match(await ask(OTHER, POD), denied, 'a stranger behind the load balancer does not become a pod');
  t.match(await ask(POD, OTHER), served, 'nor does a pod become a stranger');
  t.strictSame(lab.log.flatMap((line) => line['clientAddress'] ?? []), [POD, OTHER, OTHER, POD]);
});

t.test('each request of a connection has its own client', async (t) => {
  const lab = await startPeerLab(t, { listener: FORWARDED });
  const wire = await openWire(t, lab.port);
  const request = (address: string): string => wireRequest(lab, 'forward', [`X-Forwarded-For: ${address}`]).replace('Connection: close\r\n', '');
  wire.send(request(POD) + request(POD6));
  await wire.until(/"url":"\/forward"[^]*"url":"\/forward"/);
  wire.send(request(OTHER));
  await wire.until('client-not-allowed');
  t.strictSame(lab.log.flatMap((line) => line['clientAddress'] ?? []).toSorted(), [POD, OTHER, POD6].toSorted());
});

t.test('the upstream gets the address we saw ourselves, behind those that the field has already', async (t) => {
  const lab = await startPeerLab(t, { listener: { ...PROXIED, ...FORWARDED }, configure: (draft) => Object.assign(draft.headers, { xForwarded: 'append' }) });
  const heard = await askRaw(t, lab.port, after(line('TCP4 10.9.0.7 10.0.0.1 1 2'), wireRequest(lab, 'forward', [`X-Forwarded-For: ${POD}`])));
  const { headers } = JSON.parse(heard.slice(heard.indexOf('{'))) as { headers: string[] };
  t.strictSame(valuesOf(headers, 'x-forwarded-for'), [POD, '10.9.0.7']);
});

for (const [what, listener, begin] of [
  ['PROXY protocol', PROXIED, (lab, address) => after(line(`TCP4 ${address} 10.0.0.1 1 2`), wireRequest(lab, 'connect'))],
  ['X-Forwarded-For', FORWARDED, (lab, address) => Buffer.from(wireRequest(lab, 'connect', [`X-Forwarded-For: ${address}`]))],
] satisfies readonly (readonly [string, Record<string, unknown>, (lab: Lab, address: string) => Buffer])[]) {
  t.test(`${what}: limits for each client count by it`, async (t: Test) => {
    // Tunnels stay open: the upstream does not answer.
    const lab = await startPeerLab(t, { listener, onRequest: () => {}, configure: (draft) => Object.assign(draft.limits, { tunnelsPerClient: 1 }) });
    const open = async (address: string): Promise<Awaited<ReturnType<typeof openWire>>> => {
      const wire = await openWire(t, lab.port);
      wire.send(begin(lab, address));
      await wire.until('\r\n\r\n');
      return wire;
    };
    const first = await open(POD);
    t.match(first.heard, served);
    t.match((await open(POD)).heard, /^HTTP\/1\.1 503 .*limit-reached/, 'its second one');
    t.match((await open('10.8.3.18')).heard, served, 'the neighbour behind the same load balancer');
    first.socket.destroy();
    await lab.logged((line) => line['clientAddress'] === POD && line['form'] === 'connect' && line.code !== 'limit-reached');
    t.match((await open(POD)).heard, served, 'when the first has gone');
  });
}

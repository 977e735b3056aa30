/** Who is asked for: every spelling of a host, port or address that once fooled a proxy, in every form that can carry it. */
import t, { type Test } from 'tap';
import type { FaultCode } from '../../src/errors.ts';
import { httpAuthority, lastRequest, refuses, stillServes } from '../support/hostile.ts';
import { ECO, type Lab, startLab } from '../support/lab.ts';
import { askRaw } from '../support/wire.ts';

interface TargetLab extends Lab {
  /** Every name that was looked up. */
  readonly asked: readonly string[];
}

async function startTargetLab(t: Test, ...hosts: readonly string[]): Promise<TargetLab> {
  const asked: string[] = [];
  const lab = await startLab(t, {
    configure: ({ destinations: { eco } }) => {
      eco['hosts'] = [ECO, ...hosts];
    },
    lookup: async (host) => {
      asked.push(host);
      return { addresses: ['127.0.0.1'], ttl: null };
    },
  });
  return { ...lab, asked };
}

/** Asks for an authority in each form that takes one from the client. */
const ASKING = {
  connect: (authority: string) => `CONNECT ${authority} HTTP/1.1\r\nHost: ${ECO}\r\n\r\n`,
  forward: (authority: string) => `GET http://${authority}/ HTTP/1.1\r\nHost: ${authority}\r\n\r\n`,
  'host-routed': (authority: string) => `GET / HTTP/1.1\r\nHost: ${authority}\r\n\r\n`,
};
const FORMS = ['connect', 'forward', 'host-routed'] as const;

t.test('names and addresses that are not the allowed host', async (t) => {
  const lab = await startTargetLab(t);
  const hosts = [
    // No substring and no suffix matching.
    `${ECO}.evil.example`,
    `evil${ECO}`,
    `evil.${ECO}`,
    'telus.internal',
    'eco-sit',
    'eco_sit.telus.internal',
    'xn--eco-sit.telus.internal',
    // Raw addresses are judged like names, in every spelling.
    '1.2.3.4',
    '127.0.0.1',
    '127.0.0.1.',
    '2130706433',
    '0x7f.1',
    '0x7f000001',
    '0177.0.0.1',
    '127.1',
    '0.0.0.0',
    '0',
    '169.254.169.254',
    '[::]',
    '[::1]',
    '[::ffff:a9fe:a9fe]',
    '[::ffff:127.0.0.1]',
    '[64:ff9b::a9fe:a9fe]',
  ];
  for (const host of hosts) {
    for (const form of FORMS) {
      const then = form === 'connect' ? 'closed' : 'in step';
      await refuses(t, lab, `${form} ${host}`, ASKING[form](`${host}:${lab.upstream.httpPort}`), { code: 'host-not-allowed', then, line: { form, verdict: 'deny', client: 'pods' } });
    }
  }
  t.same([...new Set(lab.asked)], [ECO], 'no other name was ever looked up');
  await stillServes(t, lab);
});

t.test('what is no host at all', async (t) => {
  const lab = await startTargetLab(t);
  const hosts = [
    // One final dot is dropped, two are none (CVE-2022-24825).
    `${ECO}..`,
    `.${ECO}`,
    'eco-sit..telus.internal',
    'eco-sit.telus.internal-',
    // Brackets are for IPv6 alone (CVE-2022-29188), and zones for nobody.
    `[${ECO}]`,
    `[[${ECO}]]`,
    '[::1',
    '[::1%25eth0]',
    '[fe80::1%eth0]',
    // Escapes are not decoded.
    'evil.example%00.telus.internal',
    'eco-sit%2etelus.internal',
    'evil.example%23.telus.internal',
    // User information is never part of a target.
    `${ECO}@evil.example`,
    `evil.example@${ECO}`,
    `${ECO}:443@evil.example`,
    '1.2.3.4.5',
    '256.1.1.1',
    '',
  ];
  for (const host of hosts) {
    for (const form of FORMS) {
      const code = form === 'host-routed' ? 'request-malformed' : 'target-malformed';
      await refuses(t, lab, `${form} ${host}`, ASKING[form](`${host}:${lab.upstream.httpPort}`), { code, then: form === 'connect' ? 'closed' : 'in step' });
    }
  }
  await stillServes(t, lab);
});

t.test('characters that no target has', async (t) => {
  const lab = await startTargetLab(t);
  const { httpPort } = lab.upstream;
  const characters = { NUL: '\0', space: ' ', tab: '\t', DEL: '\x7f', CR: '\r', LF: '\n', backslash: '\\', 'ideographic full stop': '\xe3\x80\x82' };
  for (const [name, character] of Object.entries(characters)) {
    const host = `evil.example${character}.telus.internal:${httpPort}`;
    // These end lines for some readers.
    const line = character === '\n' || character === '\r';
    const code = line ? 'request-malformed' : 'target-malformed';
    await refuses(t, lab, `connect ${name}`, ASKING.connect(host), { code, then: 'closed' });
    await refuses(t, lab, `forward ${name}`, `GET http://${host}/ HTTP/1.1\r\nHost: ${ECO}\r\n\r\n`, { code, then: line ? 'closed' : 'in step' });
  }
  await refuses(t, lab, 'host-routed full stop', ASKING['host-routed']('eco-sit\xe3\x80\x82telus.internal'), { code: 'request-malformed', then: 'in step' });
  await refuses(t, lab, 'host-routed NUL', ASKING['host-routed']('eco-sit\0.telus.internal'), { code: 'request-malformed', then: 'closed' });
  // U+010D U+010A, of which an encoder that keeps the low bytes makes CR LF.
  await refuses(t, lab, 'a break in disguise', `GET http://${ECO}:${httpPort}/\xc4\x8d\xc4\x8aX-A:b HTTP/1.1\r\nHost: ${ECO}:${httpPort}\r\n\r\n`, { code: 'target-malformed', then: 'in step' });
  await stillServes(t, lab);
});

t.test('host and port are judged together', async (t) => {
  const lab = await startTargetLab(t);
  for (const port of ['22', '1', '65535']) {
    for (const form of FORMS) {
      await refuses(t, lab, `${form} :${port}`, ASKING[form](`${ECO}:${port}`), { code: 'port-not-allowed', then: form === 'connect' ? 'closed' : 'in step' });
    }
  }
  for (const port of ['0', '65536', '99999999999999999999', '+443', '-1', '0x1bb', '00443', '4a3', '443:443', '44%33', '443@evil.example']) {
    for (const form of FORMS) {
      const code = form === 'host-routed' ? 'request-malformed' : 'target-malformed';
      await refuses(t, lab, `${form} :${port}`, ASKING[form](`${ECO}:${port}`), { code, then: form === 'connect' ? 'closed' : 'in step' });
    }
  }
  await stillServes(t, lab);
});

t.test('CONNECT takes host:port and nothing else', async (t) => {
  const lab = await startTargetLab(t);
  const targets: [target: string, code: FaultCode][] = [
    [ECO, 'target-malformed'],
    [`${ECO}:`, 'target-malformed'],
    [`http://${ECO}:443`, 'target-malformed'],
    [`${ECO}:443/`, 'target-malformed'],
    [`${ECO}:443?x`, 'target-malformed'],
    ['443', 'target-malformed'],
    [':443', 'target-malformed'],
    ['/', 'target-malformed'],
    ['*', 'target-malformed'],
    [`${ECO}:443#x`, 'target-malformed'],
  ];
  for (const [target, code] of targets) await refuses(t, lab, `CONNECT ${target}`, ASKING.connect(target), { code, then: 'closed' });
  await stillServes(t, lab);
});

t.test('a Host that says otherwise than the target is replaced, and never judged by', async (t) => {
  const lab = await startTargetLab(t, 'other.telus.internal');
  const authority = httpAuthority(lab);
  const { httpPort, httpsPort } = lab.upstream;
  for (const host of ['evil.example', ECO, `other.telus.internal:${httpPort}`, `${ECO}:${httpsPort}`]) {
    const heard = await askRaw(t, lab.port, `GET http://${authority}/${host} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    t.match(heard, /^HTTP\/1\.1 200 /, host);
    t.same(lab.upstream.requests.at(-1)?.headers.host, authority);
    t.match(await lab.logged((line) => line['path'] === `/${host}`), { host: ECO, detail: `the Host field said ${host.includes(':') ? host : `${host}:80`}` });
  }
  await refuses(t, lab, 'the other way round', `GET http://evil.example/ HTTP/1.1\r\nHost: ${authority}\r\n\r\n`, { code: 'host-not-allowed', then: 'in step', line: { form: 'forward', host: 'evil.example' } });
  const fields = { two: `Host: ${authority}\r\nHost: ${authority}\r\n`, 'two that differ': `Host: ${authority}\r\nHost: evil.example\r\n`, none: '', empty: 'Host:\r\n', 'a list': `Host: ${authority}, evil.example\r\n` };
  for (const [name, hosts] of Object.entries(fields)) {
    for (const target of [`http://${authority}/`, '/', '/eco/x']) {
      await refuses(t, lab, `Host ${name}, target ${target}`, `GET ${target} HTTP/1.1\r\n${hosts}\r\n`, { code: 'request-malformed', then: 'in step' });
    }
  }
  await stillServes(t, lab);
});

t.test('schemes and shapes that are not served', async (t) => {
  const lab = await startTargetLab(t);
  const request = (target: string): string => `GET ${target} HTTP/1.1\r\nHost: ${ECO}\r\n\r\n`;
  for (const scheme of ['ftp', 'gopher', 'file', 'ws', 'wss', 'javascript', 'data']) {
    await refuses(t, lab, scheme, request(`${scheme}://${ECO}/`), { code: 'scheme-not-supported', then: 'in step' });
  }
  for (const target of ['http:///', 'http://?x', `http://${ECO}`.toUpperCase() + ':1x']) await refuses(t, lab, target, request(target), { code: 'target-malformed', then: 'in step' });
  for (const target of [`http:/${ECO}/`, `http:${ECO}/`, `http:\\\\${ECO}/`, `${ECO}/x`, `${ECO}:80`, '?x', 'x', '%2fx', '\\x', '*']) {
    await refuses(t, lab, target, request(target), { code: 'target-malformed', then: 'in step' });
  }
  await stillServes(t, lab);
});

t.test('the allowed host in every spelling that is it', async (t) => {
  const lab = await startTargetLab(t);
  const { httpPort } = lab.upstream;
  for (const host of [ECO, ECO.toUpperCase(), `${ECO}.`, 'Eco-Sit.Telus.Internal.']) {
    for (const form of ['forward', 'host-routed'] as const) {
      const heard = await askRaw(t, lab.port, ASKING[form](`${host}:${httpPort}`).replace(/\r\n$/, 'Connection: close\r\n\r\n'));
      t.match(heard, /^HTTP\/1\.1 200 /, `${form} ${host}`);
      t.equal(lab.upstream.requests.at(-1)?.headers.host, httpAuthority(lab), 'the upstream is told one spelling');
    }
  }
  t.same(lab.asked, [ECO], 'one name for the resolver, too');
});

t.test('operations paths of the partner are the partner’s, and ours are on no proxy port', async (t) => {
  const lab = await startTargetLab(t);
  for (const path of ['/metrics', '/healthz', '/readyz', '/']) {
    t.match(await askRaw(t, lab.port, lastRequest(lab, path)), `"url":"${path}"`);
    await refuses(t, lab, path, `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${lab.port}\r\n\r\n`, { code: 'host-not-allowed', then: 'in step' });
    await refuses(t, lab, `${path} of ourselves`, `GET http://127.0.0.1:${lab.service.addresses.admin.port}${path} HTTP/1.1\r\nHost: 127.0.0.1:${lab.service.addresses.admin.port}\r\n\r\n`, { code: 'host-not-allowed', then: 'in step' });
  }
});

t.test('an absolute target for the gateway port is a forward request, judged as one', async (t) => {
  const lab = await startTargetLab(t);
  for (const host of ['169.254.169.254', 'metadata.google.internal', '127.0.0.1']) {
    await refuses(t, lab, host, `GET http://${host}/eco/x HTTP/1.1\r\nHost: ${host}\r\n\r\n`, { code: 'host-not-allowed', then: 'in step', line: { form: 'forward', host } });
  }
});

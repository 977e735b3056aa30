/** One fault injected at a time into a way that is well: the doctor names that one, and finds the rest well. */
import t from 'tap';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { createServer as createTlsServer } from 'node:tls';
import { createAuthority } from '../../src/demo/authority.ts';
import { ECO, examine, faultsOf, findingsOf, PLAIN, RIGHT, startPartner, wordsOf } from '../support/doctor-lab.ts';
import { findUnusedPort } from '../support/unused-port.ts';
import { startFullListener } from '../support/full-listener.ts';
import { labCertificates } from '../support/lab.ts';

t.test('all is well', async (t) => {
  const lab = await startPartner(t);
  const report = await examine(lab);
  t.strictSame(faultsOf(report), []);
  t.equal(report.ok, true);
  const forms = findingsOf(report, 'forms').filter(({ state }) => state === 'ok').map(({ subject }) => subject);
  t.strictSame(forms, [
    'proxy',
    ...['connect', 'forward', 'gateway', 'sni', 'terminated'].map((form) => `${form} ${ECO}:${lab.https}`),
    ...['connect', 'forward', 'gateway', 'host-routed', 'terminated'].map((form) => `${form} ${PLAIN}:${lab.http}`),
  ]);
  t.strictSame(report.checks.map(({ name }) => name), ['configuration', 'names', 'route', 'tcp', 'hops', 'tls', 'http', 'forms', 'source-address', 'nat-ports', 'clock', 'open-files', 'environment'].filter((name) => name !== 'hops'));
  t.match(findingsOf(report, 'source-address'), [{ state: 'ok', seen: `${RIGHT} is seen, as expected` }]);
  t.match(findingsOf(report, 'route'), [{ subject: '127.0.0.1', seen: 'from 127.0.0.1' }]);
  t.match(findingsOf(report, 'tls'), [{ seen: /certificate for DNS:eco-sit.* valid for \d+ more days/ }]);
});

t.test('names', async (t) => {
  const lab = await startPartner(t);
  for (const [addresses, fault, words] of [
    ['ENOTFOUND', 'name-not-found', /Check the spelling/],
    ['ESERVFAIL', 'resolver-failed', /DNS server/],
    [['10.9.9.9'], 'address-not-allowed', /10\.9\.9\.9 \(private, RFC 1918\) is outside the ranges.*destinations\.eco\.addresses/],
    [['240.240.0.7'], 'dns-captured', /sidecar\.istio\.io\/inject/],
  ] as const) {
    const report = await examine(lab, { names: { [ECO]: addresses } });
    t.strictSame(faultsOf(report), [`names ${fault} ${ECO}`], fault);
    t.match(wordsOf(report), words);
    t.equal(report.ok, false);
  }
  const some = await examine(lab, { names: { [ECO]: ['10.9.9.9', '127.0.0.1'] } });
  t.strictSame(faultsOf(some), [`names address-not-allowed ${ECO}`]);
  t.equal(some.ok, true, 'the other address is dialled: a warning');
});

t.test('a name to try that no destination lists is not passed over', async (t) => {
  const lab = await startPartner(t);
  const report = await examine(lab, { asked: [{ host: 'eco-sti.telus.internal', port: 443 }], only: ['names'] });
  t.strictSame(faultsOf(report), ['names host-not-allowed eco-sti.telus.internal']);
});

t.test('a name that leads back to the proxy', async (t) => {
  const lab = await startPartner(t);
  const report = await examine(lab, {
    configure: (draft) => {
      draft.listeners['http'] = [`127.0.0.1:${lab.https}`];
    },
  });
  t.strictSame(faultsOf(report), [`names loop ${ECO}`, 'forms proxy-not-ours running proxy'], 'and that the partner listens where the proxy should');
  t.match(wordsOf(report), /Make the name resolve to the partner, not to this proxy/);
});

t.test('one port of the destination leads back to the proxy, the others do not', async (t) => {
  const lab = await startPartner(t);
  const own = await findUnusedPort();
  const report = await examine(lab, {
    configure: (draft) => {
      draft.listeners['http'] = [`127.0.0.1:${own}`];
      Object.assign(draft.destinations.eco, { ports: [own, lab.https] });
    },
  });
  t.strictSame(findingsOf(report, 'names').filter(({ subject }) => subject.startsWith(ECO)).map(({ subject, code }) => [subject, code]), [[ECO, null], [`${ECO}:${own}`, 'loop']]);
  t.match(findingsOf(report, 'tcp').filter(({ subject }) => subject.startsWith(ECO)), [{ subject: `${ECO}:${own}`, state: 'skipped' }, { subject: `${ECO}:${lab.https}`, state: 'ok' }]);
});

t.test('a name that is steered to the proxy where the proxy looks it up', async (t) => {
  const lab = await startPartner(t);
  const names = { [ECO]: ['10.96.0.10'], 'eco-egress.svc': ['10.96.0.10'] };
  const configure = (draft: { destinations: { eco: Record<string, unknown> } }): void => {
    Object.assign(draft.destinations.eco, { addresses: ['10.0.0.0/8'] });
  };
  const service = await examine(lab, { names, configure, host: { env: { ECO_EGRESS_SERVICE_HOST: '10.96.0.10' } }, only: ['names', 'tcp'] });
  t.strictSame(faultsOf(service), [`names steered-loop ${ECO}`]);
  t.match(wordsOf(service), /the Service of ECO_EGRESS_SERVICE_HOST/);
  const own = await findUnusedPort();
  const listening = (draft: Parameters<typeof configure>[0] & { listeners: Record<string, unknown> }): void => {
    configure(draft);
    draft.listeners['http'] = [`127.0.0.1:${own}`];
  };
  for (const [port, faults] of [[String(own), [`names steered-loop ${ECO}`]], ['443', []]] as const) {
    const beside = await examine(lab, { names, configure: listening, host: { env: { ANY_SERVICE_HOST: '10.96.0.10', ANY_SERVICE_PORT: '9', ANY_SERVICE_PORT_HTTPS: port } }, only: ['names'] });
    t.strictSame(faultsOf(beside), faults, `a Service with port ${port}`);
  }
  const named = await examine(lab, { names, configure, proxy: { scheme: 'http', host: 'eco-egress.svc', port: 3128, credentials: null, written: 'http' }, only: ['names', 'tcp'] });
  t.strictSame(faultsOf(named), [`names steered-loop ${ECO}`]);
});

t.test('TCP', async (t) => {
  const lab = await startPartner(t);
  const refusing = await findUnusedPort();
  const refused = await examine(lab, { configure: (draft) => Object.assign(draft.destinations.eco, { ports: [lab.https, refusing] }) });
  t.strictSame(faultsOf(refused), [`tcp connection-refused ${ECO}:${refusing}`]);
  t.match(wordsOf(refused), /partner listens on this port/);
});

t.test('of a range of ports, those that are known to be used are tried, and no verdict is made of the first', async (t) => {
  const lab = await startPartner(t);
  const ranged = (gateway: object | undefined) => (draft: { destinations: { eco: Record<string, unknown> } }): void => {
    Object.assign(draft.destinations.eco, { ports: ['1-65535'], gateway });
  };
  const byGateway = await examine(lab, { configure: ranged({ prefix: '/eco', url: `https://${ECO}:${lab.https}` }) });
  t.strictSame(faultsOf(byGateway), []);
  t.match(findingsOf(byGateway, 'tcp').find(({ subject }) => subject.startsWith(ECO)), { state: 'ok', subject: `${ECO}:${lab.https}` });
  const asked = await examine(lab, { configure: ranged(undefined), asked: [{ host: ECO, port: lab.https }], only: ['tcp'] });
  t.match(findingsOf(asked, 'tcp').find(({ subject }) => subject.startsWith(ECO)), { state: 'ok', subject: `${ECO}:${lab.https}` });
  const guessed = await examine(lab, { configure: ranged(undefined), only: ['tcp'] });
  t.strictSame(faultsOf(guessed), []);
  t.match(findingsOf(guessed, 'tcp').find(({ subject }) => subject.startsWith(ECO)), { state: 'skipped', subject: `${ECO}:1`, seen: /which ports of the range are in use is not known/, advice: /--target/ });
});

t.test('no route', async (t) => {
  const lab = await startPartner(t);
  // A link-local address means nothing without its link.
  const report = await examine(lab, { names: { [ECO]: ['fe80::1'] }, configure: (draft) => Object.assign(draft.destinations.eco, { addresses: ['fe80::/10'] }) });
  t.strictSame(faultsOf(report), ['route unreachable fe80::1']);
  const both = await examine(lab, { names: { [ECO]: ['127.0.0.1', 'fe80::1'] }, configure: (draft) => Object.assign(draft.destinations.eco, { addresses: ['127.0.0.0/8', 'fe80::/10'] }) });
  t.strictSame(faultsOf(both), [], 'a host without IPv6 dials the IPv4 addresses of a partner that has both');
  t.match(findingsOf(both, 'route').find(({ subject }) => subject === 'fe80::1'), { state: 'skipped', seen: /other addresses are dialled/ });
});

t.test('a partner that does not answer, and why', async (t) => {
  const lab = await startPartner(t);
  const full = await startFullListener(t);
  const silent = (draft: { destinations: { eco: Record<string, unknown> } }): void => {
    Object.assign(draft.destinations.eco, { ports: [lab.https, full] });
  };
  const whitelist = await examine(lab, { configure: silent, timeout: 3000 });
  t.strictSame(faultsOf(whitelist), [`tcp connect-timeout ${ECO}:${full}`, `silence partner-silent ${ECO}:${full}`]);
  t.match(wordsOf(whitelist), /whitelist: its whitelist probably lacks our source address/);

  const unproven = await examine(lab, {
    timeout: 3000,
    configure: (draft) => {
      silent(draft);
      delete draft.sourceIp;
    },
  });
  t.match(wordsOf(unproven), /unproven: /);
});

t.test('certificates', async (t) => {
  const { authority } = await labCertificates();
  const foreign = await createAuthority('another CA');
  const day = 86_400_000;
  for (const [name, certificate, fault, words] of [
    ['expired', await authority.issue({ names: [ECO], notBefore: new Date(Date.now() - 2 * day), notAfter: new Date(Date.now() - day) }), 'tls-certificate', /CERT_HAS_EXPIRED.*valid \d{4}-.* to \d{4}-.*renewed/],
    ['undated', await authority.issue({ names: [ECO], notAfter: Object.assign(new Date(), { toISOString: () => '2039-13-31T23:59:59Z' }) }), 'tls-certificate', /NOT_AFTER_FIELD.*valid \d{4}-.* to a day that cannot be read/],
    ['unknown CA', await foreign.issue({ names: [ECO] }), 'tls-certificate', /not trusted here.*signed by CN=another CA.*caFile/],
    ['wrong name', await authority.issue({ names: ['other.telus.internal'] }), 'tls-certificate', /not for eco-sit.*for DNS:other\.telus\.internal/],
    ['ends soon', await authority.issue({ names: [ECO], notAfter: new Date(Date.now() + 3 * day) }), 'certificate-expiring', /valid for [23] more days/],
  ] as const) {
    const lab = await startPartner(t, { https: createHttpsServer({ cert: certificate.certPem, key: certificate.keyPem }, (_, response) => response.end()) });
    const report = await examine(lab);
    t.strictSame(faultsOf(report), [`tls ${fault} ${ECO}:${lab.https}`], name);
    t.match(wordsOf(report), words, name);
    t.equal(report.ok, name === 'ends soon');
  }
});

t.test('a TLS port that speaks plain HTTP', async (t) => {
  const lab = await startPartner(t, { https: createHttpServer((_, response) => response.end()) });
  const report = await examine(lab);
  t.strictSame(faultsOf(report), [`tls tls-failed ${ECO}:${lab.https}`]);
  t.match(wordsOf(report), /plain HTTP on this port/);
});

t.test('HTTP that never answers', async (t) => {
  const { certPem, keyPem } = await labCertificates();
  const lab = await startPartner(t, { https: createTlsServer({ cert: certPem, key: keyPem }) as never });
  const report = await examine(lab, { timeout: 3000 });
  t.strictSame(faultsOf(report), [`http upstream-silent ${ECO}:${lab.https}`]);
});

t.test('source address', async (t) => {
  const lab = await startPartner(t);
  lab.echo.answer = '35.203.1.9';
  const wrong = await examine(lab);
  t.strictSame(faultsOf(wrong), [`source-address source-address-wrong ${lab.echo.url.slice(0, -1)}/`]);
  t.match(wordsOf(wrong), /35\.203\.1\.9 is seen, and 34\.123\.45\.67 is expected.*AUTO_ONLY/);

  lab.echo.answer = () => {};
  const silent = await examine(lab, { timeout: 3000 });
  t.match(faultsOf(silent), [/^source-address upstream-silent /]);

  lab.echo.answer = RIGHT;
  const hidden = await examine(lab, {
    timeout: 3000,
    names: { [ECO]: ['10.255.255.1'] },
    configure: (draft) => Object.assign(draft.destinations.eco, { addresses: ['10.0.0.0/8'] }),
    only: ['source-address'],
  });
  t.strictSame(faultsOf(hidden), [`source-address private-behind-nat ${ECO}`]);
  t.match(wordsOf(hidden), /Private NAT/);

  const nobody = await examine(lab, { configure: (draft) => delete draft.sourceIp });
  t.strictSame(faultsOf(nobody), []);
  t.match(findingsOf(nobody, 'source-address'), [{ state: 'skipped' }]);
});

t.test('clock', async (t) => {
  const lab = await startPartner(t);
  for (const [ahead, well] of [[59_000, true], [-59_000, true], [63_000, false], [-63_000, false]] as const) {
    const report = await examine(lab, { host: { now: () => Date.now() + ahead } });
    t.strictSame(faultsOf(report), well ? [] : ['clock clock-skew'], String(ahead));
  }
});

t.test('an answer from a cache has the Date of what it stored', async (t) => {
  const { certPem, keyPem } = await labCertificates();
  const answer: RequestListener = (_request, response) => void response.writeHead(200, { date: new Date(Date.now() - 3_600_000).toUTCString(), age: '3600' }).end();
  const lab = await startPartner(t, { https: createHttpsServer({ cert: certPem, key: keyPem }, answer), http: createHttpServer(answer) });
  t.strictSame(faultsOf(await examine(lab)), []);
});

t.test('open files', async (t) => {
  const lab = await startPartner(t);
  for (const [openFiles, ok, faults] of [[1024, false, ['open-files files-limit']], [5000, true, ['open-files files-limit']], [12_000, true, []], [null, true, []]] as const) {
    const report = await examine(lab, { host: { openFiles }, only: ['open-files'] });
    t.strictSame(faultsOf(report), faults, String(openFiles));
    t.equal(report.ok, ok);
  }
});

t.test('a form that is off is not tried, a form that the policy denies neither', async (t) => {
  const lab = await startPartner(t);
  const off = await examine(lab, { configure: (draft) => Object.assign(draft.destinations.eco, { forms: ['connect', 'gateway'] }) });
  t.strictSame(faultsOf(off), []);
  t.match(findingsOf(off, 'forms').find(({ subject }) => subject === `sni ${ECO}:${lab.https}`), { state: 'skipped', seen: 'off: it is not among destinations.eco.forms' });

  const ruled = await examine(lab, {
    configure: (draft) => {
      draft.rules[0] = { clients: ['pods'], destinations: ['eco'], methods: ['GET'], paths: ['/api/*'] };
    },
  });
  const forms = findingsOf(ruled, 'forms');
  t.match(forms.find(({ subject }) => subject === `gateway ${ECO}:${lab.https}`), { state: 'ok', seen: 'answered 200' });
  t.match(forms.find(({ subject }) => subject === `connect ${ECO}:${lab.https}`), { state: 'skipped', seen: /the policy permits no such request/ });
});

t.test('the configuration warns, and the environment is looked at', async (t) => {
  const lab = await startPartner(t);
  const report = await examine(lab, { host: { env: { HTTPS_PROXY: 'http://a:3128', https_proxy: 'http://b:3128', NODE_USE_ENV_PROXY: '1', NO_PROXY: 'localhost,.svc,.cluster.local,169.254.169.254,metadata.google.internal', no_proxy: 'localhost,.svc,.cluster.local,169.254.169.254,metadata.google.internal', JAVA_TOOL_OPTIONS: '-Dhttps.proxyHost=a -Dhttps.proxyPort=3128' } }, configure: (draft) => { draft.nat = { ports: 2000 }; } });
  t.strictSame(faultsOf(report), ['configuration config-warning egress.yaml:' + String(/egress\.yaml:(\d+)/.exec(faultsOf(report)[0] ?? '')?.[1]), 'nat-ports nat-ports-short', 'environment variables-differ HTTPS_PROXY, https_proxy']);
});

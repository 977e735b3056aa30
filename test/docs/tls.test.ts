/** docs/tls.md: its examples load, and its table of alerts is what the code sends. */
import t from 'tap';
import { loadConfig } from '../../src/config/load.ts';
import { Fault, FAULTS, type FaultCode } from '../../src/errors.ts';
import { alertFor } from '../../src/listeners/tls-terminator.ts';
import { readDocBlocks } from '../support/doc-blocks.ts';
import { readDocRows } from '../support/doc-table.ts';
import { labCertificates } from '../support/lab.ts';

const PAGE = 'docs/tls.md';
const NAME = 'eco-egress.eco-egress.svc';

t.test('the examples', async (t) => {
  const { authority } = await labCertificates();
  const { certPem, keyPem } = await authority.issue({ names: [NAME] });
  const files: Record<string, string> = { '/pki/tls.crt': certPem, '/pki/tls.key': keyPem, '/pki/clients-ca.crt': authority.certPem };
  const blocks = readDocBlocks(PAGE).filter(({ language }) => language === 'yaml');
  t.equal(blocks.length, 2);
  for (const { text } of blocks) {
    const loaded = loadConfig({ file: 'egress.yaml', env: {}, readFile: (path) => files[path] ?? `version: 1\n${text}` });
    t.match(loaded, { ok: true, config: { listeners: { tls: [{ host: '0.0.0.0', port: 8443 }] }, tlsServer: { names: [NAME] } } });
    if (text.includes('clients:')) t.match(loaded, { config: { tlsServer: { clientCertificate: 'request' }, clients: [{ certificates: ['URI:spiffe://cluster.local/ns/dynatrace-sit/*'] }] } });
  }
});

const ALERT = /^(\w+) \((\d+)\)$/;

t.test('the alerts', async (t) => {
  const alerts = new Map<string, number>();
  const byCode = new Map<string, string>();
  for (const [hears = '', , code = ''] of readDocRows(PAGE)) {
    const [, name, number] = ALERT.exec(hears) ?? [];
    if (name === undefined) continue;
    alerts.set(name, Number(number));
    if (code in FAULTS) byCode.set(code, name);
  }
  t.strictSame([...alerts.keys()].toSorted(), ['access_denied', 'decode_error', 'internal_error', 'missing_extension', 'unrecognized_name']);
  t.strictSame([...byCode.keys()].toSorted(), ['host-not-allowed', 'sni-missing', 'tls-hello-malformed']);
  for (const code of Object.keys(FAULTS) as FaultCode[]) {
    const { blame, status } = FAULTS[code];
    const other = blame === 'policy' || status === 407 ? 'access_denied' : 'internal_error';
    const name = code === 'sni-mismatch' ? 'unrecognized_name' : (byCode.get(code) ?? other);
    const expected = code === 'request-timeout' ? null : [21, 3, 3, 0, 2, 2, alerts.get(name)];
    const alert = alertFor(new Fault(code, 'x'));
    t.strictSame(alert === null ? null : [...alert], expected, code);
  }
});

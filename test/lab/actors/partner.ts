/** ECO SIT on its usual ports, with a certificate made elsewhere. Run: node partner.ts NAME CERTIFICATE KEY */
import { readFileSync } from 'node:fs';
import { createPartner } from '../../../src/demo/partner.ts';

const [name = '', certFile = '', keyFile = ''] = process.argv.slice(2);
const certPem = readFileSync(certFile, 'utf8');
const keyPem = readFileSync(keyFile, 'utf8');

await createPartner({
  authority: { issue: () => Promise.resolve({ certPem, keyPem }) },
  name,
  https: { host: '0.0.0.0', port: 443 },
  http: { host: '0.0.0.0', port: 80 },
}).start();
process.stdout.write('ready\n');

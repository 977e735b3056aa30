/** Each value in effect and where it came from; variables that look like ours and are not used. */
import t from 'tap';
import { describeOrigin, formatSettings, HIDDEN, type Setting } from '../../src/config/settings.ts';
import { FILE } from '../../src/config/schema.ts';
import { listSchemaKeys } from '../support/schema-keys.ts';
import { loadText, MINIMAL } from '../support/load-text.ts';

function settingsOf(text: string, env: Record<string, string> = {}): Map<string, Setting> {
  const loaded = loadText(text, env);
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.faults));
  return new Map(loaded.settings().map((setting) => [setting.path, setting]));
}

const HASH = `$scrypt$ln=15,r=8,p=1$${'A'.repeat(22)}$${'A'.repeat(43)}`;

t.test('where a value comes from', async (t) => {
  const text = `version: 1
name: \${NAME:-other}
clients: { pods: { addresses: ["\${RANGE}", 10.9.0.0/16] }, people: { basic: [{ user: anna, hash: "${HASH}" }] } }
timeouts: { connect: "\${CONNECT}", tls: 3s }
dns: { servers: "\${SERVERS:-}" }
`;
  const settings = settingsOf(text, { RANGE: '10.8.0.0/16', CONNECT: '7s' });
  const table: [path: string, value: unknown, origin: string][] = [
    ['name', 'other', 'default, ${NAME} is not set (line 2)'],
    ['clients.pods.addresses', ['10.8.0.0/16', '10.9.0.0/16'], '${RANGE}, line 3'],
    ['clients.people.basic[0].user', 'anna', 'line 3'],
    ['clients.people.basic[0].hash', HIDDEN, 'line 3'],
    ['timeouts.connect', '7s', '${CONNECT}, line 4'],
    ['timeouts.tls', '3s', 'line 4'],
    ['timeouts.keepAlive', '75s', 'default'],
    ['dns.servers', null, 'default, ${SERVERS} is not set (line 5)'],
    ['listeners.http', ['0.0.0.0:8080', '0.0.0.0:3128'], 'default'],
  ];
  for (const [path, value, origin] of table) {
    const setting = settings.get(path);
    t.same(setting?.value, value, path);
    t.equal(setting === undefined ? '' : describeOrigin(setting.origin), origin, path);
  }
  t.notMatch(JSON.stringify([...settings.values()]), 'AAAA', 'no secret');
  t.match(formatSettings([...settings.values()]), /^ {2}timeouts\.connect +7s +# \$\{CONNECT\}, line 4$/m);
});

t.test('every key with a default is shown', async (t) => {
  const shown = settingsOf(MINIMAL);
  for (const { path, preset } of listSchemaKeys(FILE)) {
    if (preset === null || preset === undefined || path.includes('<name>') || path.includes('[]')) continue;
    const found = [...shown.keys()].some((key) => key === path || key.startsWith(`${path}.`));
    // Of a section that may be left out as a whole only the keys are values.
    t.ok(found || (typeof preset === 'object' && Object.keys(preset).length === 0), path);
  }
});

t.test('what a URL hides', async (t) => {
  const settings = settingsOf(`${MINIMAL}sourceIp: { probe: { url: "https://echo.example/ip?key=secret" } }\n`);
  t.equal(settings.get('sourceIp.probe.url')?.value, `https://echo.example/ip?${HIDDEN}`);
});

t.test('variables that look like ours and are not used', async (t) => {
  const text = `${MINIMAL}name: "\${ECO_SIT_NAME:-x}"\ndns: { servers: "\${ECO_SIT_ADDRESSES:-}" }\nnat:\n  ports: \${NAT_PORTS:-}\n`;
  const warningsFor = (env: Record<string, string>): string[] => {
    const loaded = loadText(text, env);
    return loaded.ok ? loaded.warnings.filter(({ kind }) => kind === 'variable').map(({ problem, instead }) => `${problem} ${instead}`) : ['faulty'];
  };
  t.match(warningsFor({ ECO_SIT_ADRESSES: '10.0.0.10' }), [/variable ECO_SIT_ADRESSES is set, and nothing uses it\. Did you mean ECO_SIT_ADDRESSES\?$/]);
  t.match(warningsFor({ ECO_SIT_ADRESSES: '1', ECO_SIT_ADDRESSES: '10.0.0.10' }), [/Did you mean ECO_SIT_ADDRESSES, which is set too\?/]);
  t.match(warningsFor({ ECOSIT_ADDRESSES: '1', NAT_PORT: '7', ECO_EGRESS_CONFG: 'x' }), [/Did you mean ECO_SIT_ADDRESSES/, /Did you mean ECO_EGRESS_CONFIG/, /Did you mean NAT_PORTS/]);
  t.match(warningsFor({ ECO_SIT_SOMETHING_ELSE: '1' }), [/The file uses ECO_SIT_ADDRESSES, ECO_SIT_NAME, NAT_PORTS\./]);
  const innocent = { PATH: '/bin', HOSTNAME: 'pod', NAT_GATEWAY: 'x', ECO_EGRESS_ADMIN: 'x', ECO_EGRESS_CONFIG: 'x', ECO_EGRESS_DEBUG: '1', ECO_SIT_NAME: 'y' };
  const links = { ECO_EGRESS_SERVICE_HOST: '10.0.0.1', ECO_EGRESS_SERVICE_PORT: '8080', ECO_EGRESS_SERVICE_PORT_HTTP: '8080', ECO_EGRESS_PORT: 'tcp://10.0.0.1:8080', ECO_EGRESS_PORT_8080_TCP_ADDR: '10.0.0.1' };
  t.strictSame(warningsFor({ ...innocent, ...links }), []);
});

t.test('an entry of a list that comes out empty leaves its variable known', async (t) => {
  const loaded = loadText(`${MINIMAL}name: "\${ECO_SIT_NAME:-x}"\ndns:\n  servers:\n    - "\${ECO_SIT_SERVER:-}"\n    - 10.0.0.10\n`, { ECO_SIT_SERVER: '' });
  t.strictSame(loaded.ok ? loaded.warnings.filter(({ kind }) => kind === 'variable') : loaded.faults, []);
});

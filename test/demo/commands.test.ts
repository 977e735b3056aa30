/** The demo's commands hold in a shell that has proxy settings of its own, and with any temporary directory. */
import t from 'tap';
import { describeCommands } from '../../src/demo/commands.ts';
import type { ProxyEnvironment } from '../../src/demo/commands.ts';

const PLACES = {
  http: 'http://127.0.0.1:8080',
  proxy: 'http://127.0.0.1:3128',
  tls: '127.0.0.1:8443',
  admin: 'http://127.0.0.1:9090',
  ecoHttps: 'https://eco-sit.telus.internal:4443',
  ecoHttp: 'http://eco-sit.telus.internal:4080',
  caFile: '/tmp/ca.pem',
};

function commandsFor(environment: ProxyEnvironment, caFile = PLACES.caFile): string[] {
  return describeCommands({ ...PLACES, caFile }, environment).map(({ command }) => command);
}

t.test('one line each, plain where the shell has no proxy settings', async (t) => {
  for (const environment of [{}, { no_proxy: '', http_proxy: '' }, { HTTP_PROXY: 'http://ignored-by-curl' }]) {
    for (const command of commandsFor(environment)) t.notMatch(command, /noproxy|\n/);
  }
});

t.test('what zsh runs of a comment (it has none at its prompt, as on macOS) swallows no command', async (t) => {
  for (const { name, expect } of describeCommands(PLACES, {})) {
    t.notMatch(`# ${name}: ${expect}`, /['`;|&<>()$*?\\]/);
    t.equal(expect.split('"').length % 2, 1, expect);
  }
});

t.test('NO_PROXY does not take a command past the proxy', async (t) => {
  for (const name of ['no_proxy', 'NO_PROXY']) {
    for (const command of commandsFor({ [name]: '.telus.internal' })) {
      t.equal(command.includes("--noproxy ''"), command.includes('--proxy '), `${name}: ${command}`);
    }
  }
});

t.test('a proxy of the shell does not take the direct ones elsewhere', async (t) => {
  for (const name of ['http_proxy', 'all_proxy', 'ALL_PROXY']) {
    for (const command of commandsFor({ [name]: 'http://elsewhere:1' })) {
      t.equal(command.includes("--noproxy '*'"), !command.includes('--proxy '), `${name}: ${command}`);
    }
  }
});

t.test('the CA file is quoted where it has to be', async (t) => {
  t.match(commandsFor({})[0], ' --cacert /tmp/ca.pem ');
  t.match(commandsFor({}, "/tmp/it's mine/ca.pem")[0], String.raw` --cacert '/tmp/it'\''s mine/ca.pem' `);
});

/** The variables of this process that make programs use a proxy, or keep them from it. */
import { isIP } from 'node:net';
import { readPeerChain } from '../dial/peer-chain.ts';
import { Fault } from '../errors.ts';
import { answersHttp } from './ask-connect.ts';
import { fail, type Finding, ok, skipped, warn } from './finding.ts';
import { entryWithAddress } from './hides.ts';
import { findMistakes, type Surroundings, usesProxy } from './mistakes.ts';
import { readProxyUrl, showProxy } from './proxy-url.ts';
import type { Tools } from './tools.ts';

export async function checkEnvironment(surroundings: Surroundings, tools: Tools): Promise<Finding[]> {
  const { env } = surroundings;
  const found = [...findMistakes(surroundings), ...(await findHiddenAddresses(surroundings, tools)), ...(await findPlainPort(env, surroundings, tools))];
  if (found.length > 0) return found;
  return [usesProxy(env) ? ok('', 'the proxy variables agree, and hide no partner') : skipped('', 'no proxy variable is set in this environment')];
}

/** Only by the partner's addresses does it show that Ruby goes past the proxy. */
async function findHiddenAddresses({ env, partners }: Surroundings, tools: Tools): Promise<Finding[]> {
  if (!usesProxy(env)) return [];
  const lists = ['NO_PROXY', 'no_proxy'].flatMap((name) => ((env[name] ?? '') === '' ? [] : [{ name, list: env[name] ?? '' }]));
  const names = [...new Set(partners.map(({ host }) => host))].filter((host) => isIP(host) === 0);
  const resolved = await Promise.all(lists.length === 0 ? [] : names.map(async (host) => ({ host, addresses: await tools.resolve(host).catch(() => []) })));
  return lists.flatMap(({ name, list }) =>
    resolved.flatMap(({ host, addresses }) => {
      const [found] = addresses.flatMap((address) => {
        const entry = entryWithAddress(list, address);
        return entry === null ? [] : [{ address, entry }];
      });
      if (found === undefined) return [];
      const { address, entry } = found;
      return [warn(name, 'no-proxy-address-hides-partner', `its entry ${entry} covers ${address}, an address of ${host}: Ruby looks the name up first, and goes there directly`, `For Ruby, take ${entry} out of it, or write ranges that ${host} is not in: docs/clients/README.md.`)];
    }),
  );
}

/** The commonest of all: https:// stands for TLS with the proxy, and not for what is asked of it. */
async function findPlainPort(env: Surroundings['env'], { partners }: Surroundings, tools: Tools): Promise<Finding[]> {
  const [partner] = partners;
  const written = ['HTTPS_PROXY', 'https_proxy', 'HTTP_PROXY', 'http_proxy'].filter((name) => env[name]?.toLowerCase().startsWith('https://'));
  const [name] = written;
  const read = readProxyUrl(env[name ?? ''] ?? '');
  if (name === undefined || partner === undefined || typeof read === 'string') return [];
  const { host, port } = read;
  try {
    const addresses = await tools.resolve(host);
    try {
      await readPeerChain({ socket: await tools.connect(host, port, addresses), host, port, timeout: tools.timeout });
      return [];
    } catch (error) {
      if (Fault.from(error).code !== 'tls-failed') throw error;
    }
    const plain = await answersHttp(await tools.connect(host, port, addresses), { ...partner, credentials: read.credentials, timeout: tools.timeout });
    return plain ? [fail(written.join(', '), 'https-proxy-on-plain-port', `${showProxy(read)} asks for TLS with the proxy, and port ${port} speaks plain HTTP`, `Write http://${showProxy(read).slice('https://'.length)}: also for https:// destinations.`)] : [];
  } catch {
    // Not reached at all: that is for other checks to say.
    return [];
  }
}

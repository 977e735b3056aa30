/** The variables of this process that make programs use a proxy, or keep them from it. */
import { readPeerChain } from '../dial/peer-chain.ts';
import { Fault } from '../errors.ts';
import { answersHttp } from './ask-connect.ts';
import { fail, type Finding, ok, skipped } from './finding.ts';
import { findMistakes, type Surroundings, usesProxy } from './mistakes.ts';
import { readProxyUrl, showProxy } from './proxy-url.ts';
import type { Tools } from './tools.ts';

export async function checkEnvironment(surroundings: Surroundings, tools: Tools): Promise<Finding[]> {
  const { env } = surroundings;
  const found = [...findMistakes(surroundings), ...(await findPlainPort(env, surroundings, tools))];
  if (found.length > 0) return found;
  return [usesProxy(env) ? ok('', 'the proxy variables agree, and hide no partner') : skipped('', 'no proxy variable is set in this environment')];
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

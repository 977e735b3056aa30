// A pod that knows nothing of the proxy but HTTPS_PROXY: asks ECO SIT every five
// seconds, and once for a host that the allowlist does not have.
import { stat } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';

// Node reads the CA once, and the stand-in makes another one at each start.
const CA = process.env.NODE_EXTRA_CA_CERTS;
const { mtimeMs: read } = await stat(CA);

const ECO = 'https://eco-sit.telus.internal/api/status';

async function ask(url) {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(4_000) });
    const { service, sourceAddress } = await response.json();
    return `${response.status} from ${service}, which saw ${sourceAddress}`;
  } catch (error) {
    return `failed: ${innermost(error).message}`;
  }
}

/** What happened, under the layers of fetch that only say that something did. */
function innermost(error) {
  return error.cause === undefined ? error : innermost(error.cause);
}

console.log(`evil.example: ${await ask('https://evil.example/')}`);
for (;;) {
  console.log(`eco-sit.telus.internal: ${await ask(ECO)}`);
  // Docker starts it anew.
  if ((await stat(CA)).mtimeMs !== read) break;
  await pause(5_000);
}

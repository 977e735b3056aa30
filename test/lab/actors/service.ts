/**
 * What a cluster's Service does: one address for all replicas, leading in turn
 * to those that say at `/readyz` that they are ready. Run on a router:
 * node service.ts ADDRESS REPLICA…
 */
import { execFileSync } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';

const [address = '', ...replicas] = process.argv.slice(2);
const LOOK_EVERY_MS = 250;
/** A replica that says nothing this long, this often, is out. */
const PATIENCE_MS = 700;
const STRIKES = 2;

const strikes = new Map(replicas.map((replica) => [replica, 0]));
let current: readonly string[] | null = null;

for (;;) {
  await Promise.all(
    replicas.map(async (replica) => {
      strikes.set(replica, (await isReady(replica)) ? 0 : (strikes.get(replica) ?? 0) + 1);
    }),
  );
  const ready = replicas.filter((replica) => (strikes.get(replica) ?? 0) < STRIKES);
  if (ready.join() !== current?.join()) {
    leadTo(ready);
    current = ready;
    process.stdout.write(`ready: ${ready.join(' ')}\n`);
  }
  await pause(LOOK_EVERY_MS);
}

async function isReady(replica: string): Promise<boolean> {
  try {
    const response = await fetch(`http://${replica}:9090/readyz`, { signal: AbortSignal.timeout(PATIENCE_MS) });
    await response.body?.cancel();
    return response.ok;
  } catch {
    // However it fails to answer, it is not ready.
    return false;
  }
}

/** Connections that are open stay where they are, as in a cluster. */
function leadTo(ready: readonly string[]): void {
  const turns = ready.map((replica, turn) => `${turn} : ${replica}`).join(', ');
  const rule = ready.length === 0 ? 'drop' : `dnat to numgen inc mod ${ready.length} map { ${turns} }`;
  const rules = `
    add table ip service
    flush table ip service
    table ip service {
      chain asked {
        type nat hook prerouting priority dstnat
        ip daddr ${address} ${rule}
      }
    }`;
  execFileSync('nft', ['-f', '-'], { input: rules });
}

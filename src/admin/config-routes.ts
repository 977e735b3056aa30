/** The configuration in force, on the admin port: shown to whoever may ask there, and loaded again for who asks from this very host. */
import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { tellWarnings } from '../reload/in-force.ts';
import type { InForce } from '../reload/in-force.ts';
import { type ReloadOutcome, reportOutcome } from '../reload/outcome.ts';
import { escapeUnsafe } from '../telemetry/safe-text.ts';
import type { Turns } from '../turns.ts';
import { problemBody, PROBLEM_TYPE } from './problem.ts';

export interface ConfigRoutes {
  readonly inForce: () => InForce;
  /** Loads the file again and takes it over, or nothing of it; null: the configuration came from no file. */
  readonly reload: (() => Promise<ReloadOutcome>) | null;
}

const SETTINGS_A_SLICE = 50;
/** Where a mesh's sidecar stands in for a caller elsewhere, it uses another of 127.0.0.0/8 (Istio: 127.0.0.6). */
const LOOPBACK: ReadonlySet<string> = new Set(['127.0.0.1', '::1', '::ffff:127.0.0.1']);

export function addConfigRoutes(app: FastifyInstance, { inForce, reload }: ConfigRoutes, turns: Turns): void {
  app.get('/config', (_request, reply) => {
    reply.type('application/json; charset=utf-8').send(Readable.from(configSlices(inForce(), turns), { objectMode: false }));
  });
  let busy = false;
  app.post('/reload', async (request, reply) => {
    const refuse = (status: 403 | 404 | 503, detail: string, title: string) => reply.code(status).type(PROBLEM_TYPE).send(problemBody(status, detail, title));
    if (!isFromThisHost(request)) return refuse(403, 'Run npx eco-egress reload where the proxy runs: in its container (kubectl exec), or through kubectl port-forward.', 'A reload may be asked for from this host only');
    if (reload === null) return refuse(404, 'This proxy was started without a configuration file.', 'There is no file to load');
    if (busy) return refuse(503, 'Wait for its outcome, which the log has too.', 'A reload is under way');
    busy = true;
    try {
      const outcome = await reload();
      return await reply.code(outcome.result === 'applied' ? 200 : 422).type('application/json; charset=utf-8').send(`${escapeUnsafe(JSON.stringify(reportOutcome(outcome)))}\n`);
    } finally {
      busy = false;
    }
  });
}

function isFromThisHost({ socket: { remoteAddress, localAddress } }: FastifyRequest): boolean {
  return remoteAddress !== undefined && (LOOPBACK.has(remoteAddress) || (remoteAddress === localAddress && !/^(?:::ffff:)?127\./.test(remoteAddress)));
}

/** A file may have tens of thousands of values, so they are written a few at a time. */
async function* configSlices(inForce: InForce, turns: Turns): AsyncGenerator<string, void, undefined> {
  const { file, hash, loadedAt } = inForce;
  const settings = inForce.settings();
  yield `${escapeUnsafe(JSON.stringify({ file, hash, loadedAt: new Date(loadedAt).toISOString(), warnings: tellWarnings(inForce) })).slice(0, -1)},"settings":[`;
  for (let from = 0; from < settings.length; from += SETTINGS_A_SLICE) {
    await turns.next();
    yield `${from === 0 ? '' : ','}${escapeUnsafe(JSON.stringify(settings.slice(from, from + SETTINGS_A_SLICE)).slice(1, -1))}`;
  }
  yield ']}\n';
}

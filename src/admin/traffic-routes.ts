/** Destination health, open tunnels and the drain, on the admin port: as JSON, and as sections of the status page. */
import type { FastifyInstance } from 'fastify';
import type { DrainView } from '../drain/drain-view.ts';
import type { HealthView } from '../telemetry/destination-health.ts';
import type { History } from '../telemetry/history.ts';
import type { TunnelsView } from '../telemetry/open-tunnels.ts';
import { escapeUnsafe } from '../telemetry/safe-text.ts';
import type { DestinationTraffic } from '../telemetry/traffic-view.ts';
import type { Turns } from '../turns.ts';

/** Health of the destinations, open tunnels and the drain, read at each request. */
export interface Traffic {
  readonly destinations: () => readonly HealthView[];
  readonly tunnels: (most: number) => TunnelsView;
  readonly drain: () => DrainView;
  /** Of one destination; null: there is none of this name. */
  readonly of: (destination: string) => DestinationTraffic | null;
  /** Exchanges that wait for a pooled connection, by destination. */
  readonly queued: () => ReadonlyMap<string, number>;
  readonly history: Pick<History, 'clients' | 'curves' | 'denials' | 'steps'>;
}

const MOST_TUNNELS = 200;

/** Adds `/destinations`, `/tunnels` and `/drain`, which answer with JSON in a separate turn of the event loop. */
export function addTrafficRoutes(app: FastifyInstance, { destinations, tunnels, drain }: Traffic, turns: Turns): void {
  const answers: Record<string, () => unknown> = { '/destinations': () => ({ destinations: destinations() }), '/tunnels': () => tunnels(MOST_TUNNELS), '/drain': drain };
  for (const [path, answer] of Object.entries(answers)) {
    app.get(path, async (_request, reply) => {
      await turns.next();
      return reply.type('application/json; charset=utf-8').send(`${escapeUnsafe(JSON.stringify(answer()))}\n`);
    });
  }
}

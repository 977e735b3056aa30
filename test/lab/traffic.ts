/** Pods that ask without a pause, and try again where they get no answer, as clients should. */
import { equal } from 'node:assert/strict';
import type { Pod } from './cast.ts';
import { relayOf, seenBy } from './curl.ts';
import { until } from './until.ts';

/** One thing a pod wanted to know. */
export interface Call {
  /** How often it had to ask. */
  readonly tries: number;
  /** The proxy that the answer came through, by its name in Via; null: it gave up. */
  readonly relay: string | null;
}

export interface Traffic {
  /** In the order they ended. */
  readonly calls: readonly Call[];
  /** Names of the proxies that calls from that number on came through, sorted. */
  relaysSince(call: number): string[];
  /** Resolves, to words, when calls from now on have come through both nodes. */
  throughAll(): Promise<string>;
  /** Resolves when the last calls have ended. */
  stop(): Promise<void>;
}

const TRIES = 10;

export function startTraffic(pods: readonly Pod[], url: string): Traffic {
  const calls: Call[] = [];
  let stopped = false;

  const ask = async (pod: Pod): Promise<Call> => {
    for (let tries = 1; tries <= TRIES; tries += 1) {
      const answer = await pod.curl('--connect-timeout', '1', '--max-time', '3', url);
      if (answer.exit === 0 && answer.status === 200) return { tries, relay: relayOf(seenBy(answer)) };
    }
    return { tries: TRIES, relay: null };
  };
  const loops = pods.map(async (pod) => {
    while (!stopped) calls.push(await ask(pod));
  });

  const relaysSince = (call: number): string[] => [...new Set(calls.slice(call).map(({ relay }) => relay ?? 'nobody'))].toSorted();

  return {
    calls,
    relaysSince,
    throughAll: async () => {
      const since = calls.length;
      await until('both nodes answer', () => { equal(relaysSince(since).join(), 'node-1,node-2'); });
      return 'answers through node-1 and node-2';
    },
    stop: async () => {
      stopped = true;
      await Promise.all(loops);
    },
  };
}

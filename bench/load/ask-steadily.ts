/** A client that asks at a steady rate, whatever comes back: a late answer counts from when the request was due. */
import { Agent, get } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

export interface SteadyQuestions {
  /** Port on 127.0.0.1. */
  readonly proxy: number;
  readonly path: string;
  /** The client's own address. */
  readonly from: string;
  /** A second. */
  readonly rate: number;
  /** After this a request is given up, ms. */
  readonly patience: number;
}

/** Times are ms. */
interface SteadyAnswers {
  readonly p50: number;
  readonly p99: number;
  /** Requests without a whole answer of 200. */
  readonly failed: number;
}

export async function askSteadily({ proxy, path, from, rate, patience }: SteadyQuestions, seconds: number): Promise<SteadyAnswers> {
  const agent = new Agent({ keepAlive: true, maxSockets: 32 });
  const took: number[] = [];
  let failed = 0;
  const ask = async (due: number): Promise<void> => {
    // An answer that breaks off ends its request, too: the first end counts.
    const { promise, resolve } = Promise.withResolvers<boolean>();
    get({ agent, host: '127.0.0.1', port: proxy, localAddress: from, path, headers: { host: 'x' }, signal: AbortSignal.timeout(patience) }, (response) => {
      response.resume().on('close', () => {
        resolve(response.statusCode === 200 && response.complete);
      });
    }).on('error', () => {
      resolve(false);
    });
    if (await promise) took.push(performance.now() - due);
    else failed += 1;
  };
  const asked: Promise<void>[] = [];
  const started = performance.now();
  for (let i = 0; i < rate * seconds; i += 1) {
    const due = started + (i * 1000) / rate;
    await delay(Math.max(0, due - performance.now()));
    asked.push(ask(due));
  }
  await Promise.all(asked);
  agent.destroy();
  took.sort((a, b) => a - b);
  const at = (part: number): number => took[Math.min(took.length - 1, Math.floor(part * took.length))] ?? NaN;
  return { p50: at(0.5), p99: at(0.99), failed };
}

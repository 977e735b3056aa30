/**
 * What more requests than the proxy can serve do to those that it serves, with
 * and without `limits.loopDelay`. Requests arrive at a fixed rate whatever
 * becomes of those before them (load/open.c): a closed load, where each client
 * waits for its answer, cannot overload anything. Both proxies stay alive and
 * take turns, so that a bad minute of the machine meets both. Prints Markdown.
 * Run: bin/node bench/overload.ts. Options: --help
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { createOurs } from './contenders/ours.ts';
import { buildLoad } from './load/build.ts';
import { startUpstream, UPSTREAM_HOST } from './load/upstream.ts';
import { pin } from './machine/cores.ts';
import { chooseByName, readCount, readNumber, readOptions } from '../test/support/command-line.ts';
import { findUnusedPort } from '../test/support/unused-port.ts';
import { type Program, startProgram } from './machine/program.ts';
import { overloadKey, type OverloadRun, tabulateOverload } from './report/overload.ts';
import { formatFigure } from './report/table.ts';

/** Requests at once when the capacity is looked for. */
const CLOSED = 64;
/** Of the capacity; the first is the unloaded proxy. */
const LOADS = [0.3, 1, 2, 3] as const;
/** Part of the time that a run may have waited for a core, and how often it is tried again. */
const QUIET = 0.05;
const ATTEMPTS = 4;
/** Left out of each run, seconds: in it the proxy notices. */
const WARM = 1;

type Load = Readonly<Record<string, string | number>>;

interface Contestant {
  readonly title: string;
  readonly program: Program;
  readonly port: number;
}

async function drive(open: string, load: Load): Promise<OverloadRun> {
  const args = Object.entries(load).map(([key, value]) => `${key}=${value}`);
  const child = spawn(...pin('load', open, args), { stdio: ['ignore', 'pipe', 'inherit'] });
  const [output, [code]] = await Promise.all([text(child.stdout), once(child, 'exit') as Promise<[number | null]>]);
  if (code !== 0) throw new Error(`open ended with ${code}`);
  return JSON.parse(output) as OverloadRun;
}

/** On a machine that others use, a run in which generator or proxy had no core says nothing: it is tried again, and the quietest counts. */
async function run(open: string, program: Program, load: Load): Promise<OverloadRun> {
  let best: OverloadRun | null = null;
  for (let attempt = 0; attempt < ATTEMPTS && (best === null || best.waited > QUIET); attempt += 1) {
    const [before, at] = [program.waitedSeconds(), performance.now()];
    const seen = await drive(open, load);
    const waited = Math.max(seen.waited, (program.waitedSeconds() - before) / ((performance.now() - at) / 1000));
    if (best === null || waited < best.waited) best = { ...seen, waited };
  }
  if (best === null) throw new Error('no run');
  return best;
}

const WORKS = ['gateway', 'connect'] as const;

async function measure(seconds: number, rounds: number, only: readonly string[]): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'eco-egress-overload-'));
  const built = buildLoad(directory);
  const upstream = await startUpstream(built.upstream, directory);
  const contestants: Contestant[] = [];
  const parts: string[] = [];
  try {
    for (const [title, limits] of [['on', ', loopDelay: 2ms'], ['off', '']] as const) {
      const place = { directory: join(directory, title), port: await findUnusedPort(), gatewayPort: await findUnusedPort(), upstreamHost: UPSTREAM_HOST, plainPort: upstream.plainPort, securePort: upstream.securePort, caFile: upstream.caFile, cold: false };
      mkdirSync(place.directory);
      contestants.push({ title, port: place.port, program: await startProgram(createOurs([], { limits }).launch(place), place.directory, place.port, true) });
    }
    const works: Record<(typeof WORKS)[number], Load> = {
      gateway: { target: '/eco/api/v1/problems?state=open', host: 'gateway' },
      connect: { connect: `${UPSTREAM_HOST}:${upstream.plainPort}` },
    };
    for (const [name, work] of Object.entries(works)) if (only.includes(name)) parts.push(await compare(built.open, name, work, contestants, seconds, rounds));
    return parts.join('\n\n');
  } finally {
    for (const { program } of contestants) await program.stop();
    await upstream.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

async function compare(open: string, name: string, work: Load, contestants: readonly Contestant[], seconds: number, rounds: number): Promise<string> {
  const closed: number[] = [];
  const seen = new Map<string, OverloadRun[]>();
  for (const { port } of contestants) await drive(open, { ...work, port, rate: 0, connections: CLOSED, seconds: 2, warm: 1 });
  for (let round = 0; round < rounds; round += 1) {
    for (const { port, program } of contestants) closed.push((await run(open, program, { ...work, port, rate: 0, connections: CLOSED, seconds: WARM / 2 + 1, warm: WARM / 2 })).ok);
    const capacity = Math.max(...closed);
    for (const load of LOADS) {
      for (const { port, title, program } of contestants) {
        const key = overloadKey(title, load);
        seen.set(key, [...(seen.get(key) ?? []), await run(open, program, { ...work, port, rate: capacity * load, seconds: seconds + WARM, warm: WARM })]);
      }
    }
  }
  const capacity = Math.max(...closed);
  return `${name}: ${formatFigure(capacity)} a second at most.\n\n${tabulateOverload(contestants.map(({ title }) => title), LOADS, seen, capacity)}`;
}

const USAGE = `bin/node bench/overload.ts [--seconds N] [--rounds N] [--only NAME]
  --seconds N  of each load; 2 by default
  --rounds N   turns of both proxies; 3 by default
  --only NAME  of ${WORKS.join(', ')}; both by default
`;
const { seconds, rounds, only } = readOptions({ seconds: { type: 'string', default: '2' }, rounds: { type: 'string', default: '3' }, only: { type: 'string', default: '' } }, USAGE);
process.stdout.write(`${await measure(readNumber('--seconds', seconds, USAGE, 1), readCount('--rounds', rounds, USAGE, 1), chooseByName(WORKS, only, (name) => name, USAGE))}\n`);

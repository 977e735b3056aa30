/** Workflows of .github, as far as they can be held without their runner: what they call is there, and is what was looked at. */
import { accessSync, constants, existsSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { manifest, ROOT } from './lock-file.ts';

interface Step {
  readonly id?: string;
  readonly uses?: string;
  readonly run?: string;
  readonly with?: Readonly<Record<string, unknown>>;
}

interface Job {
  readonly needs?: string | readonly string[];
  readonly 'runs-on': string;
  readonly 'timeout-minutes'?: number;
  readonly outputs?: Readonly<Record<string, string>>;
  readonly permissions?: Readonly<Record<string, string>>;
  readonly strategy?: { readonly matrix: Readonly<Record<string, unknown>> };
  readonly steps: readonly Step[];
}

export interface Workflow {
  readonly permissions?: Readonly<Record<string, string>>;
  readonly jobs: Readonly<Record<string, Job>>;
}

/** Programs of GitHub's runners, and those that an action of the workflow installs. */
const PROGRAMS = new Set(['docker', 'echo', 'gh', 'mkdir', 'npm']);
const INSTALLED: Readonly<Record<string, string>> = { cosign: 'sigstore/cosign-installer', oras: 'oras-project/setup-oras' };
/** What npm itself does; everything else of `npm` is a script. */
const OF_NPM = new Set(['audit', 'ci', 'install', 'pack', 'sbom']);

export const readWorkflow = (text: string): Workflow => parse(text) as Workflow;

/** @returns faults, one line each */
export function checkWorkflow(text: string): string[] {
  const { permissions, jobs } = readWorkflow(text);
  const faults: string[] = [];
  if (JSON.stringify(permissions) !== '{"contents":"read"}') faults.push('its jobs may more than read unless they say so');
  for (const line of text.split('\n').filter((one) => /^\s*-? *uses:/.test(one))) if (!/uses: [\w-]+\/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/.test(line)) faults.push(`not pinned by commit, with its version: ${line.trim()}`);
  for (const [, name = ''] of text.matchAll(/secrets\.(\w+)/g)) if (name !== 'GITHUB_TOKEN') faults.push(`a secret of its own: ${name}`);
  for (const [name, job] of Object.entries(jobs)) faults.push(...[...checkJob(job, jobs)].map((fault) => `${name}: ${fault}`));
  return faults;
}

function* checkJob(job: Job, jobs: Workflow['jobs']): Generator<string> {
  if (job['timeout-minutes'] === undefined) yield 'no timeout';
  const needs = [job.needs ?? []].flat();
  for (const name of needs) if (jobs[name] === undefined) yield `needs ${name}, which is no job`;
  const said = JSON.stringify(job);
  for (const [, name = '', output = ''] of said.matchAll(/needs\.(\w+)\.outputs\.(\w+)/g)) if (!needs.includes(name) || jobs[name]?.outputs?.[output] === undefined) yield `reads the output ${output} of ${name}`;
  for (const [, id = ''] of said.matchAll(/steps\.(\w+)\.outputs/g)) if (!job.steps.some((step) => step.id === id)) yield `reads outputs of the step ${id}`;
  for (const [, key = ''] of said.matchAll(/matrix\.(\w+)/g)) if (!JSON.stringify(job.strategy?.matrix ?? {}).includes(`"${key}":`)) yield `reads ${key} of the matrix`;
  const actions = job.steps.flatMap(({ uses }) => uses?.split('@')[0] ?? []);
  for (const { uses = '', with: given, run = '' } of job.steps) {
    if (uses.startsWith('actions/checkout@') && given?.['persist-credentials'] !== false) yield 'a checkout leaves its token in the folder';
    // A value from outside in a script would be script. What is in the matrix is ours.
    if (/\$\{\{(?! matrix\.)/.test(run)) yield `an expression inside a script: ${run}`;
    for (const command of commandsOf(run)) yield* checkCommand(command, actions);
  }
}

/** Those at the beginning of lines, and inside `$( … )`. */
function commandsOf(run: string): string[] {
  const lines = run.split('\n').map((line) => line.trim()).filter((line) => line !== '');
  return [...lines, ...[...run.matchAll(/\$\((.*?)\)/g)].map(([, inside = '']) => inside).filter((inside) => !inside.startsWith('cat '))];
}

function* checkCommand(command: string, actions: readonly string[]): Generator<string> {
  const [program = '', verb = '', name = ''] = command.split(/\s+/);
  if (program.includes('/')) {
    if (!existsSync(join(ROOT, program))) yield `${program} is not there`;
    else if (!isExecutable(join(ROOT, program))) yield `${program} cannot be executed`;
  } else if (INSTALLED[program] !== undefined) {
    if (!actions.includes(INSTALLED[program])) yield `${program} is not installed`;
  } else if (!PROGRAMS.has(program)) yield `${program} is no program that is known here`;
  if (program !== 'npm' || OF_NPM.has(verb)) return;
  const script = verb === 'run' ? name : verb;
  if (manifest.scripts[script] === undefined) yield `npm has no script ${script}`;
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

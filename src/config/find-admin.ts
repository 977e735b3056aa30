/** Where the proxy of a configuration file listens for operators, also while the file has faults. */
import { type ListenAddress } from './config.ts';
import { draftOf } from './draft.ts';
import type { Environment } from './interpolate.ts';
import type { ReadFile } from './read-named-file.ts';
import { readTree } from './read-tree.ts';
import { readYaml } from './read-yaml.ts';

/** The default where the file says nothing that can be read. Never throws for what stands in the file. */
export function findAdmin({ file, env, readFile }: { readonly file: string; readonly env: Environment; readonly readFile: ReadFile }): ListenAddress | null {
  const { document, lines } = readYaml(readFile(file), () => {});
  const draft = draftOf(document === null ? {} : readTree(document, lines, env, () => {}).value);
  return (draft.listeners.admin ?? draftOf({}).listeners.admin)?.address ?? null;
}

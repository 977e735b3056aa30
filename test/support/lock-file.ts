/** package-lock.json: what a production install has, by where npm puts it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export const ROOT = join(import.meta.dirname, '../..');

interface Locked {
  readonly version?: string;
  readonly dev?: boolean;
  readonly optional?: boolean;
  readonly link?: boolean;
  readonly resolved?: string;
  readonly hasInstallScript?: boolean;
  readonly license?: string;
  readonly dependencies?: Readonly<Record<string, string>>;
}

export interface PackageFile {
  readonly version: string;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
  readonly optionalDependencies: Readonly<Record<string, string>>;
  readonly scripts: Readonly<Record<string, string>>;
  readonly files: readonly string[];
}

export const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as PackageFile;
const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as { packages: Readonly<Record<string, Locked>> };

/** Paths such as `node_modules/undici`, the optional packages left out: what the image has. */
export const PRODUCTION: ReadonlyMap<string, Locked> = new Map(
  Object.entries(packages).filter(([path, { link, resolved, ...itself }]) => {
    // What a link is for is written at the folder that it leads to.
    const { dev, optional } = link === true ? (packages[resolved ?? ''] ?? itself) : itself;
    return path.startsWith('node_modules/') && dev !== true && optional !== true;
  }),
);

/** What is reached from `dependencies`, looked up as Node does: beside the package, then in each folder above. */
export function reachedFrom(names: readonly string[]): Set<string> {
  const reached = new Set<string>();
  const visit = (name: string, from: string): void => {
    for (let folder = from; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('/node_modules/')))) {
      const path = `${folder === '' ? '' : `${folder}/`}node_modules/${name}`;
      const found = packages[path];
      if (found !== undefined) {
        if (reached.has(path)) return;
        reached.add(path);
        for (const next of Object.keys(found.dependencies ?? {})) visit(next, path);
        return;
      }
      if (folder === '') throw new Error(`${from} needs ${name}, which the lock file does not have`);
    }
  };
  for (const name of names) visit(name, '');
  return reached;
}

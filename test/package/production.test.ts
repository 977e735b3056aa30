/** What `npm ci --omit=dev` installs is what src imports and what that needs: no package is there for tests or the build. */
import t from 'tap';
import { globSync, readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { join } from 'node:path';
import { manifest, PRODUCTION, reachedFrom, ROOT } from '../support/lock-file.ts';

/** Packages that the source imports, also where it does so late. */
function listImported(): string[] {
  const specifiers = globSync('src/**/*.{ts,js}', { cwd: ROOT }).flatMap((file) =>
    [...readFileSync(join(ROOT, file), 'utf8').matchAll(/^(?!import type|export type)(?:import|export) (?:[^;']* from )?'([^'.][^']*)'|\bimport\('([^'.][^']*)'\)/gm)].map(([, early, late]) => early ?? late ?? ''),
  );
  return [...new Set(specifiers.filter((name) => !isBuiltin(name)).map((name) => /^(?:@[^/]+\/)?[^/]+/.exec(name)?.[0] ?? name))].toSorted();
}

t.test('dependencies are what the source imports, one for one', async (t) => {
  const imported = listImported();
  t.ok(imported.includes('undici') && imported.includes('commander'));
  t.strictSame(Object.keys(manifest.dependencies).toSorted(), imported);
});

t.test('the lock file keeps for production what these reach, and nothing else', async (t) => {
  const reached = reachedFrom(Object.keys(manifest.dependencies));
  t.strictSame([...PRODUCTION.keys()].toSorted(), [...reached].toSorted());
  t.ok(reached.size <= 85, `${reached.size} packages: a library that brings many needs its reason in docs/decisions`);
});

t.test('none of them runs a script when it is installed, and each says its licence', async (t) => {
  for (const [path, { hasInstallScript = false, license = '' }] of PRODUCTION) {
    t.notOk(hasInstallScript, path);
    t.match(license, /^\(?(MIT|ISC|BSD-[23]-Clause|Apache-2\.0|BlueOak-1\.0\.0|0BSD)\b/, path);
  }
});

t.test('optional is Node alone, for each machine', async (t) => {
  for (const name of Object.keys(manifest.optionalDependencies)) t.match(name, /^node-(linux|darwin)-(x64|arm64)$/);
});

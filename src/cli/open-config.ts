/** Finds and loads the configuration for a command, and prints what is wrong with it. */
import { readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ConfigFinding, formatFindings } from '../config/finding.ts';
import { loadConfig, type Loaded } from '../config/load.ts';
import type { ReadFile } from '../config/named-files.ts';
import { type CommandIo, EXIT } from './io.ts';

/** Absolute path of the configuration file in the package, used when no file is named. */
export const SHIPPED_CONFIG = fileURLToPath(new URL('../../deploy/config/egress.yaml', import.meta.url));

/** `--config`, else ECO_EGRESS_CONFIG, else the shipped file. */
export function chooseConfigFile(option: string | undefined, env: CommandIo['env']): string {
  return option || env['ECO_EGRESS_CONFIG'] || shorten(SHIPPED_CONFIG);
}

/** Null when the file is faulty: every fault is then on stderr, and the command ends with EXIT.usage. */
export function openConfig(option: string | undefined, io: CommandIo, readFile?: ReadFile): Loaded | null {
  const file = chooseConfigFile(option, io.env);
  const result = loadConfig({ file, env: io.env, ...(readFile === undefined ? {} : { readFile }) });
  if (result.ok) return result;
  tellFaults(result.faults, io, ` in ${file}`);
  return null;
}

/** Prints every fault. @param place of all of them, for the heading. @returns the exit code */
export function tellFaults(faults: readonly ConfigFinding[], { stderr }: Pick<CommandIo, 'stderr'>, place = ''): number {
  const heading =
    faults.length === 1 ? `One fault${place}: fix it and try again.` : `${faults.length} faults${place}: fix them and try again.`;
  stderr.write(`${heading}\n\n${formatFindings(faults, 'fault', stderr)}`);
  return EXIT.usage;
}

function shorten(path: string): string {
  const short = relative('', path);
  return short.startsWith('..') ? path : short;
}

// The system's limit of open files for this process.

/** Null: not limited, or not known. Node raises the soft limit to the hard one when it starts. */
export function readOpenFileLimit(): number | null {
  return readLimits() ?? readReportedLimit();
}

/** Linux reports it directly. */
function readLimits(): number | null {
  try {
    const [, soft] = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
    return soft === undefined ? null : Number(soft);
  } catch {
    return null;
  }
}

function readReportedLimit(): number | null {
  // Looking up the names of all open connections would take its time.
  Object.assign(process.report, { excludeNetwork: true });
  const report = process.report.getReport() as { readonly userLimits?: { readonly open_files?: { readonly soft: number | string } } };
  const soft = report.userLimits?.open_files?.soft;
  return typeof soft === 'number' ? soft : null;
}

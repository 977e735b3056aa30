/** `eco-egress check`: every fault of a configuration file, or what it permits. Starts nothing. */
import type { Config, ListenAddress } from '../config/config.ts';
import type { Finding } from '../config/finding.ts';
import { formatFindings } from '../config/format-findings.ts';
import { loadConfig, type LoadResult } from '../config/load.ts';
import { formatSettings } from '../config/settings.ts';
import { formatAuthority } from '../target/host.ts';
import { EXIT } from './exit.ts';
import type { CommandIo } from './io.ts';
import { chooseConfigFile, openConfig } from './open-config.ts';
import { formatPermits, listPermits } from './permits.ts';

export interface CheckOptions {
  readonly config?: string;
  readonly json?: boolean;
  /** Each value in effect and where it came from, besides. */
  readonly effective?: boolean;
}

/** Resolves to 0 for a file that can be served, warnings or not, and to 2 for a faulty one. */
export function run(options: CheckOptions, io: CommandIo): Promise<number> {
  return Promise.resolve(options.json === true ? checkJson(options, io) : checkText(options, io));
}

function checkText(options: CheckOptions, io: CommandIo): number {
  const opened = openConfig(options.config, io);
  if (opened === null) return EXIT.usage;
  const { config, file, hash, warnings } = opened;
  const parts = [`${file} is valid (${hash}).\n`, permitText(config, io.stdout), listenerText(config)];
  if (warnings.length > 0) {
    const count = warnings.length === 1 ? 'One warning:' : `${warnings.length} warnings:`;
    parts.push(`${count}\n\n${formatFindings(warnings, 'warning', io.stdout)}`);
  }
  if (options.effective === true) parts.push(`Values in effect:\n${formatSettings(opened.settings())}`);
  io.stdout.write(parts.join('\n'));
  return EXIT.ok;
}

function checkJson(options: CheckOptions, io: CommandIo): number {
  const file = chooseConfigFile(options.config, io.env);
  const result = loadConfig({ file, env: io.env });
  io.stdout.write(`${JSON.stringify(reportOf(file, result, options.effective === true), null, 2)}\n`);
  return result.ok ? EXIT.ok : EXIT.usage;
}

function reportOf(file: string, result: LoadResult, effective: boolean): unknown {
  if (!result.ok) return { ok: false, file, faults: result.faults.map(plain) };
  const { config, hash, warnings } = result;
  return { ok: true, file, hash, permits: listPermits(config), listeners: config.listeners, warnings: warnings.map((warning) => ({ ...plain(warning), kind: warning.kind })), ...(effective ? { settings: result.settings() } : {}) };
}

function plain({ file, line, column, path, problem, instead }: Finding): Omit<Finding, 'excerpt'> {
  return { file, line, column, path, problem, instead };
}

function permitText(config: Config, stream: NodeJS.WritableStream): string {
  const permits = listPermits(config);
  const reports = config.mode === 'report';
  if (permits.length === 0) return reports ? 'It permits nothing, but report mode denies nothing.\n' : 'It permits nothing: every request is denied.\n';
  const some = permits.some(({ report }) => report);
  const what = reports
    ? 'Report mode denies nothing; enforced, it would permit this alone'
    : some
      ? 'It permits this, and denies everything else but what passes in report mode'
      : 'It permits this, and denies everything else';
  return `${what}:\n\n${formatPermits(permits, stream)}`;
}

function listenerText({ listeners, tlsServer }: Config): string {
  const line = (kind: string, { host, port }: ListenAddress, what: readonly string[]): string => `  ${kind.padEnd(6)} ${formatAuthority(host, port).padEnd(22)} ${what.join(', ')}`;
  const lines = listeners.http.map((listener) => line('http', listener, listener.forms));
  lines.push(...listeners.tls.map((listener) => line('tls', listener, tlsServer === null ? listener.forms.filter((form) => form === 'sni') : listener.forms)));
  lines.push(line('admin', listeners.admin, ['/metrics', '/healthz', '/readyz']));
  return `Listeners:\n${lines.join('\n')}\n`;
}

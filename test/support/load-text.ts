/** Loads a configuration from text, with a minimal valid frame around what a test is about. Whatever loads is valid by schemas/config.v1.json, too. */
import { parse } from 'yaml';
import { loadConfig, type LoadOptions, type LoadResult } from '../../src/config/load.ts';
import type { Config } from '../../src/config/config.ts';
import { schemaFaults } from './schemas.ts';

/** Valid, and without warnings. Line 1 is `version`. */
export const MINIMAL = `version: 1
clients:
  pods:
    addresses: ["10.8.0.0/14"]
destinations:
  eco:
    hosts: [eco.example]
    ports: [443]
rules:
  - { clients: [pods], destinations: [eco] }
`;

/** Texts of thousands of entries say nothing that a short one does not. */
const LONGEST_VALIDATED = 100_000;

type Options = Omit<Partial<LoadOptions>, 'file' | 'readFile'>;

export function loadText(text: string, env: LoadOptions['env'] = {}, options: Options = {}): LoadResult {
  const result = loadConfig({ file: 'test.yaml', env, readFile: () => text, ...options });
  const faults = result.ok && text.length < LONGEST_VALIDATED ? schemaFaults('config', parse(text)) : [];
  if (faults.length > 0) throw new Error(`It loads, and the JSON Schema refuses it: ${faults.join('; ')}\n${text}`);
  return result;
}

/** @throws {Error} naming the faults when there are any */
export function configOf(text: string, env: LoadOptions['env'] = {}): Config {
  const result = loadText(text, env);
  if (!result.ok) throw new Error(`not valid: ${faultsOf(text, env).join(' ')}`);
  return result.config;
}

/** `line:column path: problem instead` of each fault; empty for a valid text. */
export function faultsOf(text: string, env: LoadOptions['env'] = {}): string[] {
  const result = loadText(text, env);
  return result.ok ? [] : result.faults.map(({ line, column, path, problem, instead }) => `${line}:${column} ${path}: ${problem} ${instead}`);
}

/** Asks an API server by kubectl, which knows how to log in to it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import type { KubeObject } from '../support/manifests/kustomize.ts';

export interface Said {
  readonly ok: boolean;
  readonly out: string;
  /** Standard error without blank lines. */
  readonly err: string;
}

export interface Kubectl {
  /** @param objects sent on standard input, where there are any */
  run(args: readonly string[], objects?: readonly KubeObject[]): Promise<Said>;
  /** Kinds that the server knows, as `apps/v1/Deployment`. */
  kinds(): Promise<ReadonlySet<string>>;
  /** Of these, those that are there. */
  get(objects: readonly KubeObject[]): Promise<KubeObject[]>;
}

/** @param kubeconfig the file that says where the server is and who asks */
export function createKubectl(kubeconfig: string): Kubectl {
  const run: Kubectl['run'] = async (args, objects) => {
    const child = spawn('kubectl', ['--kubeconfig', kubeconfig, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
    child.stdin.on('error', () => {});
    // One document for each, since kubectl asks whether the server validates that very kind strictly, and no server does a List.
    child.stdin.end((objects ?? []).map((object) => JSON.stringify(object)).join('\n---\n'));
    const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close') as Promise<[number | null]>]);
    return { ok: code === 0, out, err: err.split('\n').filter((line) => line.trim() !== '').join('\n') };
  };
  const need = async (args: readonly string[], objects?: readonly KubeObject[]): Promise<string> => {
    const { ok, out, err } = await run(args, objects);
    if (!ok) throw new Error(`kubectl ${args[0] ?? ''}: ${err}`);
    return out;
  };
  return {
    run,
    kinds: async () => {
      const lines = (await need(['api-resources', '--no-headers', '--cached=false'])).split('\n').filter((line) => line !== '');
      // NAME, SHORTNAMES which may be missing, APIVERSION, NAMESPACED, KIND.
      return new Set(lines.map((line) => line.trim().split(/\s+/)).map((words) => `${words.at(-3) ?? ''}/${words.at(-1) ?? ''}`));
    },
    get: async (objects) => {
      if (objects.length === 0) return [];
      const out = await need(['get', '--ignore-not-found', '--output', 'json', '--filename', '-'], objects);
      if (out.trim() === '') return [];
      const answer = JSON.parse(out) as KubeObject & { items?: KubeObject[] };
      return answer.kind === 'List' ? (answer.items ?? []) : [answer];
    },
  };
}

export const idOf = ({ apiVersion, kind, metadata }: KubeObject): string => `${apiVersion}/${kind} ${metadata.namespace === undefined ? '' : `${metadata.namespace}/`}${metadata.name}`;

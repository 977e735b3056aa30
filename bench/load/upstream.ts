/** The upstream behind all contenders: upstream.c with a certificate of its own authority, and relay.c before it where it is far away. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createAuthority } from '../../src/demo/authority.ts';
import { pin } from '../machine/cores.ts';

/** A name rather than an address, because that is what clients ask for; every machine can resolve this one. */
export const UPSTREAM_HOST = 'localhost';

export interface Upstream {
  readonly plainPort: number;
  readonly securePort: number;
  /** The authority to verify the TLS port's certificate with. */
  readonly caFile: string;
  /** TLS connections taken so far. */
  opened(): Promise<number>;
  close(): Promise<void>;
}

/** Starts the compiled `program`, with its files in `directory`. The caller closes it. */
export async function startUpstream(program: string, directory: string): Promise<Upstream> {
  const authority = await createAuthority('eco-egress bench authority');
  const { certPem, keyPem } = await authority.issue({ names: [UPSTREAM_HOST], addresses: ['127.0.0.1'] });
  const [caFile, certFile, keyFile] = ['ca.pem', 'cert.pem', 'key.pem'].map((name) => join(directory, name)) as [string, string, string];
  await Promise.all([writeFile(caFile, authority.certPem), writeFile(certFile, certPem), writeFile(keyFile, keyPem)]);
  const { ports: [plainPort, securePort], close } = await startPorts(program, [certFile, keyFile]);
  return {
    plainPort,
    securePort,
    caFile,
    opened: async () => Number(await (await fetch(`http://127.0.0.1:${plainPort}/opened`)).text()),
    close,
  };
}

/** The same upstream, behind the compiled relay: every byte arrives so much later, each way. The caller closes the relay, then the upstream. */
export async function startDistant(program: string, upstream: Upstream, milliseconds: number): Promise<Upstream> {
  const { ports: [plainPort, securePort], close } = await startPorts(program, [milliseconds, upstream.plainPort, upstream.securePort].map(String));
  return { ...upstream, plainPort, securePort, close };
}

/** A program that prints its two ports, and ends when its standard input does. */
async function startPorts(program: string, args: readonly string[]): Promise<{ ports: [plain: number, secure: number]; close: () => Promise<void> }> {
  const child = spawn(...pin('upstream', program, args), { stdio: ['pipe', 'pipe', 'inherit'] });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const [plain = 0, secure = 0] = String(line).trim().split(' ').map(Number);
  return {
    ports: [plain, secure],
    close: async () => {
      const ended = once(child, 'exit');
      child.stdin.end();
      await ended;
    },
  };
}

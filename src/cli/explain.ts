/** `eco-egress explain`: the result of a request, and why, by the code that serves requests. Dials nothing. */
import { messageOf } from '../config/named-files.ts';
import { readMoment } from '../config/read-scalar.ts';
import { formatAnswer } from '../explain/answer.ts';
import { withIdleService } from '../service.ts';
import { formatAuthority } from '../targets/host.ts';
import { printableJson } from '../telemetry/safe-text.ts';
import { type CommandIo, EXIT, misuse } from './io.ts';
import { openConfig } from './open-config.ts';

/** Arguments of `explain`, as written; method and target are separate. */
export interface ExplainOptions {
  readonly config?: string;
  readonly client?: string;
  readonly user?: string;
  readonly subject?: string;
  readonly san?: readonly string[];
  readonly host?: string;
  readonly json?: boolean;
  /** For rules with `from` and `until`; else now. */
  readonly at?: string;
  /** False: do not look the name up. */
  readonly resolve: boolean;
}

/** Resolves to 0 when the request would be let through, to 1 when not, to 2 for a faulty file or question. */
export async function runExplain(options: ExplainOptions, io: CommandIo, method: string, target: string): Promise<number> {
  const at = options.at === undefined ? null : readMoment(options.at);
  if (at !== null && 'problem' in at) return misuse(io, `--at: ${at.problem} ${at.instead}`);
  const opened = openConfig(options.config, io);
  if (opened === null) return EXIT.usage;
  return withIdleService(opened.config, async ({ explainer }) => {
    const answer = await explainer.explain({
      client: options.client ?? null,
      user: options.user ?? null,
      subject: options.subject ?? null,
      sans: options.san ?? [],
      method,
      target,
      host: options.host ?? null,
      resolve: options.resolve,
      ...(at === null ? {} : { at: at.value }),
    });
    if (typeof answer === 'string') return misuse(io, answer);
    io.stdout.write(options.json === true ? printableJson(answer) : formatAnswer(answer));
    return answer.verdict === 'deny' ? EXIT.failed : EXIT.ok;
  });
}

/** Why a listener could not be opened, and what to do about it. */
export function explainStart(error: unknown): string {
  const { code, address = '', port = 0 } = error as NodeJS.ErrnoException & { address?: string; port?: number };
  const place = formatAuthority(address, port);
  if (code === 'EADDRINUSE') return `${place} is in use. End the program that listens there, or change the listener's address.`;
  if (code === 'EACCES') return `${place} may not be bound: ports below 1024 need a privilege. Use a higher port.`;
  if (code === 'EADDRNOTAVAIL') return `${address} is not an address of this host. Listen on 0.0.0.0, or on one it has.`;
  if (code === 'EAFNOSUPPORT') return `${address} cannot be bound: this host has no IPv6. Listen on 0.0.0.0, or on another IPv4 address.`;
  return messageOf(error);
}

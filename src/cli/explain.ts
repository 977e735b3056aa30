/** `eco-egress explain`: what would become of a request, and why, by the code that serves requests. Dials nothing. */
import { Writable } from 'node:stream';
import { formatAnswer } from '../explain/format-answer.ts';
import { createService } from '../service.ts';
import { EXIT } from './exit.ts';
import type { CommandIo } from './io.ts';
import { openConfig } from './open-config.ts';

export interface ExplainOptions {
  readonly config?: string;
  readonly client?: string;
  readonly user?: string;
  readonly subject?: string;
  readonly san?: readonly string[];
  readonly host?: string;
  readonly json?: boolean;
  /** False: do not look the name up. */
  readonly resolve: boolean;
}

/** Resolves to 0 when the request would be let through, to 1 when not, to 2 for a faulty file or question. */
export async function run(options: ExplainOptions, io: CommandIo, method: string, target: string): Promise<number> {
  const opened = openConfig(options.config, io);
  if (opened === null) return EXIT.usage;
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => { done(); } });
  const service = createService(opened.config, { logDestination: nowhere });
  try {
    const answer = await service.explainer.explain({
      client: options.client ?? null,
      user: options.user ?? null,
      subject: options.subject ?? null,
      sans: options.san ?? [],
      method,
      target,
      host: options.host ?? null,
      resolve: options.resolve,
    });
    if (typeof answer === 'string') {
      io.stderr.write(`${answer}\n`);
      return EXIT.usage;
    }
    io.stdout.write(options.json === true ? `${JSON.stringify(answer, null, 2)}\n` : formatAnswer(answer));
    return answer.verdict === 'deny' ? EXIT.failed : EXIT.ok;
  } finally {
    await service.close();
  }
}

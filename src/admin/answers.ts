/** An answer to "why" in the requested form: JSON for programs, text for the status page, a separate page for a browser. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { formatAnswer } from '../explain/answer.ts';
import type { RecalledDenial } from '../explain/explainer.ts';
import { formatAuthority } from '../targets/host.ts';
import { escapeText, escapeUnsafe } from '../telemetry/safe-text.ts';
import { composePage, PAGE_HEADERS } from './html-page.ts';

/** The same answer in each form. */
export interface Answer {
  readonly status: number;
  /** Of the JSON. */
  readonly type: string;
  readonly json: string;
  readonly words: string;
  /** What the page is about; `why` by default. */
  readonly about?: 'why' | 'incident';
}

/** Programs send no `accept`, or accept anything: they get JSON. */
export async function replyAnswer({ headers: { accept = '' }, url }: FastifyRequest, reply: FastifyReply, { status, type, json, words, about = 'why' }: Answer): Promise<FastifyReply> {
  reply.code(status);
  if (accept.includes('text/html')) {
    const page = await composePage({ kind: 'answer', about, words, json: escapeUnsafe(json), question: Object.fromEntries(new URLSearchParams(url.split('?')[1] ?? '')) });
    return reply.headers(PAGE_HEADERS).send(page);
  }
  if (accept.startsWith('text/plain')) return reply.type('text/plain; charset=utf-8').send(words);
  return reply.type(type).send(escapeUnsafe(json));
}

/** A denial or failure in words, and the result of the current policy for the same request; safe to print. */
export function formatRecalled({ time, verdict, code, status, client, clientAddress, method, host, port, path, detail, remedy, now }: RecalledDenial): string {
  const what = verdict === 'allow' ? 'let through, and failed' : verdict === 'report' ? 'let through by report mode alone' : 'denied';
  const lines = [
    `${time}  ${what}: ${code}${status === 0 ? '' : ` (${status})`}`,
    '',
    `  client        ${client} (${clientAddress})`,
    `  request       ${method} ${formatAuthority(host, port)}${path}`,
    `  why           ${detail}`,
    ...(remedy === null ? [] : [`  what to do    ${remedy}`]),
  ];
  const printable = lines.map((line) => escapeText(line).replaceAll('\\"', '"')).join('\n');
  return now === null ? `${printable}\n` : `${printable}\n\nThe policy in force says of the same request:\n\n${formatAnswer(now)}`;
}

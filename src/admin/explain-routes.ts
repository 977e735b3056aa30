/** The admin listener's answers to "why": a question, a single denial of late, and what is denied most. */
import type { FastifyInstance, FastifyReply } from 'fastify';
import type { Explainer, ExplainRequest } from '../explain/explainer.ts';
import { escapeUnsafe } from '../telemetry/safe-text.ts';
import { problemBody, PROBLEM_TYPE } from './problem.ts';

export type Explaining = Pick<Explainer, 'explain' | 'recall' | 'denials' | 'remembers'>;

/** Entries of each list of `/denials`. */
const MOST_FREQUENT = 200;
const MOST_LATEST = 100;

const USAGE = 'Write /explain?client=10.8.0.1&method=CONNECT&target=eco-sit.telus.internal:443';
const HOW_TO_ASK = 'The question is not complete';
/** What a parameter stands for, and whether it may be left out. */
const PARAMETERS: Readonly<Record<string, { readonly what: string; readonly needed: boolean }>> = {
  client: { what: 'an IP address, or the name of a client', needed: true },
  target: { what: 'host:port for CONNECT, a URL, or a path, percent-encoded', needed: true },
  method: { what: 'CONNECT where the target is host:port, otherwise GET, unless given', needed: false },
  host: { what: 'the Host field that comes with a path', needed: false },
  user: { what: 'the user of Basic credentials, as if verified', needed: false },
  subject: { what: 'the subject of a token, as if verified', needed: false },
  san: { what: 'a name in a client certificate, such as DNS:pod.example; may stand several times', needed: false },
  resolve: { what: 'no: do not look the name up', needed: false },
};
/** As created by telemetry/request-id.ts. */
const REQUEST_ID = /^[0-9a-z-]{1,64}$/;

export function addExplainRoutes(app: FastifyInstance, explainer: Explaining): void {
  app.get('/explain', async (request, reply) => {
    const question = readQuestion(new URLSearchParams(request.url.split('?')[1] ?? ''));
    const answer = typeof question === 'string' ? question : await explainer.explain(question);
    if (typeof answer === 'string') return refuseQuestion(reply, answer);
    return sendJson(reply, answer);
  });
  app.get<{ Params: { requestId: string } }>('/explain/:requestId', async (request, reply) => {
    const { requestId } = request.params;
    const resolve = new URLSearchParams(request.url.split('?')[1] ?? '').get('resolve') !== 'no';
    const denial = REQUEST_ID.test(requestId) ? await explainer.recall(requestId, resolve) : null;
    if (denial !== null) return sendJson(reply, denial);
    const detail = `The last ${explainer.remembers} denials are kept, until the process ends, and this is none of them. What is older, was allowed or failed upstream is in the access log, under its requestId.`;
    return reply.code(404).type(PROBLEM_TYPE).send(problemBody(404, detail, 'No denial of late has this request id'));
  });
  app.get('/denials', (_request, reply) => sendJson(reply, explainer.denials(MOST_FREQUENT, MOST_LATEST)));
}

/** @returns what is wrong with the parameters */
function readQuestion(parameters: URLSearchParams): ExplainRequest | string {
  for (const name of parameters.keys()) {
    if (!Object.hasOwn(PARAMETERS, name)) return `There is a parameter that means nothing here. ${listParameters()}`;
    if (name !== 'san' && parameters.getAll(name).length > 1) return `The parameter ${name} stands more than once.`;
  }
  const given = (name: string): string | null => parameters.get(name) || null;
  const client = given('client');
  const target = given('target');
  if (client === null || target === null) return `${client === null ? 'client' : 'target'} is missing. ${USAGE}. ${listParameters()}`;
  return {
    client,
    target,
    method: given('method') ?? (target.includes('/') ? 'GET' : 'CONNECT'),
    host: given('host'),
    user: given('user'),
    subject: given('subject'),
    sans: parameters.getAll('san'),
    resolve: parameters.get('resolve') !== 'no',
  };
}

function listParameters(): string {
  const described = Object.entries(PARAMETERS).map(([name, { what, needed }]) => `${name} (${needed ? '' : 'optional; '}${what})`);
  return `The parameters are ${described.join(', ')}.`;
}

function refuseQuestion(reply: FastifyReply, detail: string): FastifyReply {
  return reply.code(400).type(PROBLEM_TYPE).send(escapeUnsafe(problemBody(400, detail, HOW_TO_ASK)));
}

/** Escaped for terminals, too: what clients sent is in it. */
function sendJson(reply: FastifyReply, value: unknown): FastifyReply {
  return reply.type('application/json; charset=utf-8').send(`${escapeUnsafe(JSON.stringify(value))}\n`);
}

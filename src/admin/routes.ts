/**
 * Pages of the admin listener that answer questions: why a request would be
 * denied, recent denials, the configuration in force, what is wrong, and the
 * traffic. They share how a question is read and an answer is given.
 */
import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { DrainView } from '../drain/drain-view.ts';
import { formatAnswer } from '../explain/answer.ts';
import type { Explainer, ExplainRequest, RecalledDenial } from '../explain/explainer.ts';
import { questionOf } from '../explain/kept-request.ts';
import type { DenialsView, RecentDenials, RecentFailures } from '../explain/recent-denials.ts';
import type { Incidents } from '../incident/gather.ts';
import { formatIncident } from '../incident/judge.ts';
import { type InForce, tellWarnings } from '../reload/in-force.ts';
import { type ReloadOutcome, reportOutcome } from '../reload/outcome.ts';
import type { HealthView } from '../telemetry/destination-health.ts';
import type { History } from '../telemetry/history.ts';
import type { TunnelsView } from '../telemetry/open-tunnels.ts';
import { escapeText, escapeUnsafe } from '../telemetry/safe-text.ts';
import type { DestinationTraffic } from '../telemetry/traffic-view.ts';
import type { Turns } from '../turns.ts';
import { Queue } from './callers.ts';
import { composePage, PAGE_HEADERS } from './html-page.ts';
import { JSON_TYPE, PROBLEM_TYPE, problemBody, sendProblem } from './problem.ts';

/** The part of the explainer that the admin port uses. */
export interface Explaining extends Pick<Explainer, 'explain' | 'recall'> {
  readonly denials: Pick<RecentDenials, 'room' | 'view'>;
  readonly failures: Pick<RecentFailures, 'room' | 'latest'>;
}

/** Entries of each list of `/denials`. */
const MOST_FREQUENT = 200;
const MOST_LATEST = 100;
const ENTRIES_A_SLICE = 20;

const USAGE = 'Write /explain?client=10.8.0.1&method=CONNECT&target=eco-sit.telus.internal:443';
const HOW_TO_ASK = 'The question is not valid';
/** The meaning of a parameter, and whether it may be left out. */
type QueryParameters = Readonly<Record<string, { readonly what: string; readonly needed: boolean }>>;
const RESOLVE = { what: 'no: do not look the name up', needed: false };
const INCIDENT_PARAMETERS: QueryParameters = { destination: { what: 'its name; else all', needed: false } };
const PARAMETERS: QueryParameters = {
  client: { what: 'an IP address, or the name of a client', needed: true },
  target: { what: 'host:port for CONNECT, a URL, or a path, percent-encoded', needed: true },
  method: { what: 'CONNECT where the target is host:port, otherwise GET, unless given', needed: false },
  host: { what: 'the Host field that comes with a path', needed: false },
  user: { what: 'the user of Basic credentials, as if verified', needed: false },
  subject: { what: 'the subject of a token, as if verified', needed: false },
  san: { what: 'a name in a client certificate, such as DNS:pod.example; may be repeated', needed: false },
  resolve: RESOLVE,
};
/** As created by `createRequestIds`. */
const REQUEST_ID = /^[0-9a-z-]{1,64}$/;

/** Questions answered at once, waiting, and per address; a look-up may take seconds. */
const QUEUE = { atOnce: 4, most: 20, mostOfOne: 2 };

/**
 * @param turns event loop turns, one slice of work in each
 * @param onBusy called with the address of a question that is refused, because this address or
 * all together have too many
 */
export function addExplainRoutes(app: FastifyInstance, explainer: Explaining, turns: Turns, onBusy: (address: string) => void): void {
  const queue = new Queue(QUEUE);
  const inTurn = async <T>(request: FastifyRequest, reply: FastifyReply, answer: () => Promise<T>): Promise<T | null> => {
    const result = await queue.run(request.ip, async () => {
      await turns.next();
      // The client has disconnected.
      return reply.raw.destroyed ? null : answer();
    });
    if (result !== 'busy') return result;
    onBusy(request.ip);
    sendProblem(
      reply,
      503,
      `At most ${QUEUE.mostOfOne} questions of one address, and ${QUEUE.most} in all, are answered at a time. Ask again.`,
    );
    return null;
  };
  app.get('/explain', async (request, reply) => {
    const question = readQuestion(queryOf(request));
    const answer = typeof question === 'string' ? question : await inTurn(request, reply, () => explainer.explain(question));
    if (answer === null) return reply;
    if (typeof answer === 'string')
      return replyAnswer(request, reply, { status: 400, type: PROBLEM_TYPE, json: problemBody(400, answer, HOW_TO_ASK), words: answer });
    return replyAnswer(request, reply, { status: 200, type: JSON_TYPE, json: `${JSON.stringify(answer)}\n`, words: formatAnswer(answer) });
  });
  app.get<{ Params: { requestId: string } }>('/explain/:requestId', async (request, reply) => {
    const { requestId } = request.params;
    const parameters = queryOf(request);
    const wrong = complainOf(parameters, { resolve: RESOLVE });
    if (wrong !== null)
      return replyAnswer(request, reply, { status: 400, type: PROBLEM_TYPE, json: problemBody(400, wrong, HOW_TO_ASK), words: wrong });
    const resolve = parameters.get('resolve') !== 'no';
    const found = REQUEST_ID.test(requestId)
      ? await inTurn(request, reply, async () => ({ denial: await explainer.recall(requestId, resolve) }))
      : { denial: null };
    if (found === null) return reply;
    if (found.denial !== null)
      return replyAnswer(request, reply, {
        status: 200,
        type: JSON_TYPE,
        json: `${JSON.stringify(found.denial)}\n`,
        words: formatRecalled(found.denial),
      });
    const detail = `The last ${explainer.denials.room} denials and ${explainer.failures.room} failures are kept, until the process ends, and this is none of them. What is older or went well is in the access log, under its requestId.`;
    return replyAnswer(request, reply, {
      status: 404,
      type: PROBLEM_TYPE,
      json: problemBody(404, detail, 'No recent denial or failure has this request id'),
      words: detail,
    });
  });
  app.get('/denials', (_request, reply) =>
    reply
      .type(JSON_TYPE)
      .send(Readable.from(denialSlices(explainer.denials.view(MOST_FREQUENT, MOST_LATEST), turns), { objectMode: false })),
  );
}

/** @returns what is wrong with the parameters */
function readQuestion(parameters: URLSearchParams): ExplainRequest | string {
  const wrong = complainOf(parameters, PARAMETERS);
  if (wrong !== null) return wrong;
  const given = (name: string): string | null => parameters.get(name) || null;
  const client = given('client');
  const target = given('target');
  if (client === null || target === null)
    return `${client === null ? 'client' : 'target'} is missing. ${USAGE}. ${listParameters(PARAMETERS)}`;
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

/** A query may itself have question marks (RFC 3986 §3.4), as where it holds a URL. */
const queryOf = ({ url }: FastifyRequest): URLSearchParams => new URLSearchParams(url.includes('?') ? url.slice(url.indexOf('?')) : '');

/** What would be read over, and so answered as another question; null: nothing. */
function complainOf(parameters: URLSearchParams, known: QueryParameters): string | null {
  for (const name of parameters.keys()) {
    if (!Object.hasOwn(known, name)) return `Unknown parameter ${name}. ${listParameters(known)}`;
    if (name !== 'san' && parameters.getAll(name).length > 1) return `The parameter ${name} is given more than once.`;
  }
  return ['', 'no'].includes(parameters.get('resolve') ?? '') ? null : 'The parameter resolve is no, or left out.';
}

function listParameters(known: QueryParameters): string {
  const described = Object.entries(known).map(([name, { what, needed }]) => `${name} (${needed ? '' : 'optional; '}${what})`);
  return `The ${described.length === 1 ? 'parameter is' : 'parameters are'} ${described.join(', ')}.`;
}

/** As one JSON document. Each entry may contain some kilobytes from clients, so they are written a few at a time. */
async function* denialSlices({ frequent, latest, ...counts }: DenialsView, turns: Turns): AsyncGenerator<string, void, undefined> {
  yield `${JSON.stringify(counts).slice(0, -1)},"frequent":[`;
  yield* entrySlices(frequent, ENTRIES_A_SLICE, turns);
  yield '],"latest":[';
  yield* entrySlices(latest, ENTRIES_A_SLICE, turns);
  yield ']}\n';
}

async function* entrySlices(entries: readonly unknown[], most: number, turns: Turns): AsyncGenerator<string, void, undefined> {
  for (let from = 0; from < entries.length; from += most) {
    await turns.next();
    const slice = JSON.stringify(entries.slice(from, from + most)).slice(1, -1);
    yield escapeUnsafe(`${from === 0 ? '' : ','}${slice}`);
  }
}

/** The source of the routes that show and reload the configuration in force. */
export interface ConfigRoutes {
  readonly inForce: () => InForce;
  /** Loads the file again and applies it, completely or not at all; null: the configuration is not from a file. */
  readonly reload: (() => Promise<ReloadOutcome>) | null;
}

const SETTINGS_A_SLICE = 50;
/** For a remote caller, a mesh's sidecar uses another address of 127.0.0.0/8 (Istio: 127.0.0.6). */
const LOOPBACK: ReadonlySet<string> = new Set(['127.0.0.1', '::1', '::ffff:127.0.0.1']);

/** The configuration in force, on the admin port: shown to every permitted caller, and reloaded for callers from this host only. */
export function addConfigRoutes(app: FastifyInstance, { inForce, reload }: ConfigRoutes, turns: Turns): void {
  app.get('/config', (_request, reply) => {
    reply.type(JSON_TYPE).send(Readable.from(configSlices(inForce(), turns), { objectMode: false }));
  });
  let busy = false;
  app.post('/reload', async (request, reply) => {
    if (!isFromThisHost(request))
      return sendProblem(
        reply,
        403,
        'Run eco-egress reload where the proxy runs: in its container (kubectl exec), or through kubectl port-forward.',
        'A reload may be asked for from this host only',
      );
    if (reload === null) return sendProblem(reply, 404, 'This proxy was started without a configuration file.', 'There is no file to load');
    if (busy) return sendProblem(reply, 503, 'Wait for its outcome, which the log has too.', 'A reload is under way');
    busy = true;
    try {
      const outcome = await reload();
      return await reply
        .code(outcome.result === 'applied' ? 200 : 422)
        .type(JSON_TYPE)
        .send(`${escapeUnsafe(JSON.stringify(reportOutcome(outcome)))}\n`);
    } finally {
      busy = false;
    }
  });
}

function isFromThisHost({ socket: { remoteAddress, localAddress } }: FastifyRequest): boolean {
  return (
    remoteAddress !== undefined &&
    (LOOPBACK.has(remoteAddress) || (remoteAddress === localAddress && !/^(?:::ffff:)?127\./.test(remoteAddress)))
  );
}

/** A file may have tens of thousands of values, so they are written a few at a time. */
async function* configSlices(inForce: InForce, turns: Turns): AsyncGenerator<string, void, undefined> {
  const { file, hash, loadedAt } = inForce;
  yield `${escapeUnsafe(JSON.stringify({ file, hash, loadedAt: new Date(loadedAt).toISOString(), warnings: tellWarnings(inForce) })).slice(0, -1)},"settings":[`;
  yield* entrySlices(inForce.settings(), SETTINGS_A_SLICE, turns);
  yield ']}\n';
}

// What is wrong: POST, since the proxy connects to partners for it. Answered in
// the requested form, like the others.

/** The path of the incident question. */
export const INCIDENT_PATH = '/incident';

/** The part that answers it. */
export type IncidentAnswers = Pick<Incidents, 'ask' | 'destinations'>;

const ONE_AT_A_TIME =
  'One such question is answered at a time, with some seconds between two, because each connects to partners. Ask again.';

/** @param onBusy called with the address of a refused question */
export function addIncidentRoutes(app: FastifyInstance, incidents: IncidentAnswers, onBusy: (address: string) => void): void {
  // A separate scope: form content is parsed only here.
  void app.register((scope, _options, done) => {
    scope.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, parsed) => {
      parsed(null, String(body));
    });
    scope.post(INCIDENT_PATH, async (request, reply) => {
      const wrong = complainOf(queryOf(request), INCIDENT_PARAMETERS);
      if (wrong !== null) return refuse(request, reply, 400, wrong, HOW_TO_ASK);
      const asked = readAsked(request);
      if (asked !== null && !incidents.destinations.includes(asked))
        return refuse(
          request,
          reply,
          400,
          `There is no destination of this name. There are: ${incidents.destinations.join(', ')}.`,
          HOW_TO_ASK,
        );
      const verdict = await incidents.ask(asked);
      if (verdict === 'busy') {
        onBusy(request.ip);
        return refuse(request, reply.header('retry-after', '5'), 503, ONE_AT_A_TIME);
      }
      return replyAnswer(request, reply, {
        status: 200,
        type: JSON_TYPE,
        json: `${JSON.stringify(verdict)}\n`,
        words: formatIncident(verdict),
        about: 'incident',
      });
    });
    done();
  });
}

function refuse(request: FastifyRequest, reply: FastifyReply, status: 400 | 503, detail: string, title?: string): Promise<FastifyReply> {
  return replyAnswer(request, reply, {
    status,
    type: PROBLEM_TYPE,
    json: problemBody(status, detail, title),
    words: detail,
    about: 'incident',
  });
}

/** Of the query, else of the form; null: all destinations. */
function readAsked(request: FastifyRequest): string | null {
  const { body } = request;
  return queryOf(request).get('destination') || new URLSearchParams(typeof body === 'string' ? body : '').get('destination') || null;
}

// Destination health, open tunnels and the drain, as JSON.

/** Health of the destinations, open tunnels and the drain, read at each request. */
export interface Traffic {
  readonly destinations: () => readonly HealthView[];
  readonly tunnels: (most: number) => TunnelsView;
  readonly drain: () => DrainView;
  /** Of one destination; null: there is none of this name. */
  readonly of: (destination: string) => DestinationTraffic | null;
  /** Exchanges that wait for a pooled connection, by destination. */
  readonly queued: () => ReadonlyMap<string, number>;
  readonly history: Pick<History, 'clients' | 'curves' | 'denials' | 'steps'>;
}

const MOST_TUNNELS = 200;

/** Adds `/destinations`, `/tunnels` and `/drain`, which answer with JSON in a separate turn of the event loop. */
export function addTrafficRoutes(app: FastifyInstance, { destinations, tunnels, drain }: Traffic, turns: Turns): void {
  const answers: Record<string, () => unknown> = {
    '/destinations': () => ({ destinations: destinations() }),
    '/tunnels': () => tunnels(MOST_TUNNELS),
    '/drain': drain,
  };
  for (const [path, answer] of Object.entries(answers)) {
    app.get(path, async (_request, reply) => {
      await turns.next();
      return reply.type(JSON_TYPE).send(`${escapeUnsafe(JSON.stringify(answer()))}\n`);
    });
  }
}

// An answer in the requested form: JSON for programs, text for the status page, a
// separate page for a browser.

/** The same answer in each form. */
interface Answer {
  readonly status: number;
  /** Of the JSON. */
  readonly type: string;
  readonly json: string;
  readonly words: string;
  /** What the page is about; `why` by default. */
  readonly about?: 'why' | 'incident';
}

/** Media types that an answer has besides JSON. */
const NAMED_TYPES: ReadonlyMap<string, 'page' | 'words' | 'json'> = new Map([
  ['text/html', 'page'],
  ['text/plain', 'words'],
  ['application/json', 'json'],
]);

/** The one named with the highest weight, and of those the first (RFC 9110 §12.5.1). Programs send no `accept`, or accept anything: they get JSON. */
function chooseAnswerForm(accept: string): 'page' | 'words' | 'json' {
  let chosen: 'page' | 'words' | 'json' = 'json';
  let highest = 0;
  for (const range of accept.toLowerCase().split(',')) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim());
    const form = NAMED_TYPES.get(type);
    const weight = Number(parameters.find((each) => each.startsWith('q='))?.slice(2) ?? 1);
    if (form === undefined || !(weight > highest)) continue;
    chosen = form;
    highest = weight;
  }
  return chosen;
}

async function replyAnswer(
  request: FastifyRequest,
  reply: FastifyReply,
  { status, type, json, words, about = 'why' }: Answer,
): Promise<FastifyReply> {
  reply.code(status);
  const form = chooseAnswerForm(request.headers.accept ?? '');
  if (form === 'page') {
    const page = await composePage({
      kind: 'answer',
      about,
      words,
      json: escapeUnsafe(json),
      question: Object.fromEntries(queryOf(request)),
    });
    return reply.headers(PAGE_HEADERS).send(page);
  }
  if (form === 'words') return reply.type('text/plain; charset=utf-8').send(words);
  return reply.type(type).send(escapeUnsafe(json));
}

/** A denial or failure in words, and the result of the current policy for the same request; safe to print. */
function formatRecalled(denial: RecalledDenial): string {
  const { time, verdict, code, status, client, clientAddress, detail, remedy, now } = denial;
  const { method, target } = questionOf(denial);
  const what = verdict === 'allow' ? 'let through, and failed' : verdict === 'report' ? 'let through by report mode alone' : 'denied';
  const lines = [
    `${time}  ${what}: ${code}${status === 0 ? '' : ` (${status})`}`,
    '',
    `  client        ${client} (${clientAddress})`,
    `  request       ${method === '-' ? '' : `${method} `}${target}`,
    `  why           ${detail}`,
    ...(remedy === null ? [] : [`  what to do    ${remedy}`]),
  ];
  const printable = lines.map((line) => escapeText(line)).join('\n');
  return now === null ? `${printable}\n` : `${printable}\n\nThe policy in force says of the same request:\n\n${formatAnswer(now)}`;
}

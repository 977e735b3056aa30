/** The incident question on the admin port: POST, since the proxy connects to partners for it. Answered in the requested form, like the others. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Incidents } from '../incident/incidents.ts';
import { formatIncident } from '../incident/format-incident.ts';
import { replyAnswer } from './answers.ts';
import { PROBLEM_TYPE, problemBody } from './problem.ts';

/** Its path. */
export const INCIDENT_PATH = '/incident';

/** The part that answers. */
export type IncidentAnswers = Pick<Incidents, 'ask' | 'destinations'>;

const INCIDENT_TYPE = 'application/json; charset=utf-8';
const ONE_AT_A_TIME = 'One such question is answered at a time, with some seconds between two, because each connects to partners. Ask again.';

/** @param onBusy called with the address of a refused question */
export function addIncidentRoutes(app: FastifyInstance, incidents: IncidentAnswers, onBusy: (address: string) => void): void {
  // A separate scope: form content is parsed only here.
  void app.register((scope, _options, done) => {
    scope.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, parsed) => {
      parsed(null, String(body));
    });
    scope.post(INCIDENT_PATH, async (request, reply) => {
      const asked = readAsked(request);
      if (asked !== null && !incidents.destinations.includes(asked)) return refuse(request, reply, 400, `There is no destination of this name. There are: ${incidents.destinations.join(', ')}.`, 'The question is not valid');
      const verdict = await incidents.ask(asked);
      if (verdict === 'busy') {
        onBusy(request.ip);
        return refuse(request, reply.header('retry-after', '5'), 503, ONE_AT_A_TIME);
      }
      return replyAnswer(request, reply, { status: 200, type: INCIDENT_TYPE, json: `${JSON.stringify(verdict)}\n`, words: formatIncident(verdict), about: 'incident' });
    });
    done();
  });
}

function refuse(request: FastifyRequest, reply: FastifyReply, status: 400 | 503, detail: string, title?: string): Promise<FastifyReply> {
  return replyAnswer(request, reply, { status, type: PROBLEM_TYPE, json: problemBody(status, detail, title), words: detail, about: 'incident' });
}

/** Of the query, else of the form; null: all destinations. */
function readAsked({ url, body }: FastifyRequest): string | null {
  const queried = new URLSearchParams(url.split('?')[1] ?? '').get('destination');
  return queried ?? (new URLSearchParams(typeof body === 'string' ? body : '').get('destination') || null);
}

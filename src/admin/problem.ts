/** The admin listener's own refusals: RFC 9457 bodies with a pointer to the right path. */
import type { FastifyReply } from 'fastify';

/** The paths of the admin listener, with their purpose. */
export const ADMIN_PATHS = {
  '/': 'status page for people',
  '/status.json': 'what the status page shows, as JSON',
  '/events': 'the same as it changes, as server-sent events',
  '/metrics': 'metrics in the Prometheus text format',
  '/healthz': 'whether the process is alive',
  '/readyz': 'whether it should get traffic, and if not why',
  '/source-ip': 'which source address partners see, and whether it is the expected one, as JSON',
  '/config': 'each value in effect and where it came from, as JSON; passwords are left out',
  '/reload': 'POST, from this host only: loads the configuration file again, and answers what came of it',
  '/incident': 'POST: what is wrong now, and whose part it is: tries the route to each destination, or to that of ?destination=…',
  '/destinations': 'health of each destination: the latest outcomes, failures by code, answers by class, as JSON',
  '/tunnels': 'who holds tunnels now: by client, and the oldest ones, as JSON',
  '/drain': 'how a shutdown goes on, or what one would find now, as JSON',
  '/denials': 'what was denied recently: the most frequent and the latest, as JSON',
  '/explain':
    'why a request would pass or not: /explain?client=…&method=…&target=…, or /explain/ and the request id of a denial or failure',
} as const;

const TITLES = {
  400: 'The request is not valid HTTP/1.1',
  403: 'Requests from pages of other sites are refused',
  404: 'There is nothing at this path',
  405: 'This method is not served here',
  408: 'The request did not arrive in time',
  421: 'Unknown host name for the admin port',
  431: 'The request header section is too large',
  500: 'The admin listener failed',
  503: 'The admin listener is busy',
} as const;

/** HTTP statuses that the admin port refuses with. */
export type ProblemStatus = keyof typeof TITLES;

/** Media type of the other answers of the admin port for programs. */
export const JSON_TYPE = 'application/json; charset=utf-8';

/** Media type of RFC 9457. */
export const PROBLEM_TYPE = 'application/problem+json; charset=utf-8';

/** @param title where the standard one of the status is not precise enough */
export function problemBody(status: ProblemStatus, detail: string, title: string = TITLES[status]): string {
  return `${JSON.stringify({ type: 'about:blank', title, status, detail, paths: ADMIN_PATHS })}\n`;
}

/** @param retryAfter seconds, where the status is 503 */
export function sendProblem(reply: FastifyReply, status: ProblemStatus, detail: string, title?: string, retryAfter = 1): FastifyReply {
  if (status === 503) reply.header('retry-after', String(retryAfter));
  return reply
    .code(status)
    .type(PROBLEM_TYPE)
    .send(problemBody(status, detail, title));
}

/** A whole response for a socket whose request does not reach the router; it announces the close. */
export function rawProblem(status: ProblemStatus, detail: string): string {
  const body = problemBody(status, detail);
  const more = status === 405 ? 'Allow: GET, HEAD\r\n' : status === 503 ? 'Retry-After: 1\r\n' : '';
  return (
    `HTTP/1.1 ${status} ${TITLES[status]}\r\n${more}Content-Type: ${PROBLEM_TYPE}\r\n` +
    `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`
  );
}

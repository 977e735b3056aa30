/** An HTTP client for tests: one request, and everything that came back, as it stood on the wire. */
import { type Agent, type ClientRequest, type IncomingMessage, request as httpRequest, type RequestOptions } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { HttpForm } from '../../src/config/config.ts';
import { ECO, type Lab } from './lab.ts';

/** The forms that the proxy terminates. */
export const TERMINATED = ['forward', 'gateway', 'host-routed'] as const satisfies readonly HttpForm[];
export const FORMS = ['connect', ...TERMINATED] as const satisfies readonly HttpForm[];

/** What a client has to know of a lab, or of a proxy started otherwise. */
export interface Reach extends Pick<Lab, 'port' | 'url' | 'authority'> {
  readonly upstream: Pick<Lab['upstream'], 'httpPort' | 'httpsPort'>;
}

export interface AskOptions {
  readonly method?: string;
  /** As the upstream is to see it. */
  readonly path?: string;
  /** Flat: names and values; Host is set by the form. */
  readonly headers?: readonly string[];
  /** A function writes and ends the request itself. */
  readonly body?: string | Buffer | ((request: ClientRequest) => void);
  readonly agent?: Agent;
}

export interface Answer {
  readonly status: number;
  readonly reason: string;
  readonly headers: IncomingMessage['headers'];
  readonly rawHeaders: readonly string[];
  readonly rawTrailers: readonly string[];
  readonly informational: readonly { readonly statusCode: number; readonly rawHeaders: readonly string[] }[];
  readonly body: Buffer;
  readonly text: string;
}

/** What a client writes for a path of the upstream in a form that we terminate. */
export function addressOf(lab: Reach, form: (typeof TERMINATED)[number], path: string): { target: string; host: string } {
  const authority = `${ECO}:${lab.upstream.httpPort}`;
  switch (form) {
    case 'forward':
      return { target: `http://${authority}${path}`, host: authority };
    case 'gateway':
      return { target: `/eco${path}`, host: `127.0.0.1:${lab.port}` };
    case 'host-routed':
      return { target: path, host: authority };
  }
}

/** Begins a request in any form. CONNECT is made by Node's own agent, TLS inside. The caller ends the request. */
export function beginAsk(lab: Reach, form: HttpForm, options: AskOptions = {}): ClientRequest {
  const { method = 'GET', path = '/', headers = [] } = options;
  if (form === 'connect') {
    const authority = `${ECO}:${lab.upstream.httpsPort}`;
    const agent = options.agent ?? tunnelAgent(lab);
    return httpsRequest(`https://${authority}${path}`, { method, headers: ['Host', authority, ...headers], agent });
  }
  const { target, host } = addressOf(lab, form, path);
  const how: RequestOptions = { host: '127.0.0.1', port: lab.port, method, path: target, headers: ['Host', host, ...headers] };
  return httpRequest(options.agent === undefined ? { ...how, agent: false } : { ...how, agent: options.agent });
}

/** Rejects when the connection breaks, before or in the middle of the answer. */
export function ask(lab: Reach, form: HttpForm, options: AskOptions = {}): Promise<Answer> {
  const request = beginAsk(lab, form, options);
  const answer = answerOf(request);
  const { body } = options;
  if (typeof body === 'function') body(request);
  else request.end(body);
  return answer;
}

/** Everything that comes back on a request that somebody else writes. */
export function answerOf(request: ClientRequest): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const informational: Answer['informational'][number][] = [];
    request.on('information', ({ statusCode, rawHeaders }) => informational.push({ statusCode, rawHeaders }));
    request.on('error', reject);
    request.on('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const { statusCode = 0, statusMessage = '', headers, rawHeaders, rawTrailers } = response;
        const body = Buffer.concat(chunks);
        resolve({ status: statusCode, reason: statusMessage, headers, rawHeaders, rawTrailers, informational, body, text: body.toString() });
      });
    });
  });
}

/** An agent that sends everything through a CONNECT to the proxy; not kept alive. */
export function tunnelAgent(lab: Reach): HttpsAgent {
  return new HttpsAgent({ proxyEnv: { HTTPS_PROXY: lab.url }, ca: lab.authority.certPem });
}

/** Every value of a field, in order, its name matched without regard to case. */
export function valuesOf(raw: readonly string[], name: string): string[] {
  return raw.filter((_, i) => i % 2 === 1 && raw[i - 1]?.toLowerCase() === name.toLowerCase());
}

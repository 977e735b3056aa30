/** An endpoint that answers as it is told, in place of one that sees our NAT: a changed answer is a changed NAT. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Test } from 'tap';
import { listen } from './listen.ts';

export interface EchoEndpoint {
  readonly port: number;
  readonly url: string;
  /** What the next question gets; a function answers itself. */
  answer: string | ((request: IncomingMessage, response: ServerResponse) => void);
  readonly questions: readonly IncomingMessage[];
  /** How many connections the questions came on. One that is open and has asked nothing yet is not counted: a probe goes on while a test reads. */
  readonly connections: number;
  /** Connections that are open. */
  open: number;
}

/** Ends with the test. */
export async function startEchoEndpoint(t: Test, answer: EchoEndpoint['answer']): Promise<EchoEndpoint> {
  const questions: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    questions.push(request);
    if (typeof endpoint.answer === 'string') response.end(endpoint.answer);
    else endpoint.answer(request, response);
  });
  server.on('connection', (socket) => {
    endpoint.open += 1;
    socket.once('close', () => (endpoint.open -= 1));
  });
  const port = await listen(t, server);
  const endpoint: EchoEndpoint = {
    port,
    url: `http://127.0.0.1:${port}/`,
    answer,
    questions,
    get connections() {
      return new Set(questions.map(({ socket }) => socket)).size;
    },
    open: 0,
  };
  return endpoint;
}

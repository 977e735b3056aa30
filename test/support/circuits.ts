/** A partner that fails, asked again and again through a whole proxy: what tests of the circuit breaker have in common. */
import { request } from 'node:http';
import { setImmediate } from 'node:timers/promises';
import { type Answer, answerOf } from './ask.ts';
import { ECO, type Lab } from './lab.ts';

export type CircuitForm = 'connect' | 'forward' | 'gateway' | 'host-routed';
export const FORMS: readonly CircuitForm[] = ['connect', 'forward', 'gateway', 'host-routed'];

export const OPENED = 'the circuit of an upstream address has opened';
export const CLOSED = 'the circuit of an upstream address is closed again';
export const [ONE, OTHER, THIRD] = ['127.0.0.11', '127.0.0.12', '127.0.0.13'];

export interface Asked {
  readonly lab: Lab;
  readonly port: number;
}

/** One request, in plain. Of a CONNECT the answer to it alone; the tunnel is closed. @param from address of the client */
export function ask({ lab, port }: Asked, form: CircuitForm, from = '127.0.0.1'): Promise<Answer> {
  const how = { host: '127.0.0.1', port: lab.port, localAddress: from, agent: false } as const;
  const authority = `${ECO}:${port}`;
  if (form === 'connect') {
    const asked = request({ ...how, method: 'CONNECT', path: authority });
    return new Promise((resolve, reject) => {
      asked.on('error', reject).on('connect', (response, socket, head) => {
        socket.destroy();
        const { statusCode: status = 0, statusMessage: reason = '', headers, rawHeaders } = response;
        resolve({ status, reason, headers, rawHeaders, rawTrailers: [], informational: [], body: head, text: head.toString() });
      });
      asked.end();
    });
  }
  const [path, host] = form === 'forward' ? [`http://${authority}/x`, authority] : form === 'gateway' ? ['/eco/x', 'proxy'] : ['/x', authority];
  const asked = request({ ...how, path, headers: { Host: host, Connection: 'close' } });
  asked.end();
  return answerOf(asked);
}

/** For what can be seen, and is not told. */
export async function until(fits: () => boolean): Promise<void> {
  while (!fits()) await setImmediate();
}

export const lineOf = (lab: Lab, { headers }: Answer): ReturnType<Lab['logged']> => lab.logged((line) => line['requestId'] === headers['x-request-id']);
export const codeOf = ({ status, text }: Answer): string => (status === 200 ? 'ok' : ((JSON.parse(text) as { code: string }).code));

/** The same again and again. @returns the codes, without repetition */
export async function askOften(at: Asked, times: number, form: CircuitForm = 'gateway', from = '127.0.0.1'): Promise<string[]> {
  const codes = new Set<string>();
  for (let i = 0; i < times; i += 1) codes.add(codeOf(await ask(at, form, from)));
  return [...codes];
}

export const opened = (lab: Lab): number => lab.log.filter(({ msg }) => msg === OPENED).length;

import { createServer } from 'node:https';
import t from 'tap';
import { errors } from 'undici';
import { Fault, type FaultCode } from '../../src/errors.ts';
import { explainUpstreamError } from '../../src/relay/exchange-faults.ts';
import { labCertificates, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';

const coded = (code: string): Error => Object.assign(new Error(code), { code });

t.test('what undici reports, in our codes', async (t) => {
  const cases: [Error, FaultCode, Partial<{ responded: boolean; bodyPending: boolean }>?][] = [
    [new Fault('loop', 'x'), 'loop'],
    [new errors.HeadersTimeoutError(), 'upstream-silent'],
    [new errors.HeadersTimeoutError(), 'upstream-silent', { bodyPending: true }],
    [new errors.BodyTimeoutError(), 'upstream-silent', { responded: true }],
    [new errors.HTTPParserError('x'), 'upstream-malformed'],
    [new errors.HeadersOverflowError(), 'upstream-malformed'],
    [new errors.SocketError('other side closed'), 'upstream-cut'],
    [coded('ECONNRESET'), 'upstream-cut'],
    [coded('EPIPE'), 'upstream-cut'],
    [coded('ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED'), 'tls-failed'],
    [coded('ERR_INVALID_CHAR'), 'upstream-malformed'],
    [new errors.SocketError('bad response'), 'upstream-malformed'],
    [new errors.SocketError('bad upgrade'), 'upstream-malformed'],
    [new errors.ResponseContentLengthMismatchError(), 'upstream-malformed'],
    [new errors.ResponseContentLengthMismatchError(), 'upstream-cut', { responded: true }],
    [new errors.RequestContentLengthMismatchError(), 'framing-forbidden'],
    [new errors.InvalidArgumentError('x'), 'request-malformed'],
    [new TypeError('a bug'), 'internal'],
  ];
  for (const [error, code, state] of cases) {
    const fault = explainUpstreamError(error, { responded: false, bodyPending: false, ...state });
    t.equal(fault.code, code, `${error.name} ${error.message} ${JSON.stringify(state ?? {})}`);
    if (!(error instanceof Fault)) t.equal(fault.cause, error, 'the cause is kept');
  }
});

t.test('an upstream that asks for a client certificate we do not have is told apart from one that cuts', async (t) => {
  const { certPem, keyPem, authority } = await labCertificates();
  const port = await listen(t, createServer({ cert: certPem, key: keyPem, ca: authority.certPem, requestCert: true, rejectUnauthorized: true }));
  const lab = await startLab(t, {
    configure: ({ destinations: { eco } }) => {
      eco['ports'] = [port];
      eco['gateway'] = { prefix: '/eco', url: `https://eco-sit.telus.internal:${port}` };
    },
  });
  const res = await fetch(`${lab.url}/eco/x`);
  t.equal(res.status, 502);
  t.match(await res.json(), { code: 'tls-failed', remedy: /tls\.certFile/ });
});

import t from 'tap';
import { Fault } from '../../src/errors.ts';
import { type AccessRecord, outcomeOf } from '../../src/telemetry/access-record.ts';
import { makeRecord } from '../support/access-record.ts';

t.test('how a request ended', async (t) => {
  const table: [string, Partial<AccessRecord>][] = [
    ['allowed', {}],
    ['allowed', { status: 500 }],
    ['aborted', { code: 'client-closed', status: 0 }],
    ['denied', { verdict: 'deny', code: 'no-rule', status: 403 }],
    ['denied', { verdict: 'deny', code: 'internal', status: 500 }],
    ['denied', { verdict: 'allow', code: 'address-not-allowed', status: 403 }],
    ['denied', { verdict: '-', code: 'request-malformed', status: 400 }],
    ['denied', { verdict: '-', code: 'loop', status: 508 }],
    ['denied', { code: 'limit-reached', status: 503, dialled: false }],
    ['denied', { code: 'limit-reached', form: 'sni', status: 0, dialled: false }],
    ['denied', { verdict: '-', code: 'draining', status: 503, dialled: false }],
    ['failed', { code: 'draining', status: 200 }],
    ['failed', { code: 'draining', status: 503 }],
    ['failed', { code: 'draining', form: 'sni', status: 0 }],
    ['failed', { code: 'age-limit', status: 200 }],
    ['failed', { code: 'upstream-cut', status: 200 }],
    ['failed', { code: 'unreachable', status: 502 }],
    ['failed', { verdict: '-', code: 'internal', status: 500 }],
  ];
  for (const [outcome, changes] of table) t.equal(outcomeOf(makeRecord(changes)), outcome, JSON.stringify(changes));
});

t.test('a log line says what was wrong, then what else was noticed, and last what to do', async (t) => {
  const record = makeRecord();
  record.noteDetail('the Host field was replaced');
  record.noteFault(new Fault('upstream-cut', 'it was cut'));
  t.match(record, { code: 'upstream-cut', detail: /^it was cut; the Host field was replaced; Ask the partner, [^;]*\.$/ });
});

/** What an endpoint may answer: one address, as text or as a member of JSON, and nothing near it. */
import t from 'tap';
import { readAnswer } from '../../src/source-ip/ask-endpoint.ts';

t.test('addresses come out canonical', async (t) => {
  for (const [body, field, address] of [
    ['34.123.45.67', null, '34.123.45.67'],
    [' 34.123.45.67\r\n', null, '34.123.45.67'],
    ['2001:DB8:0:0::1\n', null, '2001:db8::1'],
    ['::ffff:34.123.45.67', null, '34.123.45.67'],
    ['{"ip":"34.123.45.67"}', 'ip', '34.123.45.67'],
    ['\ufeff{"ip":"34.123.45.67"}\r\n', 'ip', '34.123.45.67'],
    ['{"ip": " 34.123.45.67\\n"}', 'ip', '34.123.45.67'],
    ['{"client":{"ip":"2001:db8::A"}}', 'client.ip', '2001:db8::a'],
    ['{"ip":"10.0.0.1"}', 'ip', '10.0.0.1'],
  ] as const) {
    t.equal(readAnswer(body, field), address, body);
  }
});

t.test('anything else is a fault that says what to change', async (t) => {
  for (const [body, field, problem, remedy] of [
    ['', null, /"" is not one IP address/, /answers with the address alone/],
    ['34.123.45.67, 10.0.0.1', null, /is not one IP address/, /alone/],
    ['34.123.45.67:443', null, /is not one/, /alone/],
    ['34.123.45.067', null, /is not one/, /alone/],
    ['0x22.1', null, /is not one/, /alone/],
    ['fe80::1%eth0', null, /is not one/, /alone/],
    ['{"ip":"34.123.45.67"}', null, /is not one/, /Name the member .* in sourceIp\.probe\.field/],
    ['<html>34.123.45.67</html>', null, /is not one/, /alone/],
    ['34.123.45.67', 'ip', /is not JSON/, /Take sourceIp\.probe\.field out/],
    ['"34.123.45.67"', 'ip', /no text at ip/, /Correct/],
    ['null', 'ip', /no text at ip/, /Correct/],
    ['{"IP":"34.123.45.67"}', 'ip', /no text at ip/, /Correct/],
    ['{"ip":{"v4":"34.123.45.67"}}', 'ip', /no text at ip/, /Correct/],
    ['{"ip":["34.123.45.67"]}', 'ip', /no text at ip/, /Correct/],
    ['{"client":"34.123.45.67"}', 'client.ip', /no text at client\.ip/, /Correct/],
    ['{}', 'constructor.name', /no text at constructor\.name/, /Correct/],
    ['{"ip":"unknown"}', 'ip', /ip of the answer is "unknown"/, /./],
  ] as const) {
    t.throws(() => readAnswer(body, field), { code: 'upstream-malformed', message: problem, remedy }, `${body} ${field ?? ''}`);
  }
});

t.test('a hostile answer stays one short printable line', async (t) => {
  t.throws(() => readAnswer(`\x1b[2J\n${'x'.repeat(5000)}`, null), { message: /^[ -~]{1,300}$/ });
});

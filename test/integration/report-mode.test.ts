/** Report mode in a whole proxy: what would be denied passes in every form, and the log and the counters say so. */
import t from 'tap';
import { request } from 'node:http';
import { ask, FORMS, TERMINATED } from '../support/ask.ts';
import { ECO, startLab } from '../support/lab.ts';

t.test('what the policy would deny passes, and is reported', async (t) => {
  const lab = await startLab(t, {
    configure: (draft) => {
      draft.mode = 'report';
      draft.rules[0] = { clients: ['pods'], destinations: ['eco'], until: '2020-01-01T00:00:00Z' };
    },
  });
  for (const form of FORMS) {
    const answer = await ask(lab, form, { path: `/${form}` });
    t.equal(answer.status, 200, form);
    const line = await lab.logged((entry) => entry['form'] === form);
    t.match(line, { level: 'warn', msg: 'reported: rule-expired', verdict: 'report', wouldDeny: 'rule-expired', code: 'ok', client: 'pods', destination: 'eco', rule: '-', detail: /rules\[0\] lets pods use eco only until 2020-01-01T00:00:00Z/ }, form);
  }
  t.equal(lab.upstream.requests.length, FORMS.length);
  const { samples } = await lab.scrape();
  for (const form of FORMS) {
    t.equal(samples.get(`eco_egress_would_deny_total{form="${form}",destination="eco",client="pods",code="rule-expired"}`), 1, form);
    t.equal(samples.get(`eco_egress_requests_total{form="${form}",destination="eco",client="pods",outcome="allowed",code="ok"}`), 1, form);
  }
});

t.test('a destination and a rule in report mode', async (t) => {
  for (const level of ['destination', 'rule'] as const) {
    const lab = await startLab(t, {
      configure: (draft) => {
        draft.destinations.eco['http'] = { methods: ['GET'], paths: ['/api/*'] };
        if (level === 'rule') draft.rules[0] = { ...draft.rules[0], report: true };
        else draft.destinations.eco['report'] = true;
      },
    });
    for (const form of TERMINATED) {
      t.equal((await ask(lab, form, { method: 'DELETE', path: '/api/x' })).status, 200, form);
      t.match(await lab.logged((line) => line['form'] === form), { verdict: 'report', wouldDeny: 'method-not-allowed' }, form);
    }
    t.equal((await ask(lab, 'forward', { path: '/api/../x' })).status, 400, 'a path with two readings never passes');
    t.equal(lab.upstream.requests.length, TERMINATED.length, level);
  }
});

t.test('what report mode never lets pass', async (t) => {
  const lab = await startLab(t, {
    configure: (draft) => {
      draft.mode = 'report';
      draft.clients['pods'] = { addresses: ['192.0.2.0/24'] };
    },
  });
  const evil = `evil.example:${lab.upstream.httpPort}`;
  const asks: [what: string, url: string, headers: Record<string, string>, code: string][] = [
    ['a private address', `http://${evil}/`, {}, 'address-not-allowed'],
    ['metadata', 'http://169.254.169.254/', {}, 'address-not-allowed'],
    ['ourselves', `http://127.0.0.1:${lab.port}/`, {}, 'loop'],
    ['a malformed target', `http://user@${evil}/`, {}, 'target-malformed'],
    ['our own request', `http://${ECO}:${lab.upstream.httpPort}/`, { Via: '1.1 eco-egress' }, 'loop'],
  ];
  for (const [what, url, headers, code] of asks) {
    const answer = await new Promise<{ status: number; text: string }>((resolve, reject) => {
      const { host } = new URL(url);
      const req = request({ host: '127.0.0.1', port: lab.port, path: url, headers: { host, ...headers }, agent: false }, (res) => {
        let text = '';
        res.on('data', (chunk: Buffer) => (text += chunk.toString()));
        res.on('end', () => {
          resolve({ status: res.statusCode ?? 0, text });
        });
      });
      req.on('error', reject);
      req.end();
    });
    t.match(JSON.parse(answer.text), { code }, what);
  }
  t.equal(lab.upstream.connections, 0, 'nothing reached the upstream');
});

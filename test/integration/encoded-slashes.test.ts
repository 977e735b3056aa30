/** Encoded slashes below a gateway prefix: refused, unless the destination permits them; and then they open no way round its paths. */
import { request } from 'node:http';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import t from 'tap';
import { ECO, type Draft, type Lab, startLab } from '../support/lab.ts';

async function ask(lab: Lab, path: string, headers: Record<string, string> = {}): Promise<string> {
  const req = request({ host: '127.0.0.1', port: lab.port, path, headers, agent: false });
  req.end();
  const [res] = (await once(req, 'response')) as [NodeJS.ReadableStream & { statusCode: number }];
  const body = JSON.parse(await text(res)) as { url?: string; code?: string };
  return res.statusCode === 200 ? (body.url ?? '') : (body.code ?? '');
}

const permit =
  (more: Record<string, unknown> = {}) =>
  (draft: Draft, { https }: { https: number }): void => {
    draft.destinations.eco['gateway'] = { prefix: '/eco', url: `https://${ECO}:${https}`, encodedSlashes: 'allow' };
    Object.assign(draft.destinations.eco, more);
  };

t.test('refused by default, with the setting that permits them', async (t) => {
  const lab = await startLab(t);
  t.equal(await ask(lab, '/eco/a%2Fb'), 'path-ambiguous');
  t.match(await lab.logged((line) => line.code === 'path-ambiguous'), { detail: /has an encoded slash; set destinations\.eco\.gateway\.encodedSlashes to allow$/ });
  t.equal(await ask(lab, '/eco/a%2F..%2Fb'), 'path-ambiguous');
  t.same(lab.upstream.requests, []);
});

t.test('permitted, they arrive as they were sent; what climbs is refused all the same', async (t) => {
  const lab = await startLab(t, { configure: permit() });
  for (const path of ['/a%2Fb', '/a%2fb?q=%2F', '/projects/group%2Fname/files', '/proxy/https:%2F%2Fx%2Fy']) t.equal(await ask(lab, `/eco${path}`), path);
  for (const path of ['/eco/a%2F..%2F..%2Fb', '/eco/..%2Fb', '/eco/%2e%2e%2fb', '/eco/a%252Fb', '/eco/a%5Cb', '/eco//b']) t.equal(await ask(lab, path), 'path-ambiguous', path);
});

t.test('where paths are listed, both readings have to be among them', async (t) => {
  const lab = await startLab(t, { configure: permit({ http: { paths: ['/files/*/meta', '/open/*'] } }) });
  t.equal(await ask(lab, '/eco/open/a%2Fb'), '/open/a%2Fb');
  t.equal(await ask(lab, '/eco/files/x/meta'), '/files/x/meta');
  // To one server a single segment, to another two.
  t.equal(await ask(lab, '/eco/files/x%2Fy/meta'), 'path-not-allowed');
  t.match(await lab.logged((line) => line.code === 'path-not-allowed'), { detail: /; no pattern can name the path [^:]*: patterns have to cover both of its readings, "\/files\/x%2Fy\/meta" and \/files\/x\/y\/meta, and would permit more$/ });
  t.equal(await ask(lab, '/eco/open%2Fa'), 'path-not-allowed');
  t.equal(lab.upstream.requests.length, 2);
});

t.test('it is about the gateway alone', async (t) => {
  const lab = await startLab(t, { configure: permit({ http: { paths: ['/open/*'] } }) });
  t.equal(await ask(lab, `http://${ECO}:${lab.upstream.httpPort}/open/a%2Fb`), 'path-ambiguous');
});

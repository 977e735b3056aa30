/** The status page in a real browser: it moves, shows faults, complains of nothing, and everybody can use it. Skipped where there is no Chromium. */
import { once } from 'node:events';
import { connect } from 'node:net';
import axe from 'axe-core';
import type { AxeResults } from 'axe-core';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import t from 'tap';
import type { Test } from 'tap';
import { listenAdmin } from '../../src/admin/app.ts';
import { openBrowser, skipWithoutBrowser, watchComplaints } from '../support/browser.ts';
import { ECO, startLab } from '../support/lab.ts';
import { EVIL, openScene, SCENE_INFO, sceneOptions } from '../support/status-scene.ts';

if (skipWithoutBrowser !== false) t.comment(`The status page was tried in no browser: ${skipWithoutBrowser}`);

// A browser takes its time to start, and axe-core looks at every element.
t.setTimeout(240_000);

let browser: Browser | null = null;
t.teardown(() => browser?.close());

/** A page with nobody else's state, and what it complains of. Ends with the test. */
async function open(test: Test, url: string, options: BrowserContextOptions = {}): Promise<{ page: Page; complaints: string[] }> {
  browser ??= await openBrowser();
  const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, ...options });
  test.teardown(() => context.close());
  const page = await context.newPage();
  const complaints = watchComplaints(page, url);
  await page.goto(`${url}/`);
  return { page, complaints };
}

const isLive = (page: Page): Promise<void> => page.locator('.link-live').waitFor();
const tile = (page: Page, name: string): Promise<string> => page.locator('.tile', { has: page.locator('h2', { hasText: new RegExp(`^${name}$`) }) }).innerText();

t.test('numbers move, and faults of the partner show', { skip: skipWithoutBrowser }, async (t) => {
  let status = 200;
  const lab = await startLab(t, {
    onRequest: (_request, response) => {
      response.writeHead(status, { connection: 'close' }).end('x');
    },
  });
  const ask = async (): Promise<number> => (await fetch(`${lab.url}/eco/x`)).status;
  const { page, complaints } = await open(t, lab.adminUrl);
  await isLive(page);
  await page.locator('.band-ok').waitFor();
  t.match(await page.locator('article').innerText(), 'not used yet');

  for (let i = 0; i < 20; i += 1) await ask();
  await page.locator('.card-good').waitFor();
  t.notMatch(await tile(page, 'Requests'), /\s0\/s/);
  t.match(await page.locator('article').innerText(), /p50 \/ p99\s+\d/);

  status = 503;
  await ask();
  await page.locator('.band-degraded').waitFor();
  t.match(await page.locator('.band').innerText(), /The latest request to eco was answered with a status of 5xx \(503/);
  t.match(await page.locator('article').innerText(), /answered with 5xx 1/);

  status = 200;
  await ask();
  await page.locator('.band-ok').waitFor();

  lab.upstream.https.closeAllConnections();
  lab.upstream.https.close();
  await once(lab.upstream.https, 'close');
  t.equal(await ask(), 502);
  await page.locator('.band-degraded').waitFor();
  t.match(await page.locator('.band').innerText(), 'connection-refused');
  t.match(await page.locator('#failures').innerText(), 'connection-refused');
  t.match(await tile(page, 'Failed'), /\s2\s/, 'one that failed, one that was answered with 5xx');
  t.match(await page.title(), /^degraded: /);

  await page.locator('#failures a', { hasText: 'why?' }).first().click();
  t.match(await page.locator('.words').innerText(), /let through, and failed: connection-refused[\s\S]*The policy in force says[\s\S]*✓ allowed/);
  await page.goBack();

  const client = connect(lab.port, '127.0.0.1');
  t.teardown(() => client.destroy());
  client.write(`CONNECT ${ECO}:${lab.upstream.httpPort} HTTP/1.1\r\nHost: x\r\n\r\n`);
  await page.locator('#tunnels td', { hasText: ECO }).waitFor();
  t.strictSame(complaints, []);
});

t.test('a drain shows, and so does the end', { skip: skipWithoutBrowser }, async (t) => {
  const lab = await startLab(t, {
    configure: (draft) => {
      draft.timeouts['drain'] = '60s';
    },
  });
  const { page } = await open(t, lab.adminUrl);
  await isLive(page);
  const client = connect(lab.port, '127.0.0.1');
  t.teardown(() => client.destroy());
  client.write(`CONNECT ${ECO}:${lab.upstream.httpPort} HTTP/1.1\r\nHost: x\r\n\r\n`);
  await once(client, 'data');
  const drained = lab.service.drain();
  await page.locator('.band-draining').waitFor();
  t.match(await page.locator('.band').innerText(), /DRAINING[\s\S]*1 tunnel and 0 exchanges are left\. What is not done at \d\d:\d\d:\d\d UTC is cut\./);
  client.destroy();
  await drained;
  await page.locator('.link-lost').waitFor();
  t.match(await page.locator('.link').innerText(), /^No connection since \d\d:\d\d:\d\d UTC: what is shown is old/);
});

t.test('report mode shows', { skip: skipWithoutBrowser }, async (t) => {
  const lab = await startLab(t, {
    configure: (draft) => {
      draft.mode = 'report';
    },
  });
  const { page, complaints } = await open(t, lab.adminUrl);
  await page.locator('.band-report').waitFor();
  t.match(await page.locator('.band').innerText(), 'REPORT MODE');
  t.strictSame(complaints, []);
});

t.test('another replica answers: the page says which', { skip: skipWithoutBrowser }, async (t) => {
  const first = await listenAdmin(sceneOptions(), { host: '127.0.0.1', port: 0 });
  const { port } = first.address;
  const { page } = await open(t, `http://127.0.0.1:${port}`);
  await isLive(page);
  t.equal(await page.locator('.instance').innerText(), SCENE_INFO.instance);
  await first.close();
  const second = await listenAdmin(sceneOptions({ info: () => ({ ...SCENE_INFO, instance: 'eco-egress-other' }) }), { host: '127.0.0.1', port });
  t.teardown(() => second.close());
  await page.locator('.instance', { hasText: 'eco-egress-other' }).waitFor();
  await isLive(page);
  t.match(await page.title(), 'eco-egress-other');
});

t.test('events of another version than the page: it is loaded again', { skip: skipWithoutBrowser }, async (t) => {
  let pages = 0;
  const { page } = await open(t, await openScene(t, { info: () => ({ ...SCENE_INFO, version: (pages += 1) === 1 ? '1.0.0' : '2.0.0' }) }));
  await page.locator('body[data-version="2.0.0"]').waitFor();
  await isLive(page);
});

t.test('what clients chose is text', { skip: skipWithoutBrowser }, async (t) => {
  for (const javaScriptEnabled of [true, false]) {
    const url = await openScene(t, { info: () => ({ ...SCENE_INFO, instance: EVIL, version: EVIL, configFile: EVIL }), readiness: () => ({ ready: false, reasons: [EVIL], warnings: [EVIL] }) });
    const { page, complaints } = await open(t, url, { javaScriptEnabled });
    if (javaScriptEnabled) await isLive(page);
    t.equal(await page.locator('img').count(), 0);
    t.equal(await page.locator('script').count(), 2, 'the two of the page itself');
    t.ok((await page.locator('text=<img src=x onerror').count()) > 5, 'and it is there to be read');
    t.equal((await page.content()).includes('\u202e</') && (await page.locator('#tunnels').innerText()).includes('\u202e'), false, 'nothing that turns text around');
    t.strictSame(complaints, []);
  }
});

t.test('the form answers in words, in place', { skip: skipWithoutBrowser }, async (t) => {
  const lab = await startLab(t);
  const { page, complaints } = await open(t, lab.adminUrl);
  await isLive(page);
  await page.getByLabel('Client', { exact: true }).fill('127.0.0.1');
  await page.getByLabel('Target', { exact: true }).fill('evil.example:443');
  await page.getByRole('button', { name: 'Explain' }).click();
  await page.locator('#answer:focus').waitFor();
  t.match(await page.locator('#answer').innerText(), /✗ denied: host-not-allowed/);
  await page.getByLabel('Client', { exact: true }).fill('');
  await page.getByLabel('Client', { exact: true }).fill('nobody');
  await page.getByRole('button', { name: 'Explain' }).click();
  await page.locator('#answer', { hasText: 'nobody' }).waitFor();
  await page.locator('.chart canvas').first().waitFor();
  t.match(await page.locator('#answer').innerText(), 'nobody', 'the next event leaves the answer');
  t.strictSame(complaints.filter((text) => !text.includes('400')), [], 'a question that is not valid is answered with 400, which the console tells');
});

/** Of each event: its time, and the latest failure that it has. */
type SeenEvent = readonly [at: string, failureAt: string | null];

t.test('a fault is in the next event but one at the latest, by the times of the page itself', { skip: skipWithoutBrowser }, async (t) => {
  const lab = await startLab(t);
  const { page } = await open(t, lab.adminUrl);
  await isLive(page);
  await page.evaluate('window.seen = []; new EventSource("/events").addEventListener("status", ({ data }) => { const { at, destinations } = JSON.parse(data); window.seen.push([at, destinations[0].lastFailure?.at ?? null]); })');
  await page.evaluate('new Promise((resolve) => { const look = () => (window.seen.length > 1 ? resolve() : requestAnimationFrame(look)); look(); })');
  lab.upstream.https.closeAllConnections();
  lab.upstream.https.close();
  await once(lab.upstream.https, 'close');
  t.equal((await fetch(`${lab.url}/eco/x`)).status, 502);
  await page.locator('.band-degraded').waitFor();
  await page.evaluate('new Promise((resolve) => { const look = () => (window.seen.some(([, failureAt]) => failureAt !== null) ? resolve() : requestAnimationFrame(look)); look(); })');
  const seen = await page.evaluate<SeenEvent[]>('window.seen');
  const first = seen.findIndex(([, failureAt]) => failureAt !== null);
  const failureAt = Date.parse(seen[first]?.[1] ?? '');
  const missed = seen.slice(0, first).filter(([at]) => Date.parse(at) > failureAt);
  t.ok(first > 0, 'events came before it');
  t.ok(missed.length <= 1, `${missed.length} events came after it that did not have it`);
});

t.test('what is wrong: answered in place, and without scripts by a page', { skip: skipWithoutBrowser }, async (t) => {
  for (const javaScriptEnabled of [true, false]) {
    const lab = await startLab(t, {
      configure: (draft, { https }) => {
        draft.destinations['other'] = { hosts: ['other.example'], ports: [https], addresses: ['127.0.0.0/8'] };
      },
      onRequest: (_request, response) => void response.writeHead(500).end(EVIL.replaceAll(/[^\x20-\x7e]/g, '')),
    });
    const { page, complaints } = await open(t, lab.adminUrl, { javaScriptEnabled });
    if (javaScriptEnabled) await isLive(page);
    await page.getByLabel('Destination', { exact: true }).fill('eco');
    await page.getByRole('button', { name: 'What is wrong?' }).click();
    const answer = page.locator(javaScriptEnabled ? '#verdict' : '.words');
    await answer.filter({ hasText: 'The partner\'s application: requests are answered with status 500' }).waitFor();
    t.match(await answer.innerText(), /Evidence \(UTC;[^]*HEAD \/ to eco-sit[^]*What to do:[^]*To send to the partner:\n\s+We connect to eco-sit/);
    if (javaScriptEnabled) {
      t.equal(await page.evaluate('document.activeElement.id'), 'verdict', 'a screen reader is led to it');
      await page.evaluate('new Promise((resolve) => new EventSource("/events").addEventListener("status", resolve))');
      t.ok(await answer.isVisible(), 'an event leaves it');
      await page.evaluate(axe.source);
      const { violations } = await page.evaluate<AxeResults>('axe.run()');
      t.strictSame(violations.filter(({ impact }) => impact === 'serious' || impact === 'critical').map(({ id }) => id), []);
    } else {
      t.match(await page.title(), 'What is wrong?');
      t.equal(await page.getByRole('button', { name: 'What is wrong?' }).count(), 1, 'it can be asked again');
    }
    t.strictSame(complaints, []);
  }
});

t.test('without scripts everything is there, and the form leads to a page', { skip: skipWithoutBrowser }, async (t) => {
  const lab = await startLab(t);
  await fetch(`${lab.url}/eco/x`);
  await lab.logged(({ upstreamStatus }) => upstreamStatus === 200);
  const { page, complaints } = await open(t, lab.adminUrl, { javaScriptEnabled: false });
  t.match(await page.locator('.link').innerText(), 'Without JavaScript this page does not move: reload it.');
  t.match(await page.locator('article').innerText(), /Pool\t0 active, 1 idle, 0 queued/);
  t.ok(await page.locator('.flow-wide').isVisible());
  await page.getByLabel('Client', { exact: true }).fill('pods');
  await page.getByLabel('Target', { exact: true }).fill(`${ECO}:${lab.upstream.httpsPort}`);
  await page.getByRole('button', { name: 'Explain' }).click();
  t.match(await page.locator('.words').innerText(), /✓ allowed/);
  t.equal(await page.getByLabel('Client', { exact: true }).inputValue(), 'pods');
  t.strictSame(complaints, []);
});

/** Each of those that a key reaches, in order. */
async function tabThrough(page: Page): Promise<number[]> {
  const reached: number[] = [];
  await page.evaluate('window.reachable = [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex=\'0\']")].filter((e) => e.checkVisibility())');
  for (;;) {
    await page.keyboard.press('Tab');
    const place = await page.evaluate<number>('window.reachable.indexOf(document.activeElement)');
    if (place === -1 || reached.includes(place)) return reached;
    reached.push(place);
  }
}

t.test('a keyboard reaches everything, in the order of the page', { skip: skipWithoutBrowser }, async (t) => {
  const url = await openScene(t);
  for (const path of ['/', '/explain?client=pods&target=x']) {
    const { page } = await open(t, url, { javaScriptEnabled: path === '/' });
    await page.goto(`${url}${path}`);
    if (path === '/') await isLive(page);
    const reached = await tabThrough(page);
    const all = await page.evaluate<number>('window.reachable.length');
    t.ok(all > (path === '/' ? 25 : 4), `${all} of them`);
    t.strictSame(reached, Array.from({ length: all }, (_, i) => i), path);
  }
});

t.test('nothing serious for people who see, hear or point in another way', { skip: skipWithoutBrowser, timeout: 200_000 }, async (t) => {
  const scenes = {
    degraded: {},
    draining: { info: () => ({ ...SCENE_INFO, drain: { since: new Date().toISOString(), deadline: new Date().toISOString(), tunnels: 3, exchanges: 1 } }) },
    well: { info: () => ({ ...SCENE_INFO, config: { ...SCENE_INFO.config, rules: [], destinations: SCENE_INFO.config.destinations.slice(0, 1) } }), readiness: () => ({ ready: true, reasons: [], warnings: [] }) },
  };
  for (const [name, parts] of Object.entries(scenes)) {
    const url = await openScene(t, parts);
    for (const colorScheme of ['light', 'dark'] as const) {
      for (const width of [1360, 360]) {
        if ((colorScheme === 'dark') !== (width === 360)) continue;
        for (const path of name === 'degraded' ? ['/', '/explain?client=a&target=b'] : ['/']) {
          const { page } = await open(t, url, { colorScheme, viewport: { width, height: 800 } });
          await page.goto(`${url}${path}`);
          if (path === '/') await page.locator('.chart canvas').first().waitFor();
          await page.evaluate(axe.source);
          const { violations } = await page.evaluate<AxeResults>('axe.run()');
          const found = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical').map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(' | ')}`);
          t.strictSame(found, [], `${name} ${path}, ${colorScheme}, ${width} px`);
          t.ok(await page.evaluate<boolean>('document.documentElement.scrollWidth <= innerWidth'), `${name} ${path}, ${width} px: it does not scroll sideways`);
          await page.context().close();
        }
      }
    }
  }
});

t.test('reduced motion is honoured; only changes of the band are announced', { skip: skipWithoutBrowser }, async (t) => {
  const url = await openScene(t);
  const { page } = await open(t, url, { reducedMotion: 'reduce' });
  await isLive(page);
  t.equal(await page.evaluate('getComputedStyle(document.querySelector(".pulse")).animationName'), 'none');
  t.strictSame(await page.evaluate('[...document.querySelectorAll("[aria-live], [role=status], [role=alert], [role=log]")].map((e) => e.className)'), ['band band-degraded']);
});

t.test('a page in the background requests nothing', { skip: skipWithoutBrowser }, async (t) => {
  const url = await openScene(t);
  const { page } = await open(t, url);
  await isLive(page);
  const ended = page.waitForEvent('requestfailed', (request) => request.url().endsWith('/events'));
  await page.evaluate('Object.defineProperty(document, "hidden", { value: true, configurable: true }); document.dispatchEvent(new Event("visibilitychange"))');
  await ended;
  t.match(await page.title(), /^paused: /, 'not a state, nor that there is no connection');
  await page.evaluate('window.now = Date.now; Date.now = () => window.now() + 60000');
  await page.waitForTimeout(1_500);
  t.match(await page.title(), /^paused: /, 'a minute later');
  const again = page.waitForRequest((request) => request.url().endsWith('/events'));
  await page.evaluate('Object.defineProperty(document, "hidden", { value: false, configurable: true }); document.dispatchEvent(new Event("visibilitychange"))');
  t.equal(await page.locator('.link-lost').count(), 0);
  await again;
  await isLive(page);
  t.match(await page.title(), /^degraded: /);
});

t.test('a page that is opened behind another one waits until it is seen', { skip: skipWithoutBrowser }, async (t) => {
  const url = await openScene(t);
  browser ??= await openBrowser();
  const context = await browser.newContext();
  t.teardown(() => context.close());
  const page = await context.newPage();
  let followed = 0;
  page.on('request', (request) => {
    if (request.url().endsWith('/events')) followed += 1;
  });
  await page.addInitScript('Object.defineProperty(document, "hidden", { value: true, configurable: true })');
  await page.goto(`${url}/`, { waitUntil: 'networkidle' });
  t.equal(followed, 0);
  t.match(await page.title(), /^degraded: /, 'as it was sent');
  await page.evaluate('Object.defineProperty(document, "hidden", { value: false, configurable: true }); document.dispatchEvent(new Event("visibilitychange"))');
  await isLive(page);
});

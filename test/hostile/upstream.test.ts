/** A partner that breaks the rules: told as its own fault, never made to look whole, and never kept for the next request. */
import { createServer, type Socket } from 'node:net';
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import { createServer as createTlsServer } from 'node:tls';
import t, { type Test } from 'tap';
import { type FaultCode, FAULTS } from '../../src/errors.ts';
import { accessLines, stillServes } from '../support/hostile.ts';
import { type Draft, ECO, type Lab, labCertificates, type LogLine, startLab } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { openWire, type Wire, wireOf } from '../support/wire.ts';

/** What the partner does once it has read a request. */
type Script = string | ((wire: Wire) => void);

interface RawLab extends Lab {
  /** `host:port` of the bare partner. */
  readonly partner: string;
  /** Connections it took, in order. */
  readonly accepted: readonly Wire[];
  script: Script;
}

/** A lab whose partner is bare TCP behind `script`; the good upstream stays a second destination. */
async function startRawLab(t: Test, configure?: (draft: Draft) => void): Promise<RawLab> {
  const accepted: Wire[] = [];
  const behaviour: { script: Script } = { script: '' };
  const port = await listen(
    t,
    createServer({ noDelay: true }, (socket: Socket) => {
      const wire = wireOf(socket);
      accepted.push(wire);
      socket.on('data', () => {
        if (typeof behaviour.script === 'string') wire.send(behaviour.script);
        else behaviour.script(wire);
      });
    }),
  );
  const lab = await startLab(t, {
    configure: (draft) => {
      draft.destinations['raw'] = { hosts: ['raw.telus.internal'], ports: [port], addresses: ['127.0.0.0/8'], gateway: { prefix: '/raw', url: `http://raw.telus.internal:${port}/` } };
      draft.rules.push({ clients: ['pods'], destinations: ['raw'] });
      Object.assign(draft.timeouts, { responseHeaders: '400ms', body: '400ms' });
      configure?.(draft);
    },
  });
  return Object.assign(behaviour, { ...lab, partner: `raw.telus.internal:${port}`, accepted });
}

interface Asked {
  readonly heard: string;
  readonly how: 'fin' | 'reset';
  readonly line: LogLine;
}

/** One request to the partner on a connection of its own. */
async function askRawPartner(t: Test, lab: RawLab, { version = '1.1', method = 'GET', fields = '' } = {}): Promise<Asked> {
  const before = accessLines(lab).length;
  const wire = await openWire(t, lab.port);
  wire.send(`${method} http://${lab.partner}/x HTTP/${version}\r\nHost: ${lab.partner}\r\nConnection: close\r\n${fields}\r\n`);
  const { heard, how } = await wire.ended;
  const line = await lab.logged((entry) => entry === accessLines(lab)[before]);
  return { heard, how, line };
}

/** The last of several answers, from its status line. */
const lastOf = (heard: string): string => heard.split(/(?=HTTP\/1\.1 \d{3} )/).at(-1) ?? '';

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

const ends = (text: string): Script => (wire) => {
  wire.socket.end(text, 'latin1');
};
const resetsAfter = (text: string): Script => (wire) => {
  // Not before it has left: a reset overtakes what waits.
  wire.socket.write(text, 'latin1', () => setImmediate(() => wire.socket.resetAndDestroy()));
};

t.test('heads that no client may see', async (t) => {
  const lab = await startRawLab(t);
  const malformed: Record<string, Script> = {
    'a control character': 'HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 2\r\n\r\nok',
    NUL: 'HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok',
    'a bare CR': 'HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok',
    'a space in a name': 'HTTP/1.1 200 OK\r\nX Y: b\r\nContent-Length: 2\r\n\r\nok',
    'status 000': 'HTTP/1.1 000 No\r\nContent-Length: 2\r\n\r\nok',
    'status 099': 'HTTP/1.1 099 No\r\nContent-Length: 2\r\n\r\nok',
    'status 1000': 'HTTP/1.1 1000 No\r\nContent-Length: 2\r\n\r\nok',
    'status -20': 'HTTP/1.1 -20 No\r\nContent-Length: 2\r\n\r\nok',
    'status 2x0': 'HTTP/1.1 2x0 No\r\nContent-Length: 2\r\n\r\nok',
    '101 that nobody asked for': 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\nfoo',
    '101 without Upgrade': `HTTP/1.1 101 Switching Protocols\r\n\r\n${OK}`,
    'a flood of 1xx': 'HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n'.repeat(10_000) + OK,
    'CL and TE': 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
    'TE and CL': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n',
    'two lengths': 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok',
    'a negative length': 'HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok',
    'a length beyond counting': 'HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok',
    'a coding that is none': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
    'a coding to the end': ends('HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok'),
    'chunked before another': ends('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n2\r\nok\r\n0\r\n\r\n'),
    'endless fields': (wire) => {
      const more = (): void => {
        if (!wire.socket.destroyed) wire.socket.write(`X: ${'a'.repeat(8000)}\r\n`, more);
      };
      wire.socket.write('HTTP/1.1 200 OK\r\n', more);
    },
    'HTTP/2': 'HTTP/2 200 OK\r\n\r\n',
    TLS: '\x15\x03\x01\0\x02\x02\x0a',
    SSH: 'SSH-2.0-OpenSSH_9.9\r\n',
    HTML: '<html></html>',
  };
  for (const [name, script] of Object.entries(malformed)) {
    for (const version of ['1.1', '1.0']) {
      lab.script = script;
      const { heard, how, line } = await askRawPartner(t, lab, { version });
      const final = lastOf(heard);
      t.match(final, /^HTTP\/1\.1 502 Upstream failed: upstream-malformed\r\n/, `${name} for HTTP/${version}`);
      t.match(final, 'error=http_protocol_error');
      t.notMatch(heard, /Set-Cookie|101 Switching/);
      t.match({ how, line }, { how: 'fin', line: { code: 'upstream-malformed', status: 502, destination: 'raw' } });
    }
  }
  await stillServes(t, lab);
});

t.test('heads that are odd and allowed', async (t) => {
  const lab = await startRawLab(t);
  const passed: [name: string, script: Script, expected: RegExp][] = [
    ['no reason phrase', 'HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok', /^HTTP\/1\.1 200 OK\r\n/],
    ['a reason phrase with controls is replaced', 'HTTP/1.1 200 O\x01K\r\nContent-Length: 2\r\n\r\nok', /^HTTP\/1\.1 200 OK\r\n/],
    ['a status of its own', 'HTTP/1.1 299 Mine\r\nContent-Length: 2\r\n\r\nok', /^HTTP\/1\.1 299 Mine\r\n/],
    ['high bytes pass as they are', 'HTTP/1.1 200 OK\r\nX: \xe9\xff\r\nContent-Length: 2\r\n\r\nok', /\r\nX: \xe9\xff\r\n/],
    ['1xx loses a length that some would wait for', `HTTP/1.1 102 Processing\r\nContent-Length: 5\r\n\r\n${OK}`, /^HTTP\/1\.1 102 Processing\r\nVia: 1\.1 eco-egress\r\n\r\nHTTP\/1\.1 200 OK\r\n/],
    ['100 that nobody asked for', `HTTP/1.1 100 Continue\r\n\r\n${OK}`, /^HTTP\/1\.1 100 Continue\r\nVia: 1\.1 eco-egress\r\n\r\nHTTP\/1\.1 200 OK\r\n[\s\S]*ok$/],
    ['one length twice', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok', /^HTTP\/1\.1 200 OK\r\nContent-Length: 2\r\nDate: .*\r\nVia: /],
    ['a list of lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok', /^HTTP\/1\.1 200 OK\r\nContent-Length: 2\r\nDate: .*\r\nVia: /],
    ['lines that end in LF alone are lines', 'HTTP/1.1 200 OK\nX: a\nContent-Length: 2\n\nok', /^HTTP\/1\.1 200 OK\r\nX: a\r\nContent-Length: 2\r\n/],
    ['a folded line is unfolded', 'HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok', /\r\nX: a b\r\n/],
    ['a space before the colon is dropped', 'HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok', /\r\nContent-Length: 2\r\n[\s\S]*ok$/],
    ['and 204 too', 'HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello', /^HTTP\/1\.1 204 No Content\r\n(?!Content-Length)(?![\s\S]*hello)/],
    ['what Connection names stays', 'HTTP/1.1 200 OK\r\nConnection: X-Mine, Set-Cookie\r\nX-Mine: 1\r\nSet-Cookie: a\r\nContent-Length: 2\r\n\r\nok', /^(?![\s\S]*(?:X-Mine|Set-Cookie))[\s\S]*ok$/],
    ['split where the response ends: the rest is nobody’s', `${OK}HTTP/1.1 200 OK\r\nX-Evil: 1\r\nContent-Length: 4\r\n\r\nevil`, /^(?![\s\S]*evil)[\s\S]*ok$/i],
    ['split where it has no length: the rest is content', ends('HTTP/1.1 200 OK\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nSet-Cookie: evil\r\n\r\n'), /\r\n\r\n[\da-f]+\r\nHTTP\/1\.1 200 OK\r\nSet-Cookie: evil\r\n\r\n\r\n0\r\n\r\n$/],
  ];
  for (const [name, script, expected] of passed) {
    lab.script = script;
    const { heard, line } = await askRawPartner(t, lab);
    t.match(heard, expected, name);
    t.match(line, { code: 'ok' });
  }
});

t.test('a broken transfer is seen to be broken, by every kind of client', async (t) => {
  const LENGTH = 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf';
  const CHUNK = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n';
  const CLOSE = 'HTTP/1.1 200 OK\r\n\r\nhalf';
  const broken: [name: string, script: Script, code: FaultCode][] = [
    ['a length, ended', ends(LENGTH), 'upstream-cut'],
    ['a length, reset', resetsAfter(LENGTH), 'upstream-cut'],
    ['a length, silence', LENGTH, 'upstream-silent'],
    ['chunks, ended', ends(CHUNK), 'upstream-cut'],
    ['chunks, reset', resetsAfter(CHUNK), 'upstream-cut'],
    ['chunks, silence', CHUNK, 'upstream-silent'],
    ['a chunk that is none', `${CHUNK}ZZ\r\n`, 'upstream-malformed'],
    ['a chunk longer than it says', `${CHUNK}2\r\nhalf\r\n`, 'upstream-malformed'],
    ['half a chunk', ends(`${CHUNK}8\r\nhal`), 'upstream-cut'],
    ['no last chunk’s end', ends(`${CHUNK}0\r\n`), 'upstream-cut'],
    ['framing in a trailer', `${CHUNK}0\r\nContent-Length: 5\r\n\r\n`, 'upstream-malformed'],
    ['endless trailers', `${CHUNK}0\r\n${`X: ${'a'.repeat(1000)}\r\n`.repeat(100)}`, 'upstream-malformed'],
    ['to the close, reset', resetsAfter(CLOSE), 'upstream-cut'],
    ['to the close, silence', CLOSE, 'upstream-silent'],
  ];
  // Each has a partner of its own, so that those that wait for a clock wait together.
  await Promise.all(
    ['1.1', '1.0'].flatMap((version) =>
      broken.map(async ([name, script, code]) => {
        const lab = await startRawLab(t);
        lab.script = script;
        const { heard, how, line } = await askRawPartner(t, lab, { version });
        t.match(heard, /^HTTP\/1\.1 200 OK\r\n[\s\S]*half/, `${name} for HTTP/${version}: it had begun`);
        t.notOk(heard.endsWith('\r\n0\r\n\r\n'), `${name} for HTTP/${version}: no last chunk`);
        // Many clients take the end of the connection for the end of the content, whatever its length was to be.
        t.equal(how, 'reset', `${name} for HTTP/${version}: no clean end`);
        t.match(line, { code, status: 200, msg: `failed: ${code}` });
        await stillServes(t, lab);
      }),
    ),
  );
});

t.test('no answer at all', async (t) => {
  const silent: [name: string, script: Script, code: FaultCode][] = [
    ['ended', ends(''), 'upstream-cut'],
    ['reset', (wire) => wire.socket.resetAndDestroy(), 'upstream-cut'],
    ['cut in the head', ends('HTTP/1.1 200 OK\r\nX: y'), 'upstream-cut'],
    ['silence', () => {}, 'upstream-silent'],
    ['silence in the head', 'HTTP/1.1 200 OK\r\nX: y\r\n', 'upstream-silent'],
    ['silence after 1xx', 'HTTP/1.1 103 Early Hints\r\n\r\n', 'upstream-silent'],
    [
      'a status line without end',
      (wire) => {
        const more = (): void => {
          if (!wire.socket.destroyed) setImmediate(() => wire.socket.write('a', more));
        };
        wire.socket.write('HTTP/1.1 200 ', more);
      },
      'upstream-silent',
    ],
  ];
  await Promise.all(
    silent.map(async ([name, script, code]) => {
      const own = await startRawLab(t);
      own.script = script;
      const { heard, line } = await askRawPartner(t, own);
      const { status, proxyError } = FAULTS[code];
      t.match(lastOf(heard), new RegExp(`^HTTP/1\\.1 ${status} Upstream failed: ${code}\r\n[\\s\\S]*error=${proxyError};`), name);
      t.match(line, { code, status });
      await stillServes(t, own);
    }),
  );
});

t.test('a partner that does not take the request body', async (t) => {
  const lab = await startRawLab(t);
  lab.script = (wire) => {
    wire.socket.pause();
  };
  const wire = await openWire(t, lab.port);
  wire.send(`POST http://${lab.partner}/x HTTP/1.1\r\nHost: ${lab.partner}\r\nConnection: close\r\nContent-Length: 100000000\r\n\r\n`);
  const more = (): void => {
    if (wire.socket.writable) wire.socket.write(Buffer.alloc(65_536), more);
  };
  more();
  t.match(await wire.until('\r\n\r\n'), /^HTTP\/1\.1 504 Upstream failed: upstream-silent\r\n/);
  t.match(await lab.logged((line) => line['destination'] === 'raw'), { code: 'upstream-silent' });
  await stillServes(t, lab);
});

t.test('a partner that answers before it has the request', async (t) => {
  const lab = await startRawLab(t);
  // Early and whole: the client gets it, and the connection, on which a body is under way, is not kept.
  lab.script = 'HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno';
  for (let i = 0; i < 2; i += 1) {
    const wire = await openWire(t, lab.port);
    wire.send(`POST http://${lab.partner}/x HTTP/1.1\r\nHost: ${lab.partner}\r\nContent-Length: 10\r\n\r\nhalf`);
    t.match(await wire.until('no'), /^HTTP\/1\.1 413 Too Large\r\n/);
    wire.socket.destroy();
  }
  t.equal(lab.accepted.length, 2);
  await stillServes(t, lab);
});

t.test('bytes on an idle connection never become the next response', async (t) => {
  const lab = await startRawLab(t);
  for (const stray of ['HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison', 'poison', '\0', 'H']) {
    lab.script = OK;
    t.match((await askRawPartner(t, lab)).heard, /ok$/);
    const idle = lab.accepted.at(-1);
    const before = idle?.heard;
    idle?.send(stray);
    const { heard } = await askRawPartner(t, lab);
    t.match(heard, /^HTTP\/1\.1 200 OK\r\n[\s\S]*ok$/, JSON.stringify(stray));
    t.notMatch(heard, 'poison');
    t.equal((await idle?.ended)?.heard, before, 'the connection was given up');
  }
  // A line end is no message: it is skipped, as servers have always sent one too many.
  lab.accepted.at(-1)?.send('\r\n');
  t.match((await askRawPartner(t, lab)).heard, /^HTTP\/1\.1 200 OK\r\n[\s\S]*ok$/);
});

t.test('a second response behind the first answers no request, however soon the next one comes', async (t) => {
  const lab = await startRawLab(t);
  let count = 0;
  lab.script = (wire) => {
    count += 1;
    wire.send(`HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nfor ${String(count).padStart(2, '0')}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison`);
  };
  const wire = await openWire(t, lab.port);
  const request = `GET http://${lab.partner}/x HTTP/1.1\r\nHost: ${lab.partner}\r\n\r\n`;
  wire.send(request.repeat(20) + request.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'));
  const { heard } = await wire.ended;
  t.equal(heard.match(/for \d\d/g)?.length, 21);
  t.notMatch(heard, 'poison');
});

t.test('nor, in a TLS record of its own, that of a request which waits for the connection', async (t) => {
  const { certPem: cert, keyPem: key } = await labCertificates();
  let count = 0;
  const server = createTlsServer({ cert, key }, (socket) => {
    socket.on('error', () => {}).on('data', () => {
      count += 1;
      const begin = `HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX: `;
      const end = `\r\n\r\nfor ${String(count).padStart(2, '0')}`;
      // It fills a record, so that what follows is in another, and both are read at once.
      socket.write(`${begin}${'x'.repeat(16_384 - begin.length - end.length)}${end}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison`);
    });
  });
  const port = await listen(t, server);
  const lab = await startLab(t, {
    configure: (draft) => {
      Object.assign(draft.destinations.eco, { ports: [port], gateway: { prefix: '/eco', url: `https://${ECO}:${port}` } });
      Object.assign(draft.limits, { upstreamConnections: 1 });
    },
  });
  const clients = await Promise.all(Array.from({ length: 6 }, () => openWire(t, lab.port)));
  for (const client of clients) client.send('GET /eco/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  const heard = await Promise.all(clients.map(async (client) => (await client.ended).heard.slice(-6)));
  t.equal(new Set(heard).size, 6);
  for (const answer of heard) t.match(answer, /^for \d\d$/);
});

t.test('nor, if it came before the request was sent, that of a request which the same turn has read first', async (t) => {
  for (const [method, answer] of [
    ['GET', /^HTTP\/1\.1 200 OK\r\n[^]*ok$/],
    ['POST', /^HTTP\/1\.1 502 Upstream failed: upstream-malformed\r\n[^]*"the upstream sent an answer before it had the request"/],
  ] as const) {
    const lab = await startRawLab(t);
    lab.script = OK;
    const request = `GET http://${lab.partner}/x HTTP/1.1\r\nHost: ${lab.partner}\r\nContent-Length: 0\r\n\r\n`;
    const wire = await openWire(t, lab.port);
    wire.send(request);
    await wire.until(/ok$/);
    // What must not be sent twice takes a connection that has rested.
    await delay(20);
    for (let turns = 0; turns < 20; turns += 1) await nextTurn();
    // The client's bytes first: the system reports both together, in this order.
    wire.send(request.replace('GET', method));
    lab.accepted[0]?.send(OK.replace('ok', 'no'));
    t.match(lastOf(await wire.until(/(?:ok[^]*ok|no|})\s*$/)), answer);
    t.equal(lab.accepted.length, method === 'GET' ? 2 : 1, 'what may be sent again is, on another connection');
  }
});

t.test('an upgrade that is answered as a request leaves no socket in tunnel mode', async (t) => {
  const lab = await startRawLab(t);
  const fields = 'Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n';
  const upgrade = async (script: Script): Promise<string> => {
    lab.script = script;
    const wire = await openWire(t, lab.port);
    wire.send(`GET http://${lab.partner}/ws HTTP/1.1\r\nHost: ${lab.partner}\r\nConnection: Upgrade\r\n${fields}\r\nbytes that would be frames`);
    return (await wire.ended).heard;
  };
  t.match(await upgrade('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'), /^HTTP\/1\.1 200 OK\r\n[\s\S]*ok$/);
  t.match(await upgrade('HTTP/1.1 426 Upgrade Required\r\nUpgrade: foo\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n'), /^HTTP\/1\.1 426 Upgrade Required\r\n(?![\s\S]*Upgrade: foo)/);
  t.match(await upgrade('HTTP/1.1 101 Switching Protocols\r\n\r\n'), /^HTTP\/1\.1 502 Upstream failed: upstream-malformed\r\n/, '101 without Upgrade');
  t.match(await upgrade('HTTP/1.1 000 No\r\n\r\n'), /^HTTP\/1\.1 502 /);
  for (const { heard } of lab.accepted) t.notMatch(heard, 'bytes that would be frames', 'the early bytes never left');
  lab.script = OK;
  t.match((await askRawPartner(t, lab)).heard, /ok$/, 'the next request gets its own answer');
  await stillServes(t, lab);
});

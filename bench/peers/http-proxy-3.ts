/** http-proxy-3 before one upstream, with kept connections and an access log. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { Agent } from 'node:https';
import { CA, logLine, ORIGIN, PORT } from './start.ts';

interface Proxy {
  web(req: IncomingMessage, res: ServerResponse, options: object, failed: (error: Error) => void): void;
}

// The package is installed for the benchmark only: its types are not there when the project is checked.
const PACKAGE = 'http-proxy-3' as string;
const { createProxyServer } = (await import(PACKAGE)) as { createProxyServer: (options: object) => Proxy };

const proxy = createProxyServer({ target: ORIGIN, changeOrigin: true, secure: true, agent: new Agent({ keepAlive: true, maxSockets: 64, ca: CA }) });
createServer({ keepAliveTimeout: 60_000 }, (req, res) => {
  const started = performance.now();
  const target = req.url ?? '';
  res.on('close', () => {
    logLine(req.socket.remoteAddress ?? '', req.method ?? '', target, res.statusCode, Number(res.getHeader('content-length')), started);
  });
  req.url = target.replace(/^\/eco(?=\/)/, '');
  proxy.web(req, res, {}, (error) => {
    process.stderr.write(`${error.stack}\n`);
    res.writeHead(502).end();
  });
}).listen(PORT, '127.0.0.1');

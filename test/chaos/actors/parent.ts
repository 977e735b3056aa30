/** A parent proxy: takes CONNECT for any target, by a file of hosts. Run: node parent.ts HOST=ADDRESS… */
import { createServer, type IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';

const hosts = new Map(process.argv.slice(2).map((entry) => entry.split('=') as [string, string]));
const server = createServer((_request, response) => void response.writeHead(405).end());
server.on('connect', (request: IncomingMessage, socket: Socket, head: Buffer) => {
  const [host = '', port = ''] = (request.url ?? '').split(':');
  const upstream = connect(Number(port), hosts.get(host) ?? host);
  const end = (): void => {
    socket.destroy();
    upstream.destroy();
  };
  for (const side of [socket, upstream]) side.on('error', end).on('close', end);
  upstream.once('connect', () => {
    socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
    upstream.write(head);
    socket.pipe(upstream).pipe(socket);
  });
});
server.listen(3128, '0.0.0.0', () => process.stdout.write('ready\n'));

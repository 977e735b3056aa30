/** A DNS server over UDP and TCP for tests: A and AAAA, answered by a function that may change its mind, lie or keep silent. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';

export interface DnsQuestion {
  /** As asked; c-ares keeps the case it was given. */
  readonly name: string;
  readonly type: 'A' | 'AAAA' | 'other';
  readonly over: 'udp' | 'tcp';
}

/** `null`: no such record (NODATA). `silent`: no answer at all. TTL in seconds. */
export type DnsReply =
  | { readonly addresses: readonly string[]; readonly ttl: number; readonly cnames?: readonly string[] }
  | keyof typeof RCODES
  /** Nothing; the TC bit alone; an id that was not asked; no bytes; half a head; a pointer to nowhere. */
  | 'silent'
  | 'truncated'
  | 'wrong-id'
  | 'empty'
  | 'short'
  | 'garbage'
  | null;

export interface DnsServer {
  /** `address:port`, as dns.servers takes it. */
  readonly address: string;
  readonly questions: readonly DnsQuestion[];
  close(): Promise<void>;
}

const RCODES = { FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 } as const;
const TYPES: Record<number, DnsQuestion['type']> = { 1: 'A', 28: 'AAAA' };

/** Port 0 lets the system choose. @param thinks how long it takes to answer over UDP, ms */
export async function startDnsServer(answer: (question: DnsQuestion) => DnsReply, { host, port } = { host: '127.0.0.1', port: 0 }, thinks = 0): Promise<DnsServer> {
  const socket = createSocket('udp4');
  const questions: DnsQuestion[] = [];
  const respond = (message: Buffer, over: DnsQuestion['over']): Buffer | null => {
    const { question, end } = readQuestion(message, over);
    questions.push(question);
    const reply = answer(question);
    return reply === 'silent' ? null : writeReply(message.subarray(0, end), reply);
  };
  socket.on('message', (message, peer) => {
    const reply = respond(message, 'udp');
    if (reply === null) return;
    const send = (): void => {
      socket.send(reply, peer.port, peer.address);
    };
    if (thinks === 0) send();
    else setTimeout(send, thinks);
  });
  // RFC 1035 §4.2.2: two bytes of length before each message.
  const tcp = createServer((connection) => {
    let rest = Buffer.alloc(0);
    connection.on('error', () => {});
    connection.on('data', (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk]);
      while (rest.length >= 2 && rest.length >= 2 + rest.readUInt16BE(0)) {
        const message = rest.subarray(2, 2 + rest.readUInt16BE(0));
        rest = rest.subarray(2 + message.length);
        const reply = respond(message, 'tcp');
        if (reply === null) continue;
        const length = Buffer.alloc(2);
        length.writeUInt16BE(reply.length);
        connection.write(Buffer.concat([length, reply]));
      }
    });
  });
  tcp.listen(port, host);
  await once(tcp, 'listening');
  // Far fewer UDP ports are in use than TCP ports, so the number is chosen there.
  const bound = (tcp.address() as AddressInfo).port;
  socket.bind(bound, host);
  await once(socket, 'listening');
  return {
    address: `${host}:${bound}`,
    questions,
    close: async () => {
      socket.close();
      tcp.close();
      await Promise.all([once(socket, 'close'), once(tcp, 'close')]);
    },
  };
}

/** RFC 1035 §4.1.2: labels, each with its length before it, then type and class. */
function readQuestion(message: Buffer, over: DnsQuestion['over']): { question: DnsQuestion; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = message.readUInt8(at); length !== 0; length = message.readUInt8(at)) {
    labels.push(message.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  const type = TYPES[message.readUInt16BE(at + 1)] ?? 'other';
  return { question: { name: labels.join('.'), type, over }, end: at + 5 };
}

/** The question is sent back, followed by the chain of names and one record per address at its end. */
function writeReply(asked: Buffer, reply: Exclude<DnsReply, 'silent'>): Buffer {
  if (reply === 'empty') return Buffer.alloc(0);
  if (reply === 'short') return asked.subarray(0, 6);
  const { addresses, cnames = [], ttl } = reply === null || typeof reply === 'string' ? { addresses: [], ttl: 0 } : reply;
  const names = [ASKED, ...cnames.map(nameOf)];
  const records = [
    ...cnames.map((name, index) => record(names[index] ?? ASKED, 5, ttl, nameOf(name))),
    ...addresses.map((address) => (address.includes(':') ? record(names.at(-1) ?? ASKED, 28, ttl, ipv6(address)) : record(names.at(-1) ?? ASKED, 1, ttl, Buffer.from(address.split('.').map(Number))))),
    ...(reply === 'garbage' ? [Buffer.from([0xc0, 0xff, 0, 1])] : []),
  ];
  const head = Buffer.from(asked.subarray(0, 12));
  const rcode = typeof reply === 'string' && reply in RCODES ? RCODES[reply as keyof typeof RCODES] : 0;
  if (reply === 'wrong-id') head.writeUInt16BE(head.readUInt16BE(0) ^ 0x5555, 0);
  head.writeUInt16BE(0x8580 | (reply === 'truncated' ? 0x0200 : 0) | rcode, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(records.length, 6);
  head.writeUInt16BE(0, 8);
  head.writeUInt16BE(0, 10);
  return Buffer.concat([head, asked.subarray(12), ...records]);
}

/** §4.1.4: a pointer to the question. */
const ASKED = Buffer.from([0xc0, 0x0c]);

function nameOf(name: string): Buffer {
  return Buffer.concat([...name.split('.').map((label) => Buffer.from([label.length, ...Buffer.from(label)])), Buffer.from([0])]);
}

function record(owner: Buffer, type: number, ttl: number, data: Buffer): Buffer {
  const head = Buffer.alloc(10);
  head.writeUInt16BE(type, 0);
  head.writeUInt16BE(1, 2);
  head.writeUInt32BE(ttl, 4);
  head.writeUInt16BE(data.length, 8);
  return Buffer.concat([owner, head, data]);
}

function ipv6(address: string): Buffer {
  const [left = '', right = ''] = address.split('::');
  const groups = (text: string): number[] => (text === '' ? [] : text.split(':').map((group) => parseInt(group, 16)));
  const before = groups(left);
  const after = groups(right);
  const all = address.includes('::') ? [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after] : before;
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}

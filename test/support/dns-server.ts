/** A DNS server over UDP for tests: A and AAAA, answered by a function that may change its mind or keep silent. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';

export interface DnsQuestion {
  /** As asked; c-ares keeps the case it was given. */
  readonly name: string;
  readonly type: 'A' | 'AAAA' | 'other';
}

/** `null`: no such record (NODATA). `silent`: no answer at all. TTL in seconds. */
export type DnsReply =
  | { readonly addresses: readonly string[]; readonly ttl: number }
  | 'NXDOMAIN'
  | 'SERVFAIL'
  | 'silent'
  | null;

export interface DnsServer {
  /** `address:port`, as dns.servers takes it. */
  readonly address: string;
  readonly questions: readonly DnsQuestion[];
  close(): Promise<void>;
}

const RCODES = { SERVFAIL: 2, NXDOMAIN: 3 } as const;
const TYPES: Record<number, DnsQuestion['type']> = { 1: 'A', 28: 'AAAA' };

/** Port 0 lets the system choose. */
export async function startDnsServer(answer: (question: DnsQuestion) => DnsReply, { host, port } = { host: '127.0.0.1', port: 0 }): Promise<DnsServer> {
  const socket = createSocket('udp4');
  const questions: DnsQuestion[] = [];
  socket.on('message', (message, peer) => {
    const { question, end } = readQuestion(message);
    questions.push(question);
    const reply = answer(question);
    if (reply !== 'silent') socket.send(writeReply(message.subarray(0, end), reply), peer.port, peer.address);
  });
  socket.bind(port, host);
  await once(socket, 'listening');
  return {
    address: `${host}:${socket.address().port}`,
    questions,
    close: async () => {
      socket.close();
      await once(socket, 'close');
    },
  };
}

/** RFC 1035 §4.1.2: labels, each with its length before it, then type and class. */
function readQuestion(message: Buffer): { question: DnsQuestion; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = message.readUInt8(at); length !== 0; length = message.readUInt8(at)) {
    labels.push(message.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  const type = TYPES[message.readUInt16BE(at + 1)] ?? 'other';
  return { question: { name: labels.join('.'), type }, end: at + 5 };
}

/** The question is sent back, followed by one record per address; every name is a pointer to it (§4.1.4). */
function writeReply(asked: Buffer, reply: Exclude<DnsReply, 'silent'>): Buffer {
  const records = reply === null || typeof reply === 'string' ? [] : reply.addresses.map((address) => record(address, reply.ttl));
  const head = Buffer.from(asked.subarray(0, 12));
  const rcode = typeof reply === 'string' ? RCODES[reply] : 0;
  head.writeUInt16BE(0x8580 | rcode, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(records.length, 6);
  head.writeUInt16BE(0, 8);
  head.writeUInt16BE(0, 10);
  return Buffer.concat([head, asked.subarray(12), ...records]);
}

function record(address: string, ttl: number): Buffer {
  const data = address.includes(':') ? ipv6(address) : Buffer.from(address.split('.').map(Number));
  const head = Buffer.alloc(12);
  head.writeUInt16BE(0xc00c, 0);
  head.writeUInt16BE(data.length === 16 ? 28 : 1, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt32BE(ttl, 6);
  head.writeUInt16BE(data.length, 10);
  return Buffer.concat([head, data]);
}

function ipv6(address: string): Buffer {
  const [left = '', right = ''] = address.split('::');
  const groups = (text: string): number[] => (text === '' ? [] : text.split(':').map((group) => parseInt(group, 16)));
  const before = groups(left);
  const after = groups(right);
  const all = address.includes('::') ? [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after] : before;
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}

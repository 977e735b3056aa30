/** ClientHellos for tests: built byte by byte, or caught from real programs, and cut into records and chunks. */
import { execFile } from 'node:child_process';
import { createServer, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions } from 'node:tls';
import type { Test } from 'tap';
import { type ClientHelloOptions, ClientHelloReader, type HelloResult } from '../../src/targets/client-hello.ts';
import { listen } from './listen.ts';

export type Extension = readonly [type: number, data: Buffer];

export interface HelloParts {
  readonly version?: number;
  readonly session?: Buffer;
  readonly suites?: Buffer;
  readonly compression?: Buffer;
  /** Null: the hello ends before the length of its extensions. */
  readonly extensions?: readonly Extension[] | null;
  /** Stands behind everything. */
  readonly rest?: Buffer;
}

export function vector(width: 1 | 2 | 3, data: Buffer): Buffer {
  const length = Buffer.alloc(width);
  length.writeUIntBE(data.length, 0, width);
  return Buffer.concat([length, data]);
}

export const serverName = (...names: readonly (string | Buffer)[]): Extension => [
  0,
  vector(2, Buffer.concat(names.map((name) => Buffer.concat([Buffer.of(0), vector(2, typeof name === 'string' ? Buffer.from(name, 'latin1') : name)])))),
];
export const alpn = (...protocols: readonly string[]): Extension => [16, vector(2, Buffer.concat(protocols.map((protocol) => vector(1, Buffer.from(protocol, 'latin1')))))];
export const ech: Extension = [0xfe0d, Buffer.alloc(20)];
export const grease = (type: number): Extension => [type, Buffer.of(0)];
export const padding = (length: number): Extension => [21, Buffer.alloc(length)];

/** A handshake message. */
export function message({ version = 0x0303, session = Buffer.alloc(32, 7), suites = Buffer.of(0x0a, 0x0a, 0x13, 0x01), compression = Buffer.of(0), extensions = [], rest = Buffer.alloc(0) }: HelloParts = {}): Buffer {
  const head = Buffer.alloc(34, 0x5a);
  head.writeUInt16BE(version, 0);
  const list = extensions === null ? [] : [vector(2, Buffer.concat(extensions.map(([type, data]) => Buffer.concat([Buffer.of(type >> 8, type & 0xff), vector(2, data)]))))];
  const body = Buffer.concat([head, vector(1, session), vector(2, suites), vector(1, compression), ...list, rest]);
  return Buffer.concat([Buffer.of(1), vector(3, body)]);
}

/** Cuts a message into records of these lengths, the last length for all that is left. */
export function records(handshake: Buffer, lengths: readonly number[] = [16384], version = 0x0301): Buffer {
  const cut = (i: number): number => lengths[Math.min(i, lengths.length - 1)] ?? 16384;
  let count = 0;
  for (let start = 0; start < handshake.length; count += 1) start += cut(count);
  const out = Buffer.allocUnsafe(handshake.length + 5 * count);
  for (let i = 0, start = 0, at = 0; i < count; i += 1) {
    const end = Math.min(handshake.length, start + cut(i));
    out[at] = 22;
    out.writeUInt16BE(version, at + 1);
    out.writeUInt16BE(end - start, at + 3);
    at += 5 + handshake.copy(out, at + 5, start, end);
    start = end;
  }
  return out;
}

export const hello = (parts: HelloParts = {}, lengths?: readonly number[]): Buffer => records(message(parts), lengths);

/** The handshake bytes of a stream of records. */
export function unwrap(stream: Buffer): Buffer {
  const out: Buffer[] = [];
  for (let start = 0; start + 5 <= stream.length && stream[start] === 22; ) {
    const end = start + 5 + stream.readUInt16BE(start + 3);
    out.push(stream.subarray(start + 5, end));
    start = end;
  }
  return Buffer.concat(out);
}

/** Reads a stream in chunks of these lengths (the last one again and again); 'more' when it ends without a result. */
export function readHello(stream: Buffer, lengths: readonly number[] = [stream.length], options: ClientHelloOptions = {}): 'more' | HelloResult {
  const reader = new ClientHelloReader(options);
  let result: 'more' | HelloResult = 'more';
  for (let start = 0, i = 0; start < stream.length && result === 'more'; i += 1) {
    const length = Math.max(1, lengths[Math.min(i, lengths.length - 1)] ?? stream.length);
    result = reader.push(stream.subarray(start, start + length));
    start += length;
  }
  return result;
}

/** Catches what a program sends first to a port that never answers it. `start` begins it and may tell of its end. */
async function capture(t: Test, start: (port: number) => () => void): Promise<Buffer> {
  const caught = Promise.withResolvers<Buffer>();
  const server = createServer((socket: Socket) => {
    const reader = new ClientHelloReader();
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      if (reader.push(chunk) === 'more') return;
      caught.resolve(Buffer.concat(chunks));
      socket.destroy();
    });
  });
  const stop = start(await listen(t, server));
  const stream = await caught.promise;
  stop();
  return stream;
}

/** The first flight of Node's own client. */
export function captureNode(t: Test, options: ConnectionOptions, fragment: number | null = null): Promise<Buffer> {
  return capture(t, (port) => {
    const socket = connectTls({ ...options, host: '127.0.0.1', port, rejectUnauthorized: false });
    if (fragment !== null) socket.setMaxSendFragment(fragment);
    // It is cut off as soon as it has said hello.
    socket.on('error', () => {});
    return () => socket.destroy();
  });
}

/** The first flight of a program; null when it is not installed here. */
export async function captureProgram(t: Test, program: string, args: (port: number) => readonly string[]): Promise<Buffer | null> {
  let missing: () => void = () => {};
  const absent = new Promise<null>((resolve) => {
    missing = () => {
      resolve(null);
    };
  });
  const caught = capture(t, (port) => {
    const child = execFile(program, args(port), { timeout: 10_000 });
    child.stdin?.end();
    child.on('error', missing);
    return () => child.kill();
  });
  return Promise.race([caught, absent]);
}

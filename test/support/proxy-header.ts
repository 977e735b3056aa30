/** Writes PROXY protocol headers, right ones and wrong ones. */

export const V2_SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');

export const LOCAL = 0x20;
export const PROXY = 0x21;
export const TCP4 = 0x11;
export const TCP6 = 0x21;

/** A line of version 1: what stands between `PROXY ` and CR LF. */
export function line(text: string): Buffer {
  return Buffer.from(`PROXY ${text}\r\n`, 'latin1');
}

/** The address block of version 2 for TCP over IPv4; the source alone matters. */
export function block4(source: string, destination = '10.0.0.1', ports = '1f90c383'): Buffer {
  return Buffer.concat([Buffer.from([...source.split('.'), ...destination.split('.')].map(Number)), Buffer.from(ports, 'hex')]);
}

/** The address block for TCP over IPv6; both addresses as 32 hexadecimal digits. */
export function block6(source: string, destination = '20010db8000000000000000000000001', ports = '1f90c383'): Buffer {
  return Buffer.from(source + destination + ports, 'hex');
}

export function tlv(type: number, value: Buffer): Buffer {
  const head = Buffer.alloc(3);
  head[0] = type;
  head.writeUInt16BE(value.length, 1);
  return Buffer.concat([head, value]);
}

/** Version 2. `length` is the truth unless it is given. */
export function binary(versionAndCommand: number, family: number, body: Buffer, length = body.length): Buffer {
  const head = Buffer.alloc(16);
  V2_SIGNATURE.copy(head);
  head[12] = versionAndCommand;
  head[13] = family;
  head.writeUInt16BE(length, 14);
  return Buffer.concat([head, body]);
}

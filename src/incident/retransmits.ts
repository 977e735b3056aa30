/** TCP retransmissions of this host or pod: the only sign of lost packets that does not depend on a partner. Linux only. */
import { readFileSync } from 'node:fs';

/** Counted since the system began. */
export interface SentSegments {
  readonly sent: number;
  /** Retransmissions on open connections. */
  readonly again: number;
  /** Retransmitted first packets of connections. */
  readonly synAgain: number;
}

/** Null where the system does not report them. */
export function readSentSegments(read: (file: string) => string = (file) => readFileSync(file, 'utf8')): SentSegments | null {
  try {
    const tcp = readCounters(read('/proc/net/snmp'), 'Tcp');
    const more = readCounters(read('/proc/net/netstat'), 'TcpExt');
    const [sent, again, synAgain] = [tcp.get('OutSegs'), tcp.get('RetransSegs'), more.get('TCPSynRetrans')];
    return sent === undefined || again === undefined || synAgain === undefined
      ? null
      : { sent, again: Math.max(0, again - synAgain), synAgain };
  } catch {
    // Another system, or one that hides the counters from this process.
    return null;
  }
}

/** What was sent between two readings; null: it is not known. */
export function sentBetween(before: SentSegments | null, after: SentSegments | null): SentSegments | null {
  if (before === null || after === null) return null;
  return { sent: after.sent - before.sent, again: after.again - before.again, synAgain: after.synAgain - before.synAgain };
}

/** A line with names, then one with numbers. */
function readCounters(text: string, prefix: string): Map<string, number> {
  const [names = [], values = []] = text
    .split('\n')
    .filter((line) => line.startsWith(`${prefix}: `))
    .map((line) => line.split(' ').slice(1));
  return new Map(names.map((name, index) => [name, Number(values[index])]));
}

/** `eco-egress echo`: returns to callers their source address, until a signal ends it. */
import { readCidr, readListenAddress } from '../config/read-address.ts';
import { LogSink } from '../telemetry/log-sink.ts';
import { type Echo, type EchoServerOptions, openEcho } from '../source-ip/echo-server.ts';
import { formatAuthority } from '../targets/host.ts';
import { type CommandIo, EXIT, misuse, untilSignal } from './io.ts';
import { explainStart } from './explain.ts';

/** Arguments of `echo`, as written. */
export interface EchoOptions {
  readonly listen: string;
  readonly trustedPeer?: readonly string[];
  readonly proxyProtocol?: boolean;
  readonly believe?: string;
}

/** Resolves to 0 once a signal has ended it, to 1 when it cannot listen, to 2 for wrong arguments. */
export async function runEcho(options: EchoOptions, io: CommandIo): Promise<number> {
  const settings = readEchoOptions(options);
  if (typeof settings === 'string') return misuse(io, settings);
  const stopped = untilSignal();
  let echo: Echo;
  try {
    echo = await openEcho(settings);
  } catch (error) {
    io.stderr.write(`eco-egress echo could not start: ${explainStart(error)}\n`);
    return EXIT.failed;
  }
  const log = new LogSink(io.stdout);
  log.write(logLine('eco-egress echo is listening', { ...settings, listen: formatAuthority(echo.address.address, echo.address.port) }));
  log.flush();
  await stopped;
  await echo.close();
  log.write(logLine('eco-egress echo has ended', {}));
  await log.close();
  return EXIT.ok;
}

/** @returns what is wrong with the arguments */
function readEchoOptions({ listen, trustedPeer = [], proxyProtocol = false, believe }: EchoOptions): EchoServerOptions | string {
  const address = readListenAddress(listen);
  if ('problem' in address) return `--listen: ${address.problem} ${address.instead}`;
  const trustedPeers: string[] = [];
  for (const text of trustedPeer.flatMap((given) => given.split(','))) {
    const range = readCidr(text.trim());
    if ('problem' in range) return `--trusted-peer: ${range.problem} ${range.instead}`;
    trustedPeers.push(range.value);
  }
  if (believe !== undefined && believe !== 'x-forwarded-for') return '--believe takes x-forwarded-for.';
  const trusts = proxyProtocol || believe !== undefined;
  if (trusts && trustedPeers.length === 0) return 'No peer is trusted: name the load balancers with --trusted-peer, such as 10.0.0.0/8.';
  if (!trusts && trustedPeers.length > 0) return '--trusted-peer has no effect alone: add --proxy-protocol or --believe x-forwarded-for.';
  return { listen: address.value, trustedPeers, proxyProtocol, believe: believe === undefined ? [] : [believe] };
}

/** As the proxy's own log. */
function logLine(msg: string, fields: object): string {
  return `${JSON.stringify({ level: 'info', time: new Date().toISOString(), ...fields, msg })}\n`;
}

/** `eco-egress demo`: starts the demo, prints what to paste, and ends on Ctrl-C. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { ListenAddress } from '../config/config.ts';
import { describeFileError } from '../config/named-files.ts';
import { readListenAddress } from '../config/read-address.ts';
import { createAuthority, writeCa } from '../demo/authority.ts';
import { describeCommands, type ProxyEnvironment } from '../demo/commands.ts';
import { type Demo, formatAddress, startDemo } from '../demo/demo.ts';
import { createPartner } from '../demo/partner.ts';
import { HeldOutput, openLogOutput } from '../telemetry/log-output.ts';
import { explainStart } from './explain.ts';
import { type CommandIo, EXIT, untilSignal } from './io.ts';

/** Arguments of `demo`, as `addDemoOptions` parses them. */
export interface DemoOptions {
  readonly portHttp: number;
  readonly portProxy: number;
  readonly portTls: number;
  readonly portAdmin: number;
  readonly json?: boolean;
  readonly standInOnly?: boolean;
  /** Directory for ca.pem; the rest is for `standInOnly` too. */
  readonly certificates: string;
  readonly listenHttps: ListenAddress;
  readonly listenHttp: ListenAddress;
  readonly name: string;
}

/** Declares the options that `runDemo` takes. */
export function addDemoOptions(command: Command): Command {
  const listen = (flags: string, port: number) =>
    new Option(flags, 'with --stand-in-only').argParser(parseListen).default({ host: '0.0.0.0', port }, `0.0.0.0:${port}`);
  return command
    .option('--port-http <port>', 'port for the gateway and steered requests; a free one if taken', parsePortOption, 8080)
    .option('--port-proxy <port>', 'port for HTTPS_PROXY; a free one if taken', parsePortOption, 3128)
    .option('--port-tls <port>', 'port for TLS steered by its server name; a free one if taken', parsePortOption, 8443)
    .option('--port-admin <port>', 'port for metrics and health; a free one if taken', parsePortOption, 9090)
    .option('--json', 'print the addresses and commands as one line of JSON')
    .option('--stand-in-only', 'serve only the stand-in ECO SIT, for docker-compose.yml')
    .option('--certificates <directory>', 'with --stand-in-only: where to write ca.pem', '.')
    .addOption(listen('--listen-https <address:port>', 443))
    .addOption(listen('--listen-http <address:port>', 80))
    .option('--name <host>', 'with --stand-in-only: the host its certificate is for', 'eco-sit.telus.internal');
}

/** Resolves to the exit code once a signal has ended it; rejects when it cannot start. */
export async function runDemo(options: DemoOptions, io: CommandIo): Promise<number> {
  const stopped = untilSignal();
  if (options.standInOnly === true) return serveStandIn(options, io, stopped);
  await serveDemo(options, io, stopped);
  return EXIT.ok;
}

async function serveDemo(options: DemoOptions, io: CommandIo, stopped: Promise<void>): Promise<void> {
  const ports = { http: options.portHttp, proxy: options.portProxy, tls: options.portTls, admin: options.portAdmin };
  const log = new HeldOutput(openLogOutput(io.stdout));
  const demo = await startDemo(ports, log);
  // The result is ignored: a reader that has gone may come back.
  io.stdout.write(options.json === true ? formatJson(demo, io.env) : formatText(demo, io.env), () => {
    log.release();
  });
  await stopped;
  await demo.close();
}

async function serveStandIn(options: DemoOptions, io: CommandIo, stopped: Promise<void>): Promise<number> {
  const { certificates, name, listenHttps: https, listenHttp: http } = options;
  const authority = await createAuthority('eco-egress demo authority');
  const partner = createPartner({ authority, name, https, http });
  const fail = (problem: string): typeof EXIT.failed => {
    io.stderr.write(`eco-egress demo could not start: ${problem}\n`);
    return EXIT.failed;
  };
  const caFile = await writeCa(certificates, authority.certPem).catch((error: unknown) =>
    fail(`${certificates} cannot be written: ${describeFileError(error)}. Name another directory with --certificates.`),
  );
  if (caFile === EXIT.failed) return caFile;
  const addresses = await partner.start().catch((error: unknown) => fail(explainStart(error)));
  if (addresses === EXIT.failed) return addresses;
  io.stdout.write(
    `Stand-in ${name} at https ${formatAddress(addresses.https)} and http ${formatAddress(addresses.http)}; its CA is ${caFile}\n`,
  );
  await stopped;
  await partner.close();
  return EXIT.ok;
}

function formatJson(demo: Demo, env: ProxyEnvironment): string {
  return `${JSON.stringify({ ...demo.places, moved: demo.moved, commands: describeCommands(demo.places, env) })}\n`;
}

function formatText({ places, moved }: Demo, env: ProxyEnvironment): string {
  const commands = describeCommands(places, env);
  return [
    '',
    `  watch    ${places.admin}/ in a browser: the status page, live`,
    `  proxy    ${places.http} and ${places.proxy}, every form on both`,
    `  steered  ${places.tls}, raw TLS by its server name`,
    `  admin    ${places.admin}`,
    `  ECO SIT  ${places.ecoHttps} and ${places.ecoHttp}, a stand-in: only the proxy knows the name`,
    `  its CA   ${places.caFile}`,
    ...moved.map(({ from, to }) => `  port     ${from} is taken, so ${to} is used instead`),
    '',
    '  Paste into another terminal:',
    '',
    ...commands.flatMap(({ name, expect, command }) => [`# ${name}: ${expect}`, command, '']),
    '  Every request shows up below, one line each: the access log. Ctrl-C ends the demo.',
    '',
    '',
  ].join('\n');
}

function parsePortOption(text: string): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port > 65_535) throw new InvalidArgumentError('Expected a port, 0 to 65535.');
  return port;
}

function parseListen(text: string): ListenAddress {
  const read = readListenAddress(text);
  if ('problem' in read) throw new InvalidArgumentError(`${read.problem} ${read.instead}`);
  return read.value;
}

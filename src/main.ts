/**
 * The process: arguments, .env, exit codes, and one clear line for any error. The
 * commands are in cli/, each loaded only when it is used.
 */
import { enableCompileCache } from 'node:module';
import { join } from 'node:path';
import type { Command } from 'commander';
import { type CommandIo, EXIT, heedEarlySignals, openStandardOutput, readDotenv, WrongPlace } from './cli/io.ts';
import { VERSION } from './version.ts';

// Before anything larger is loaded.
heedEarlySignals(process.argv[2] === 'serve');

// Compiled code is kept beside the packages: nearly half of a start is compiling, and TypeScript is stripped first. If
// that directory is not writable, Node continues without the cache; NODE_COMPILE_CACHE names another one.
// bin/eco-egress sets it, so that this file and what it imports above are kept too.
enableCompileCache(join(import.meta.dirname, '../node_modules/.cache/eco-egress'));

const { CommanderError, program } = await import('commander');

type Run<Options> = (options: Options, io: CommandIo, ...operands: string[]) => Promise<number>;

/** Throws CommanderError for wrong arguments, and the command's own errors. */
async function runCommand(argv: readonly string[], io: CommandIo): Promise<number> {
  let exitCode: number = EXIT.usage;
  program
    .name('npx eco-egress')
    .description('Egress proxy with one address: forwards what the allowlist permits, and logs what it did.')
    .version(VERSION, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand('help [command]', 'print the help of a command')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void io.stdout.write(text),
      writeErr: (text) => void io.stderr.write(text),
      outputError: (text, write) => {
        write(
          /too many arguments for '(?:serve|check|reload|verify-ip|doctor|manifests)'/.test(text)
            ? `${text}A configuration file is named with --config FILE.\n`
            : text,
        );
      },
    })
    .showHelpAfterError('Run "npx eco-egress --help" to see the commands.')
    .addHelpText(
      'after',
      '\nExamples:\n  npx eco-egress demo\n  npx eco-egress serve --config deploy/config/egress.yaml\n\nExit codes: 0 done, 1 failed, 2 wrong arguments or configuration, 3 (reload) applied in part.\n',
    );

  const command = <Options>(name: string, summary: string, example: string, load: () => Promise<Run<Options>>) =>
    program
      .command(name)
      .description(summary)
      .showHelpAfterError(`Run "npx eco-egress ${name} --help" to see its options.`)
      .addHelpText('after', `\nExample:\n  ${example}\n`)
      .action(async (...given: [...operands: string[], options: Options, command: Command]) => {
        const run = await load();
        exitCode = await run(given.at(-2) as Options, io, ...(given.slice(0, -2).flat() as string[]));
      });
  program.hook('preAction', (_, action) => {
    refuseEmpty(action);
  });
  const configOption = ['-c, --config <file>', 'configuration file; else $ECO_EGRESS_CONFIG, else the shipped one'] as const;

  command(
    'serve',
    'Serve requests until SIGTERM or SIGINT.',
    'npx eco-egress serve --config deploy/config/egress.yaml',
    async () => (await import('./cli/serve.ts')).runServe,
  )
    .option(...configOption)
    .option('--no-warm-up', 'listen some 300 ms sooner; the first requests take longer');
  command(
    'check',
    'Validate a configuration file and show what it permits.',
    'npx eco-egress check --config deploy/config/egress.yaml',
    async () => (await import('./cli/check.ts')).runCheck,
  )
    .option(...configOption)
    .option('--settings <file>', 'variables of the configuration file, NAME=value in lines, as the Deployment gets them')
    .option('--effective', 'show each value in effect and where it came from')
    .option('--expired', 'show the rules that have ended, and those that soon will; 1 if one has ended')
    .option('--json', 'print one JSON document instead of text');
  command(
    'reload',
    'Make the proxy that runs here load its configuration file again, and show what changed.',
    'npx eco-egress reload --config deploy/config/egress.yaml',
    async () => (await import('./cli/reload.ts')).runReload,
  )
    .option(...configOption)
    .option('--admin <address:port>', 'the admin port of the proxy; else listeners.admin of the file')
    .option('--json', 'print one JSON document instead of text')
    .addHelpText(
      'after',
      '\nExit codes: 0 the file is in force, 1 it was refused or no proxy answers, 2 wrong arguments,\n3 it is in force, except for what waits for the next start.\n',
    );
  command(
    'explain',
    'Show what would happen to a request, and why, without sending it.',
    'npx eco-egress explain --client dynatrace-sit CONNECT eco-sit.telus.internal:443',
    async () => (await import('./cli/explain.ts')).runExplain,
  )
    .argument('<method>', 'CONNECT, GET and so on')
    .argument('<target>', 'host:port for CONNECT, a URL, or a path')
    .option(...configOption)
    .option('--client <who>', 'an IP address, or the name of a client; else the first client of the file')
    .option('--user <name>', 'as a user of Basic credentials')
    .option('--subject <text>', 'as the subject of a token')
    .option(
      '--san <name>',
      'as a name in a client certificate, such as DNS:pod.example; may be repeated',
      (name: string, before?: string[]) => [...(before ?? []), name],
    )
    .option('--host <authority>', 'the Host field that comes with a path')
    .option('--at <moment>', 'as if asked at this moment, such as 2027-01-01T00:00:00Z')
    .option('--no-resolve', 'do not look the name up')
    .option('--json', 'print one JSON document instead of text');
  command(
    'test',
    'Run the tests of a policy: what would become of requests, and what was expected.',
    'npx eco-egress test deploy/config',
    async () => (await import('./cli/test.ts')).runTest,
  )
    .argument('[path...]', 'files of tests, or directories with files *.test.yaml; else the working directory')
    .option('--coverage', 'show which rules, clients, destinations and hosts no test touches')
    .option('--min-coverage <percent>', 'fail if tests touch less than this')
    .option('--junit <file>', 'write the results as JUnit XML too')
    .option('--watch', 'run again whenever a file of tests or its configuration changes; Ctrl-C ends')
    .option('--tap', 'print TAP instead of text')
    .option('--json', 'print one JSON document instead of text')
    .addHelpText('after', '\nExit codes: 0 all tests pass, 1 a test fails or too little is covered, 2 a file or an argument is wrong.\n');
  command(
    'diff',
    'Show what a change of a configuration file means: requests that are newly allowed, newly denied or decided otherwise.',
    'npx eco-egress diff before.yaml deploy/config/egress.yaml',
    async () => (await import('./cli/diff.ts')).runDiff,
  )
    .argument('<old>', 'configuration file as it was')
    .argument('<new>', 'configuration file as it is to be')
    .option('--at <moment>', 'compare from this moment on, such as 2027-01-01T00:00:00Z; else from now on')
    .option('--fail-on <what>', 'widening: fail only if something is newly allowed')
    .option('--json', 'print one JSON document instead of text')
    .addHelpText('after', '\nExit codes: 0 both mean the same, 1 they do not, 2 a file or an argument is wrong.\n');
  command(
    'suggest',
    'Propose the smallest change of the configuration file that permits what was denied.',
    'npx eco-egress suggest --config deploy/config/egress.yaml access.log',
    async () => (await import('./cli/suggest.ts')).runSuggest,
  )
    .argument('[log...]', 'access logs in JSON, - for standard input; else the proxy that runs here is asked')
    .option(...configOption)
    .option('--admin <address:port>', 'the admin port of the proxy that is asked; else listeners.admin of the file')
    .option('--min-count <number>', 'propose a new host once one client has asked for it so often', '2')
    .option('--generalise', 'make one pattern of three or more names or paths side by side')
    .option('--write', 'write the changes into the file')
    .option('--json', 'print one JSON document instead of text')
    .addHelpText('after', '\nExit codes: 0 done, 1 the file cannot be changed or no proxy answers, 2 a file or an argument is wrong.\n');
  command(
    'verify-ip',
    'Ask an echo endpoint, over the same route as requests, which source address it sees.',
    'npx eco-egress verify-ip --expect 34.123.45.67 --url https://echo.example/ip',
    async () => (await import('./cli/verify-ip.ts')).runVerifyIp,
  )
    .option(...configOption)
    .option('--expect <address...>', 'right source addresses; else sourceIp.expected of the file')
    .option('--url <url>', 'an endpoint that answers with the address it sees; else sourceIp.probe.url of the file')
    .option('--times <number>', 'questions, each on a connection of its own: a NAT may have several addresses', '3')
    .option('--json', 'print one JSON document instead of text');
  command(
    'doctor',
    'Test the whole route from here to the partner, and name the broken part.',
    'npx eco-egress doctor --config deploy/config/egress.yaml',
    async () => (await import('./cli/doctor.ts')).runDoctor,
  )
    .option(...configOption)
    .option('--client', 'test as a client: with its environment instead of a configuration')
    .option('--target <url>', 'what a client asks for; else, a host and port for the patterns and ranges of the file')
    .option('--proxy <url>', 'the proxy to test, or the one that a client uses; else the one of the file, or of HTTPS_PROXY')
    .option('--ca <file>', "as a client: the authority of the partner's certificate, PEM")
    .option('--only <check...>', 'only these checks, and what they need')
    .option('--incident [destination]', 'ask the proxy that runs here what is wrong now, and whose part it is')
    .option('--admin <address:port>', 'with --incident: the admin port of the proxy; else listeners.admin of the file')
    .option('--timeout <duration>', 'for each step', '5s')
    .option('--json', 'print one JSON document instead of text');
  command(
    'echo',
    'Tell every caller the address it comes from: an endpoint for the probe.',
    'npx eco-egress echo --listen 0.0.0.0:8080',
    async () => (await import('./cli/echo.ts')).runEcho,
  )
    .option('--listen <address:port>', 'where to listen', '0.0.0.0:8080')
    .option('--trusted-peer <range...>', 'load balancers that may name the client')
    .option('--proxy-protocol', 'their connections begin with a PROXY header, version 1 or 2')
    .option('--believe <header>', 'x-forwarded-for: trust that header from them');
  command(
    'hash-password',
    'Make the hash of a password for the configuration.',
    'npx eco-egress hash-password < password.txt',
    async () => (await import('./cli/hash-password.ts')).runHashPassword,
  );
  command(
    'manifests',
    'Render what the policy says for Kubernetes and Istio.',
    'npx eco-egress manifests --overlay sidecar',
    async () => (await import('./cli/manifests.ts')).runManifests,
  )
    .option(...configOption)
    .option(
      '--overlay <name>',
      'base, sidecar, sidecar-tunnel, ambient, no-mesh, no-direct-egress or external-service; may be repeated',
      (name: string, before?: string[]) => [...(before ?? []), name],
    )
    .option('--settings <file>', 'variables of the configuration file, NAME=value in lines, as the Deployment gets them')
    .option('--namespace <name>', 'where the proxy runs; else eco-egress')
    .option('--client-namespace <name>', 'whose pods use it; else dynatrace-sit')
    .option('--direct <ranges>', 'public addresses that clients may reach without the proxy')
    .option('--out <directory>', 'write files below this directory instead of standard output');
  command(
    'schema',
    'Print the JSON Schema of a file or of an output, for editors and programs.',
    'npx eco-egress schema config',
    async () => (await import('./cli/schema.ts')).runSchema,
  ).argument('[name]', 'config, policy-tests, log-line, problem, check and so on; else all names are printed');
  command('version', 'Print the version, as --version does.', 'npx eco-egress version', () =>
    Promise.resolve((_, { stdout }) => {
      stdout.write(`${VERSION}\n`);
      return Promise.resolve(EXIT.ok);
    }),
  );
  const demo = command(
    'demo',
    'Start a stand-in ECO SIT with the proxy before it, and print commands to paste.',
    'npx eco-egress demo',
    async () => (await import('./cli/demo.ts')).runDemo,
  );
  // Its options are in its module, which is too slow to load for the other commands.
  if (argv.includes('demo')) (await import('./cli/demo.ts')).addDemoOptions(demo);

  await program.parseAsync(argv, { from: 'user' });
  return exitCode;
}

/** Options for which nothing is a value too: no ranges, and a Host field without content. */
const MAY_BE_EMPTY: ReadonlySet<string> = new Set(['direct', 'host']);

/** An empty variable in a script must not mean that the option was not given, as with the shipped policy in place of a file. Throws CommanderError. */
function refuseEmpty(command: Command): void {
  const values: Readonly<Record<string, unknown>> = command.opts();
  const isEmpty = (value: unknown): boolean => value === '' || (Array.isArray(value) && value.includes(''));
  const option = command.options.find((one) => !MAY_BE_EMPTY.has(one.attributeName()) && isEmpty(values[one.attributeName()]));
  if (option !== undefined) command.error(`error: the value of option '${option.flags}' is empty. Give one, or leave the option out.`);
  const index = command.args.indexOf('');
  if (index !== -1) command.error(`error: argument ${index + 1} is empty.`);
}

/** Sets missing variables of the environment from `.env` of the working directory, if there is one. With `--settings` they are those of a process elsewhere. */
async function fillEnvironment(): Promise<void> {
  const text = process.argv.some((arg) => arg.startsWith('--settings')) ? null : await readDotenv();
  if (text === null) return;
  const { parse, populate } = await import('dotenv');
  populate(process.env, parse(text));
}

function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (process.env['ECO_EGRESS_DEBUG']) return error.stack ?? error.message;
  return error.cause === undefined ? error.message : `${error.message} (${describeError(error.cause)})`;
}

/** The output of a command could not be written, so the command has failed; one message reports it. */
let outputFailed = false;
const stdout = openStandardOutput();
stdout.on('error', ({ code, message }: NodeJS.ErrnoException) => {
  // A reader that went away (`eco-egress check | head`) is not an error.
  if (code === 'EPIPE' || outputFailed) return;
  outputFailed = true;
  endWith(EXIT.failed);
  process.stderr.write(`eco-egress: standard output cannot be written: ${message}\n`);
});
// A file that may not grow (ulimit -f) gives EFBIG like other errors, once the signal that comes with it does not end the process.
process.on('SIGXFSZ', () => {});
// There is no output left to report that.
process.stderr.on('error', () => {});

/** Sets the exit code, unless the output has failed, which can happen before and after a command ends. */
function endWith(code: number): void {
  process.exitCode = outputFailed ? EXIT.failed : code;
}

try {
  await fillEnvironment();
  // Each access to Node's own object calls the operating system, and the YAML parser makes one for each token of
  // a file.
  process.env = { ...process.env };
  endWith(await runCommand(process.argv.slice(2), { stdin: process.stdin, stdout, stderr: process.stderr, env: process.env }));
} catch (error) {
  if (error instanceof CommanderError) {
    endWith(error.exitCode === 0 ? EXIT.ok : EXIT.usage);
  } else {
    // Only what is relative needs a working directory.
    const gone = error instanceof Error && 'syscall' in error && error.syscall === 'uv_cwd';
    process.stderr.write(
      `eco-egress: ${gone ? 'the working directory has been deleted. Change to one that exists.' : describeError(error)}\n`,
    );
    endWith(gone || error instanceof WrongPlace ? EXIT.usage : EXIT.failed);
  }
}

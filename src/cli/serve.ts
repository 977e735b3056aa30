/** `eco-egress serve`: runs the proxy until a signal asks it to end. */
import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import closeWithGrace from 'close-with-grace';
import { loadConfig, type LoadResult } from '../config/load.ts';
import { messageOf } from '../config/named-files.ts';
import { ReadFiles } from '../config/read-files.ts';
import { Service } from '../service.ts';
import { explainLoss } from '../telemetry/log-sink.ts';
import { type CommandIo, EXIT, onEndingSignal } from './io.ts';
import { explainStart } from './explain.ts';
import { tuneV8 } from './tune-v8.ts';
import { warmUp } from './warm-up.ts';
import { openConfig, readOpenFileLimit } from './open-config.ts';

/** Arguments of `serve`, as written. */
export interface ServeOptions {
  readonly config?: string;
  /** Whether it warms up before it listens. */
  readonly warmUp: boolean;
}

/** Between two checks of the configuration's files, ms. */
const LOOK_EVERY = 1_000;
/** Longest that warming up may take, ms. */
const WARM_UP = 300;
/** Signals this close together, ms, are one: a terminal sends Ctrl-C to npm and to us, and npm passes it on. */
const SAME_PRESS = 500;
/** Longest that the log lines of what a second signal cuts may take, ms. */
const LAST_LINES = 1_000;

/**
 * Resolves to an exit code when it could not start. Once running, the first SIGTERM or SIGINT
 * drains and ends the process with 0, a later one cuts everything and ends it with 1; SIGHUP, `eco-egress reload`, or
 * a change of its files, reloads the configuration; an uncaught error cuts everything, is logged,
 * and ends the process with 1.
 */
export async function runServe(options: ServeOptions, io: CommandIo): Promise<number> {
  // From here on: without a handler, SIGHUP would end the process.
  let early = 0;
  let reload = (): void => {
    early += 1;
  };
  process.on('SIGHUP', () => {
    reload();
  });
  const files = new ReadFiles();
  const opened = openConfig(options.config, io, files.read);
  if (opened === null) return EXIT.usage;
  const loadAgain = (): LoadResult => {
    files.begin();
    return loadConfig({
      file: opened.file,
      env: io.env,
      readFile: files.read,
      instead: 'Put it back: a reload reads the file that was named at the start.',
    });
  };
  const service = new Service(opened.config, {
    loaded: opened,
    loadAgain,
    logDestination: io.stdout,
    logSink: { onUntold: (loss) => void io.stderr.write(`${explainLoss(loss)}\n`) },
    openFiles: readOpenFileLimit(),
    hostName: hostname(),
    instance: io.env['POD_NAME'] || hostname(),
    ...(io.env['POD_NAME'] ? { pod: io.env['POD_NAME'] } : {}),
  });
  if (options.warmUp) {
    await warmUp(WARM_UP).catch((error: unknown) => {
      io.stderr.write(`The warm-up failed, so the first requests take longer: ${messageOf(error)}\n`);
    });
  }
  const started = service.start();
  // Before it logs that it listens: a reader of the log may send a signal at
  // once.
  endOnSignals(service, started, io);
  try {
    await started;
  } catch (error) {
    io.stderr.write(`eco-egress could not start: ${explainStart(error)}\n`);
    return EXIT.failed;
  }
  try {
    tuneV8();
  } catch (error) {
    io.stderr.write(`V8 keeps its own settings, so more requests wait for collections: ${messageOf(error)}\n`);
  }
  reload = () => void service.reload(loadAgain());
  // During the start: the file may have changed since it was read.
  if (early > 0) reload();
  setInterval(() => {
    if (service.watches && files.changed()) reload();
  }, LOOK_EVERY).unref();
  return new Promise(() => {
    // Never settles: from here on the signals end the process.
  });
}

/** A signal during the start drains once that is over. */
function endOnSignals(service: Service, started: Promise<void>, io: CommandIo): void {
  const tell = (error: unknown): boolean =>
    io.stderr.write(
      `eco-egress ends because of an uncaught error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
    );
  const end = closeWithGrace(
    { delay: false, logger: false, skip: ['SIGTERM', 'SIGINT', 'SIGHUP'], onSecondError: tell },
    async ({ err }) => {
      if (err === undefined) {
        await started;
        await service.drain();
        return;
      }
      tell(err);
      await service.close();
    },
  );
  let asked: number | null = null;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (asked === null) {
      asked = performance.now();
      end.close();
    } else if (performance.now() - asked > SAME_PRESS) {
      asked = Infinity;
      io.stderr.write(`second ${signal}: ending at once\n`);
      void Promise.race([service.close(), delay(LAST_LINES)]).finally(() => process.exit(EXIT.failed));
    }
  };
  onEndingSignal(onSignal);
}

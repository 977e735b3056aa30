/**
 * The composition root: from a configuration to a running proxy. Reads no
 * environment and handles no signals, so that tests, `serve` and `demo` start
 * the same proxy.
 *
 * Longer than 400 lines: all parts are created here, and start and stop in a
 * fixed order.
 */
import type { AddressInfo } from 'node:net';
import { Writable } from 'node:stream';
import { isDeepStrictEqual } from 'node:util';
import { setTimeout as delay } from 'node:timers/promises';
import { type Admin, listenAdmin } from './admin/app.ts';
import type { AdminInfo, Readiness } from './admin/status-sources.ts';
import {
  buildAdminNotices,
  buildAuthenticator,
  buildCircuits,
  buildCoolDowns,
  buildDescriptors,
  buildDialler,
  buildOverload,
  sharesDialler,
  warnAboutOpenFiles,
  warnOfOverload,
} from './build-parts.ts';
import type { Config } from './config/config.ts';
import type { Loaded, LoadResult } from './config/load.ts';
import { listRuleEnds } from './config/rule-ends.ts';
import type { CircuitBreaker } from './dial/circuit-breaker.ts';
import { DialHistory } from './dial/dial-history.ts';
import type { NamedDiallerOptions } from './dial/dialler.ts';
import type { Lookup } from './dial/lookup.ts';
import { PortBudget } from './dial/nat-budget.ts';
import { KnownNames } from './dial/resolver.ts';
import { Crowd } from './crowd.ts';
import { Drain, type DrainClock } from './drain/drain.ts';
import { describeForecast } from './drain/drain-view.ts';
import type { Descriptors } from './descriptors.ts';
import { Egress, type Permit } from './egress.ts';
import { Fault } from './errors.ts';
import { Explainer } from './explain/explainer.ts';
import { Incidents, type IncidentSources, type OpenConnection } from './incident/gather.ts';
import { createGatewayRouter, type GatewayRouter, routeTerms } from './gateway/router.ts';
import { ConnectionCount } from './limits.ts';
import { HttpForms } from './listeners/http-forms.ts';
import type { Authenticator } from './identity/authenticator.ts';
import { firstListEnd } from './identity/revocation.ts';
import { type Listeners, openListeners } from './listeners/open-listeners.ts';
import { createSelfCheck, type SelfCheck } from './listeners/self.ts';
import { SniForm } from './listeners/sni-form.ts';
import type { RequestEnvironment } from './listeners/request-context.ts';
import { compilePolicy, type Policy, type PolicyConfig } from './policy/compile.ts';
import { compareDecisions, DecisionRing } from './reload/compare.ts';
import { keepWhatNeedsRestart } from './reload/needs-restart.ts';
import {
  compareInForce,
  countWarnings,
  describeInForce,
  type InForce,
  logWarnings,
  renewWarnings,
  succeed,
  tellWarnings,
} from './reload/in-force.ts';
import { PolicyChanges } from './reload/policy-change.ts';
import { nameConfig, refuseDenials, type ReloadOutcome, Reloads } from './reload/outcome.ts';
import type { Overload, OverloadProbes } from './overload/overload.ts';
import { SelfTest } from './self-test/self-test.ts';
import { SourceProof } from './source-ip/source-proof.ts';
import { formatAuthority } from './targets/host.ts';
import { createTelemetry, type RunningTelemetry } from './telemetry/create-telemetry.ts';
import { gateByHealth, warnOfHealth } from './telemetry/destination-health.ts';
import type { AccessRecord } from './telemetry/access-record.ts';
import { HISTORY_STEP } from './telemetry/history.ts';
import type { LogOutput } from './telemetry/log-output.ts';
import type { LogSinkOptions } from './telemetry/log-sink.ts';
import type { PolicyFacts } from './telemetry/cells.ts';
import { describePolicy } from './telemetry/collectors.ts';
import { VERSION } from './version.ts';

/** What a service gets from its process; all but `logDestination` may be left out. */
export interface ServiceDeps {
  /** Where the log goes; stays open. */
  readonly logDestination: LogOutput | Writable;
  /** The file of the configuration; absent: there is none, and it has no warnings. */
  readonly loaded?: Loaded;
  /** Loads that file again, for reloads through the admin port; absent: those are refused. */
  readonly loadAgain?: () => LoadResult;
  /** How log lines are buffered; the defaults suit production. */
  readonly logSink?: LogSinkOptions;
  /** Replaces the configured resolver. */
  readonly lookup?: Lookup;
  /** Replaces the policy compiler, for tests of a broken policy. */
  readonly compile?: (config: PolicyConfig) => Policy;
  /** How many files this process may have open; null or absent: not limited, or not known. */
  readonly openFiles?: number | null;
  /** Name of this replica, for the status page and traces; `-` by default. */
  readonly instance?: string;
  /** For traces: names of this machine and of its Kubernetes pod. */
  readonly hostName?: string;
  readonly pod?: string;
  /** Ms since the epoch, for the proof of the source address; `Date.now` by default. */
  readonly now?: () => number;
  /** Monotonic ms, for the rates of rules and the pauses of circuits; `performance.now` by default. */
  readonly monotonic?: () => number;
  /** The clock of the drain window; the system's by default. */
  readonly drainClock?: DrainClock;
  /** Replaces the event loop and the memory of this process, for tests of overload. */
  readonly overload?: OverloadProbes;
}

/** How long requests that were cut may take to report their end, ms: a few turns of the event loop are enough. */
const LAST_WORDS_MS = 1000;

/** A service that never starts, for what can be asked of one: nothing listens, and its data path is the one that serves. */
export async function withIdleService<T>(config: Config, use: (service: Service) => Promise<T>, lookup?: Lookup): Promise<T> {
  const service = new Service(config, { logDestination: discardOutput(), ...(lookup === undefined ? {} : { lookup }) });
  try {
    return await use(service);
  } finally {
    await service.close();
  }
}

/** For a service whose log is not kept. */
export function discardOutput(): Writable {
  return new Writable({
    write: (_chunk, _encoding, done) => {
      done();
    },
  });
}

/** One running proxy with all its listeners. Its creator ends it with `drain` or `close`. */
export class Service {
  /** Explains decisions, also before `start`: then nothing listens, and nothing is dialled. */
  readonly explainer: Explainer;
  /** Proves the source address; can be run by hand before `start`, too. */
  readonly sourceProof: SourceProof;
  #config: Config;
  #inForce: InForce;
  /** When the warnings change next: a rule, a certificate or a list of revoked ones begins or ends. */
  #nextEnd: number;
  /** When that was last checked. */
  #endsCheckedAt = 0;
  readonly #telemetry: RunningTelemetry;
  readonly #egress: Egress;
  readonly #self: SelfCheck;
  readonly #ring: DecisionRing;
  readonly #dialParts: NamedDiallerOptions;
  readonly #ports: PortBudget;
  readonly #circuits: CircuitBreaker;
  readonly #history: DialHistory;
  readonly #incidents: Incidents;
  readonly #environment: RequestEnvironment;
  #historyTimer: NodeJS.Timeout | undefined;
  readonly #instance: string;
  #listeners: Listeners | null = null;
  #forms: HttpForms | null = null;
  readonly #selfTest: SelfTest;
  readonly #compile: (config: PolicyConfig) => Policy;
  readonly #reloads: Reloads;
  readonly #policyChanges: PolicyChanges;
  readonly #hurry = new AbortController();
  readonly #clock: () => number;
  readonly #reloadFile: (() => Promise<ReloadOutcome>) | null;
  #admin: Admin | null = null;
  #gateway: GatewayRouter | null = null;
  /** Reads keys; null before the start. */
  #authenticator: Authenticator | null = null;
  readonly #connections: ConnectionCount;
  readonly #openFiles: number | null;
  readonly #descriptors: Descriptors;
  readonly #overload: Overload;
  readonly #drain: Drain;
  #drained: Promise<void> | null = null;
  #ending: Promise<void> | null = null;

  /** Builds all parts from a configuration. Binds nothing and dials nothing before `start`. */
  constructor(config: Config, deps: ServiceDeps) {
    this.#config = config;
    const clock = deps.now ?? ((): number => Date.now());
    this.#clock = clock;
    this.#instance = deps.instance ?? '-';
    this.#inForce = describeInForce(config, deps.loaded ?? null, clock());
    this.#nextEnd = this.#inForce.nextWarningsAfter(clock());
    this.#compile = deps.compile ?? compilePolicy;
    const policy = this.#compile(config);
    this.#telemetry = createTelemetry({
      log: config.log,
      policy: this.#describe(),
      output: deps.logDestination,
      version: VERSION,
      process: { name: config.name, instance: this.#instance, hostName: deps.hostName ?? '-', pod: deps.pod ?? null },
      ...(deps.logSink === undefined ? {} : { sink: deps.logSink }),
    });
    this.#openFiles = deps.openFiles ?? null;
    this.#descriptors = buildDescriptors(this.#openFiles, this.#telemetry);
    this.#overload = buildOverload(config.limits, this.#telemetry, deps.overload);
    // A reload does not change the state of the NAT or of the parents.
    this.#ports = new PortBudget({
      nat: config.nat,
      notice: (level, message, fields) => {
        this.#telemetry.notice(level, message, fields);
      },
    });
    this.#self = createSelfCheck([...config.listeners.http, ...config.listeners.tls, config.listeners.admin]);
    const { isSelf, isOurs } = this.#self;
    this.#circuits = buildCircuits(config, this.#telemetry, deps.monotonic ?? performance.now.bind(performance));
    this.#history = new DialHistory(clock);
    this.#dialParts = {
      lookup: deps.lookup ?? null,
      names: new KnownNames(),
      ports: this.#ports,
      circuits: this.#circuits,
      history: this.#history,
      coolDowns: buildCoolDowns(this.#telemetry),
      isOurs,
      descriptors: this.#descriptors,
      onStale: (host) => {
        this.sourceProof.noteStale(host);
      },
    };
    this.#ring = new DecisionRing(config.reload.remember);
    const dialler = buildDialler(config, this.#dialParts, this.#telemetry);
    this.sourceProof = new SourceProof({ config, dialler, isSelf, ports: this.#ports, telemetry: this.#telemetry, now: clock });
    this.#egress = new Egress({
      config,
      policy,
      dialler,
      telemetry: this.sourceProof.watch.listenTo(this.#telemetry, this.#telemetry.contain),
      remember: this.#telemetry.contain('decisions', this.#ring.remember.bind(this.#ring)),
      isSelf,
      descriptors: this.#descriptors,
      ...(deps.monotonic === undefined ? {} : { monotonic: deps.monotonic }),
    });
    this.explainer = new Explainer({
      egress: this.#egress,
      config: () => this.#config,
      configHash: () => this.#inForce.hash,
      gateway: () => this.#routes(),
    });
    this.#selfTest = new SelfTest({
      config,
      egress: this.#egress,
      telemetry: this.#telemetry,
      tight: () => this.#descriptors.tight,
      now: clock,
    });
    this.#environment = {
      config,
      egress: this.#egress,
      telemetry: this.#telemetry,
      remember: this.#telemetry.contain('denials', (record, fault, permit) => {
        this.explainer.note(record, fault, permit);
      }),
      requests: new Crowd(),
      hellos: new Set(),
      overload: this.#overload,
      selfTest: this.#selfTest.environment,
      draining: false,
    };
    this.#drain = new Drain({
      requests: this.#environment.requests,
      exchanges: () => this.#egress.count('exchanges'),
      times: () => this.#config.timeouts,
      wallClock: clock,
      ...(deps.drainClock === undefined ? {} : { clock: deps.drainClock }),
    });
    this.#telemetry.watch({
      natPorts: () => this.#ports.inUse(),
      rates: () => this.#egress.rateUsage(),
      circuits: () => this.#circuits.counts(),
      staleNames: () => this.#dialParts.names.stale().length,
      underWay: () => ({ exchanges: this.#egress.count('exchanges'), waiting: this.#egress.queued() }),
      drain: this.#drain,
      overload: this.#overload,
    });
    this.#connections = new ConnectionCount(config.limits, this.#telemetry, this.#descriptors);
    this.#reloads = new Reloads(this.#telemetry, (wanted) => this.#adopt(wanted));
    this.#policyChanges = new PolicyChanges(this.#telemetry);
    this.#incidents = new Incidents(this.#incidentSources(deps.lookup ?? null), deps.monotonic ?? performance.now.bind(performance));
    const { loadAgain } = deps;
    this.#reloadFile = loadAgain === undefined ? null : () => this.reload(loadAgain());
  }

  /** Where it listens, HTTP and TLS in the order of the configuration. Throws before `start`. */
  get addresses(): Listeners['addresses'] & { readonly admin: AddressInfo } {
    if (this.#listeners === null || this.#admin === null) throw new Error('the service has not been started');
    return { ...this.#listeners.addresses, admin: this.#admin.address };
  }

  /** Whether a change of its files calls for a reload: the configuration in force says so, and no drain has begun. */
  get watches(): boolean {
    return this.#config.reload.watch && !this.#environment.draining;
  }

  /** Binds every listener, or rejects with the first error and leaves none bound. */
  async start(): Promise<void> {
    try {
      (await this.#telemetry.prepareTracing(this.#config.tracing))();
      const gateway = await this.#routes();
      this.#authenticator = buildAuthenticator(this.#config, this.#telemetry, (asker) => this.#egress.policy.table.wanting(asker));
      this.#forms = new HttpForms(this.#environment, this.#authenticator, gateway);
      this.#listeners = await openListeners({
        config: this.#config,
        forms: this.#forms,
        sni: new SniForm(this.#environment),
        connections: this.#connections,
        environment: this.#environment,
        selfTest: this.#selfTest,
        onTick: () => {
          this.#endLapsed();
          this.#tellEnds();
        },
      });
      const { http, tls } = this.#listeners.addresses;
      for (const address of [...http, ...tls]) this.#self.add(address);
      this.#admin = await listenAdmin(
        {
          exposition: this.#telemetry.exposition,
          readiness: () => this.#readiness(),
          info: () => this.#info(),
          explainer: this.explainer,
          configuration: { inForce: () => this.#inForce, reload: this.#reloadFile },
          traffic: {
            destinations: () => this.#telemetry.healths(),
            tunnels: (most) => this.#telemetry.tunnels(most),
            drain: () => this.#drain.view(),
            of: (name) => this.#telemetry.traffic(name),
            queued: () => this.#egress.queued(),
            history: this.#telemetry.history,
          },
          sourceIp: () => this.sourceProof.view(),
          circuits: () => this.#circuits.view(),
          incidents: this.#incidents,
          ...buildAdminNotices(this.#telemetry),
          tight: () => this.#descriptors.tight,
        },
        this.#config.listeners.admin,
      );
      this.#self.add(this.#admin.address);
    } catch (error) {
      await this.close();
      throw error;
    }
    this.sourceProof.start();
    this.#selfTest.start(this.#listeners.addresses);
    this.#descriptors.watch();
    this.#overload.watch();
    this.#historyTimer = setInterval(() => {
      this.#telemetry.history.step(performance.now());
    }, HISTORY_STEP).unref();
    const { http, tls, admin } = this.addresses;
    this.#telemetry.notice('info', 'eco-egress is listening', {
      http: http.map(({ address, port }) => formatAuthority(address, port)),
      tls: tls.map(({ address, port }) => formatAuthority(address, port)),
      admin: formatAuthority(admin.address, admin.port),
      ...nameConfig(this.#inForce),
      version: VERSION,
    });
    logWarnings(this.#inForce, this.#telemetry);
    warnAboutOpenFiles(this.#config, this.#openFiles, this.#telemetry);
  }

  /**
   * Ends in order: not ready at once; after `timeouts.drainDelay` no new
   * connections, and tunnels are ended at an even rate; other requests in
   * progress may end until `timeouts.drain` has passed, and are then cut and
   * logged. Resolves when all is closed.
   */
  drain(): Promise<void> {
    this.#drained ??= this.#environment.draining ? this.close() : this.#drainNow();
    return this.#drained;
  }

  async #drainNow(): Promise<void> {
    const { drainDelay } = this.#config.timeouts;
    const signal = this.#hurry.signal;
    this.#environment.draining = true;
    this.#selfTest.stop();
    this.#drain.begin();
    this.#telemetry.notice('info', 'draining: no longer ready', describeForecast(this.#drain.view()));
    // A response whose header has not been sent announces the close: the next request would
    // find the port closed.
    for (const request of this.#environment.requests) request.connection.closeAfter();
    // Endpoints and load balancers need some time to see that the proxy is not ready
    // (docs/architecture.md).
    await delay(drainDelay, undefined, { signal }).catch(ignoreAbort);
    this.#listeners?.stop();
    this.#egress.retire();
    // A tunnel whose client has closed may still be closing its other side.
    const done = Promise.all([this.#listeners?.closed, this.#environment.requests.emptied()]);
    await Promise.race([done, this.#drain.run(signal)]);
    await this.close();
  }

  /** Ends now: every request in progress is cut and logged. Also cuts a `drain` short. */
  close(): Promise<void> {
    this.#hurry.abort();
    this.#environment.draining = true;
    this.#ending ??= this.#end();
    return this.#ending;
  }

  /**
   * Applies another configuration, completely or not at all. A refusal is a
   * warning on `/readyz` until a configuration is applied. Calls are queued.
   */
  reload(candidate: LoadResult): Promise<ReloadOutcome> {
    return this.#reloads.submit(candidate);
  }

  /** All new parts are created first, then applied in one turn: no request sees half of them. */
  async #adopt(loaded: Loaded): Promise<ReloadOutcome> {
    const { config, needRestart } = keepWhatNeedsRestart(this.#config, loaded.config);
    const policy = this.#compile(config);
    const changes = compareDecisions(this.#ring.entries(), this.#egress.policy, policy, Date.now());
    if (config.reload.refuseIfDenies && changes.newlyDenied.length > 0) return refuseDenials(changes);
    const dialler = sharesDialler(config, this.#config) ? this.#egress.dialler : buildDialler(config, this.#dialParts, this.#telemetry);
    const before = this.#gateway;
    // Creating a router takes the most time, and prefixes seldom change.
    const routes = config.destinations.map(routeTerms);
    const gateway = isDeepStrictEqual(routes, this.#config.destinations.map(routeTerms)) ? before : await createGatewayRouter(routes);
    const adoptTracing = await this.#telemetry.prepareTracing(config.tracing);
    const adoptListeners = this.#listeners?.prepare(config);
    if (this.#environment.draining || adoptListeners === undefined || this.#forms === null || before === null || gateway === null) {
      return { result: 'refused', reasons: ['The proxy is shutting down, or has not started.'], changes };
    }
    const inForce = succeed(this.#inForce, config, loaded, needRestart, this.#clock());
    const { hash: earlier } = this.#inForce;
    const earlierPolicy = this.#egress.policy;
    const differences = compareInForce(this.#inForce, inForce);
    this.#config = config;
    this.#environment.config = config;
    this.#inForce = inForce;
    this.#nextEnd = inForce.nextWarningsAfter(this.#clock());
    this.#gateway = gateway;
    this.#ring.adopt(config.reload.remember);
    this.#connections.adopt(config.limits);
    this.#overload.adopt(config.limits);
    this.#ports.adopt(config.nat);
    this.#circuits.adopt(config.destinations);
    this.#authenticator?.update(config.clients);
    this.#forms.adopt(gateway);
    let cut = adoptListeners();
    this.#egress.adopt({ config, policy, dialler });
    this.sourceProof.adopt(config, dialler);
    this.#selfTest.adopt(config);
    this.#telemetry.adoptLog(config.log);
    adoptTracing();
    this.#telemetry.policyChanged(this.#describe());
    warnAboutOpenFiles(config, this.#openFiles, this.#telemetry);
    const now = Date.now();
    for (const request of this.#environment.requests) {
      request.connection.guard(() => {
        if (request.recheck((permit, address) => this.#egress.revoked(permit, address, now))) cut += 1;
        request.charge((permit, record) => {
          this.#egress.chargeAnew(permit, record, now);
          return null;
        });
      });
    }
    if (before !== gateway) await before.close();
    // Reported when it is known: no caller waits for it.
    void this.#policyChanges.compare(earlierPolicy, policy, now);
    return { result: 'applied', before: earlier, inForce, differences, changes, needRestart, tunnelsCut: cut };
  }

  /** When a token expires, its key is withdrawn, or a certificate or a rule ends, the tunnels opened with it end too. Charges the bytes of all requests in progress. */
  #endLapsed(): void {
    const now = Date.now();
    const charge = (permit: Permit, record: AccessRecord): Fault | null => this.#egress.charge(permit, record, now);
    for (const request of this.#environment.requests) {
      request.connection.guard(() => {
        request.recheck((permit, address) => (permit.holds(now) ? undefined : this.#egress.revoked(permit, address, now)));
        request.charge(charge);
      });
    }
  }

  /** At each tick: no timer has to wait for months, and a change of the clock does no harm. */
  #tellEnds(): void {
    const now = this.#clock();
    const setBack = now < this.#endsCheckedAt;
    this.#endsCheckedAt = now;
    if (now < this.#nextEnd && !setBack) return;
    const { inForce, fresh } = renewWarnings(this.#inForce, now);
    this.#inForce = inForce;
    this.#nextEnd = inForce.nextWarningsAfter(now);
    logWarnings({ warnings: fresh }, this.#telemetry);
    this.#telemetry.policyChanged(this.#describe());
  }

  async #end(): Promise<void> {
    const { requests } = this.#environment;
    const cut = this.#drain.fault;
    if (this.#drain.state !== 'running') this.#telemetry.notice('info', 'the drain is over', { ...this.#drain.finish() });
    if (requests.size > 0) this.#telemetry.notice('warn', 'cutting what is still under way', { count: requests.size });
    for (const request of requests)
      request.connection.guard(() => {
        request.cut(cut);
      });
    // In this order, and each even if an earlier one failed.
    const steps: readonly (() => unknown)[] = [
      () => this.#selfTest.close(),
      () => {
        this.#egress.destroy();
      },
      () => this.#listeners?.stop(),
      () => this.#listeners?.destroy(),
      () => this.#listeners?.closed,
      () => this.#lastWords(),
      () => this.#telemetry.closeTracing(),
      () => {
        this.#descriptors.close();
      },
      () => {
        this.#overload.close();
      },
      () => {
        clearInterval(this.#historyTimer);
      },
      () => {
        this.#policyChanges.close();
      },
      () => {
        this.#authenticator?.close();
      },
      () => this.sourceProof.close(),
      () => this.#gateway?.close(),
      () => this.#admin?.close(),
    ];
    let failed: unknown = null;
    for (const step of steps) {
      try {
        await step();
      } catch (error) {
        failed ??= error;
        this.#telemetry.notice('error', 'a part of the proxy did not end as it should', { reason: String(error) });
      }
    }
    this.#telemetry.notice('info', 'eco-egress has ended');
    await this.#telemetry.close();
    if (failed !== null) throw Fault.from(failed);
  }

  /** A request that was cut reports its end when its sockets have closed. */
  async #lastWords(): Promise<void> {
    const enough = new AbortController();
    await Promise.race([
      this.#environment.requests.emptied(),
      delay(LAST_WORDS_MS, undefined, { signal: enough.signal }).catch(ignoreAbort),
    ]);
    enough.abort();
  }

  async #routes(): Promise<GatewayRouter> {
    return (this.#gateway ??= await createGatewayRouter(this.#config.destinations.map(routeTerms)));
  }

  /** The metrics of the configuration in force. */
  #describe(): PolicyFacts {
    const { file, hash, loadedAt } = this.#inForce;
    return describePolicy(this.#config, {
      file: file ?? '-',
      hash,
      loadedAt,
      warnings: countWarnings(this.#inForce),
      listsEnd: firstListEnd(this.#config.tlsServer?.crl ?? ''),
      ruleEnds: listRuleEnds(this.#config.rules, this.#clock()),
    });
  }

  #readiness(): Readiness {
    const reasons: string[] = [];
    if (this.#admin === null) reasons.push('The listeners are not bound yet.');
    if (this.#environment.draining) reasons.push('The proxy is draining.');
    const source = this.sourceProof.readiness();
    const enforcement = this.#selfTest.readiness();
    const files = this.#descriptors.warning();
    const gating = new Set(this.#config.destinations.filter(({ gateReadiness }) => gateReadiness).map(({ name }) => name));
    const unreachable = this.#telemetry
      .healths()
      .flatMap((health) => (gating.has(health.destination) ? (gateByHealth(health, this.#clock()) ?? []) : []));
    reasons.push(...enforcement.reasons, ...source.reasons, ...unreachable);
    const { refused, warnings: reloads } = this.#reloads;
    // Changes that wait for the next start are no drift: they are wanted.
    const notes = [...(refused ? [] : reloads), ...tellWarnings(this.#inForce)];
    return {
      ready: reasons.length === 0,
      reasons,
      policyChange: this.#policyChanges.latest,
      notes,
      warnings: [
        ...(refused ? reloads : []),
        ...enforcement.warnings,
        ...source.warnings,
        ...this.#telemetry.healths().flatMap((health) => warnOfHealth(health) ?? []),
        ...this.#circuits.warnings(),
        ...this.#dialParts.names.warnings(),
        ...this.#ports.warnings(),
        ...this.#telemetry.warnings(),
        ...(files === null ? [] : [files]),
        ...warnOfOverload(this.#overload),
      ],
    };
  }

  #incidentSources(lookup: Lookup | null): IncidentSources {
    return {
      instance: this.#instance,
      version: VERSION,
      config: () => this.#config,
      lookup,
      isSelf: (address, port) => this.#self.isSelf(address, port),
      resolveAsRequests: (host, signal) => this.#egress.dialler.resolve(host, signal),
      proxy: () => {
        const { refused, warnings } = this.#reloads;
        const { latest } = this.#policyChanges;
        return {
          draining: this.#environment.draining,
          notEnforcing: this.#selfTest.readiness().reasons,
          reloadRefused: refused ? warnings : [],
          loadedAt: this.#inForce.loadedAt,
          policyChange:
            latest?.different === true
              ? { at: Date.parse(latest.at), denies: latest.denies, sentence: latest.sentence, classes: latest.classes }
              : null,
          limits: this.#limitUse(),
          descriptors: this.#descriptors.warning(),
          overloaded: warnOfOverload(this.#overload),
          telemetry: this.#telemetry.warnings(),
        };
      },
      source: this.sourceProof,
      denials: (most) => this.explainer.denials.latest(most),
      failures: (most) => this.explainer.failures.latest(most),
      health: (destination) => this.#telemetry.traffic(destination)?.health ?? null,
      took: (destination) => {
        const { p50 = null, p99 = null } = this.#telemetry.traffic(destination)?.now ?? {};
        return p50 === null || p99 === null ? null : { p50, p99 };
      },
      circuits: () => this.#circuits.view(),
      ports: () => this.#ports.inUse(),
      history: this.#history,
      connections: () => this.#openConnections(),
      now: this.#clock,
    };
  }

  #openConnections(): OpenConnection[] {
    const tunnels = Array.from(this.#environment.requests).filter(({ tunnel }) => tunnel !== null);
    return [
      ...this.#egress.pooledConnections(),
      ...tunnels.map((key) => ({ key, address: key.record.upstreamAddress, bytesReceived: key.record.bytesReceived })),
    ];
  }

  #limitUse(): AdminInfo['limits'] {
    const { limits } = this.#config;
    return [
      { name: 'tunnels', used: this.#egress.count('tunnels'), limit: limits.tunnels },
      { name: 'exchanges', used: this.#egress.count('exchanges'), limit: limits.exchanges },
      { name: 'client connections', used: this.#telemetry.connections(), limit: limits.connections },
    ];
  }

  #info(): AdminInfo {
    return {
      version: VERSION,
      instance: this.#instance,
      configFile: this.#inForce.file,
      configHash: this.#inForce.hash,
      loadedAt: this.#inForce.loadedAt,
      config: this.#config,
      enforcement: this.#selfTest.view(),
      ruleEnds: listRuleEnds(this.#config.rules, this.#clock()),
      limits: this.#limitUse(),
      certificates: this.#telemetry.certificates(),
      ports: { ...this.#ports.inUse(), shortTunnels: this.#telemetry.shortTunnels() },
    };
  }
}

/** For a wait that `close` cuts short. */
function ignoreAbort(error: unknown): void {
  if ((error as Error).name !== 'AbortError') throw error;
}

/**
 * The composition root: from a configuration to a running proxy. Reads no
 * environment and handles no signals, so that tests, `serve` and `demo` start
 * the very same thing.
 */
import type { AddressInfo } from 'node:net';
import type { Writable } from 'node:stream';
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import { type Admin, createAdmin } from './admin/app.ts';
import type { AdminInfo, Readiness } from './admin/status-page.ts';
import type { Config } from './config/config.ts';
import { createDialler } from './dial/dialler.ts';
import { dnsLookup, type Lookup, systemLookup } from './dial/lookup.ts';
import { createResolver } from './dial/resolver.ts';
import { Egress } from './egress.ts';
import { Fault } from './errors.ts';
import { createGatewayRouter, type GatewayRouter } from './gateway/router.ts';
import { HttpForms } from './listeners/http-forms.ts';
import { type ConnectionCount, type HttpListener, openHttpListener } from './listeners/http-listener.ts';
import { createSelfCheck } from './listeners/self.ts';
import type { Visit } from './listeners/visit.ts';
import { compilePolicy } from './policy/compile.ts';
import { IdleClock } from './relay/idle-clock.ts';
import { formatAuthority } from './target/host.ts';
import { AccessRecord } from './telemetry/access-record.ts';
import { createTelemetry, type RunningTelemetry } from './telemetry/create-telemetry.ts';
import type { LogSinkOptions } from './telemetry/log-sink.ts';
import { createRequestIds } from './telemetry/request-id.ts';
import { VERSION } from './version.ts';

export interface ServiceDeps {
  /** Where the log goes; stays open. */
  readonly logDestination: Writable;
  /** How log lines are gathered; the defaults suit production. */
  readonly logSink?: LogSinkOptions;
  /** Instead of the configured resolver. */
  readonly lookup?: Lookup;
}

export interface Service {
  /** Binds every listener, or rejects with the first error and leaves none bound. */
  start(): Promise<void>;
  /** Where it listens, HTTP in the order of the configuration. Throws before `start`. */
  readonly addresses: { readonly http: readonly AddressInfo[]; readonly admin: AddressInfo };
  /**
   * Ends in order: not ready at once; after `timeouts.drainDelay` no new
   * connections; what is under way may end until `timeouts.drain` has passed,
   * and is then cut and logged. Resolves when all is closed.
   */
  drain(): Promise<void>;
  /** Ends now: everything under way is cut and logged. Also cuts a `drain` short. */
  close(): Promise<void>;
}

const LAST_TURNS = 100;

export function createService(config: Config, deps: ServiceDeps): Service {
  return new RunningService(config, deps);
}

class RunningService implements Service {
  readonly #config: Config;
  readonly #telemetry: RunningTelemetry;
  readonly #egress: Egress;
  readonly #idleClock: IdleClock;
  readonly #self = createSelfCheck();
  readonly #visits = new Set<Visit>();
  readonly #listeners: HttpListener[] = [];
  readonly #policyHash: string;
  readonly #hurry = new AbortController();
  #admin: Admin | null = null;
  #gateway: GatewayRouter | null = null;
  #connections = 0;
  #draining = false;
  #drained: Promise<void> | null = null;
  #ending: Promise<void> | null = null;

  constructor(config: Config, deps: ServiceDeps) {
    this.#config = config;
    const policy = compilePolicy(config);
    this.#policyHash = policy.hash;
    this.#telemetry = createTelemetry({ config, policyHash: policy.hash, output: deps.logDestination, version: VERSION, ...(deps.logSink === undefined ? {} : { sink: deps.logSink }) });
    const resolver = createResolver({
      lookup: deps.lookup ?? (config.dns.servers.length > 0 ? dnsLookup(config.dns.servers) : systemLookup),
      dns: config.dns,
      timeout: config.timeouts.resolve,
      onStale: (host, error) => {
        this.#telemetry.notice('warn', 'the resolver fails, so an expired answer is used', { host, reason: error.message });
      },
    });
    this.#egress = new Egress({
      config,
      policy,
      dialler: createDialler({ resolver, timeouts: config.timeouts }),
      telemetry: this.#telemetry,
      isSelf: (address, port) => this.#self.isSelf(address, port),
    });
    this.#idleClock = new IdleClock({ idle: config.timeouts.tunnelIdle, age: config.timeouts.tunnelAge, now: performance.now.bind(performance) });
  }

  get addresses(): Service['addresses'] {
    if (this.#admin === null) throw new Error('the service has not been started');
    return { http: this.#listeners.map(({ address }) => address), admin: this.#admin.address };
  }

  async start(): Promise<void> {
    try {
      this.#gateway = await createGatewayRouter(this.#config.destinations);
      const forms = this.#createForms(this.#gateway);
      for (const listener of this.#config.listeners.http) {
        const opened = await openHttpListener({
          listener,
          config: this.#config,
          forms,
          connections: this.#connectionCount(),
          onConnectionFault: (record, fault) => {
            this.#refusedConnection(record, fault);
          },
        });
        this.#listeners.push(opened);
        this.#self.add(opened.address);
      }
      const admin = createAdmin({ registry: this.#telemetry.registry, readiness: () => this.#readiness(), info: () => this.#info() });
      this.#admin = await admin.listen(this.#config.listeners.admin);
      this.#self.add(this.#admin.address);
    } catch (error) {
      await this.close();
      throw error;
    }
    const { http, admin } = this.addresses;
    this.#telemetry.notice('info', 'eco-egress is listening', {
      http: http.map(({ address, port }) => formatAuthority(address, port)),
      admin: formatAuthority(admin.address, admin.port),
      policy: this.#policyHash,
      version: VERSION,
    });
  }

  drain(): Promise<void> {
    this.#drained ??= this.#draining ? this.close() : this.#drain();
    return this.#drained;
  }

  async #drain(): Promise<void> {
    const { drainDelay, drain } = this.#config.timeouts;
    const signal = this.#hurry.signal;
    this.#draining = true;
    this.#telemetry.notice('info', 'draining: not ready any more', { exchanges: this.#egress.count('exchanges'), tunnels: this.#egress.count('tunnels') });
    // Endpoints and load balancers need a moment to see that we are not ready (docs/request-life.md).
    await delay(drainDelay, undefined, { signal }).catch(ignoreAbort);
    for (const visit of this.#visits) visit.closeAfter();
    for (const listener of this.#listeners) listener.stop();
    this.#egress.close();
    await Promise.race([Promise.all(this.#listeners.map(({ closed }) => closed)), delay(drain, undefined, { signal }).catch(ignoreAbort)]);
    await this.close();
  }

  close(): Promise<void> {
    this.#hurry.abort();
    this.#draining = true;
    this.#ending ??= this.#end();
    return this.#ending;
  }

  async #end(): Promise<void> {
    const cut = new Fault('draining', 'the proxy is shutting down', { retryAfter: 1, remedy: 'try again: another replica answers' });
    if (this.#visits.size > 0) this.#telemetry.notice('warn', 'cutting what is still under way', { count: this.#visits.size });
    for (const visit of this.#visits) visit.cut(cut);
    this.#egress.destroy();
    for (const listener of this.#listeners) {
      listener.stop();
      listener.destroy();
    }
    await Promise.all(this.#listeners.map(({ closed }) => closed));
    // What was cut tells its end when its sockets have closed, within a few turns of the loop.
    for (let turn = 0; this.#visits.size > 0 && turn < LAST_TURNS; turn += 1) await nextTurn();
    this.#idleClock.close();
    await this.#gateway?.close();
    await this.#admin?.close();
    this.#telemetry.notice('info', 'eco-egress has ended');
    await this.#telemetry.close();
  }

  #createForms(gateway: GatewayRouter): HttpForms {
    const draining = (): boolean => this.#draining;
    return new HttpForms({
      config: this.#config,
      egress: this.#egress,
      gateway,
      nextRequestId: createRequestIds(),
      context: {
        name: this.#config.name,
        telemetry: this.#telemetry,
        clientName: (address) => this.#egress.clientName(address),
        idleClock: this.#idleClock,
        visits: this.#visits,
        get draining() {
          return draining();
        },
      },
    });
  }

  #connectionCount(): ConnectionCount {
    return {
      enter: () => {
        if (this.#connections >= this.#config.limits.connections) return false;
        this.#connections += 1;
        this.#telemetry.clientConnections(1);
        return true;
      },
      leave: () => {
        this.#connections -= 1;
        this.#telemetry.clientConnections(-1);
      },
    };
  }

  #refusedConnection(record: AccessRecord, fault: Fault): void {
    record.client = this.#egress.clientName(record.clientAddress);
    record.code = fault.code;
    record.detail = fault.advice;
    record.status = fault.kind.status;
    record.closedBy = 'proxy';
    this.#telemetry.ended(record);
  }

  #readiness(): Readiness {
    const reasons: string[] = [];
    if (this.#admin === null) reasons.push('The listeners are not bound yet.');
    if (this.#draining) reasons.push('The proxy is draining.');
    return { ready: reasons.length === 0, reasons, warnings: [] };
  }

  #info(): AdminInfo {
    return {
      version: VERSION,
      policyHash: this.#policyHash,
      config: this.#config,
      tunnels: this.#egress.count('tunnels'),
      exchanges: this.#egress.count('exchanges'),
    };
  }
}

/** A wait cut short by `close` has done its duty. */
function ignoreAbort(error: unknown): void {
  if ((error as Error).name !== 'AbortError') throw error;
}

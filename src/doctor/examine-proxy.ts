/** The examination of a proxy's host: every check from the configuration to the partner. */
import type { Config } from '../config/config.ts';
import type { LoadResult } from '../config/load.ts';
import type { Lookup } from '../dial/lookup.ts';
import { createSelfCheck } from '../listeners/self.ts';
import { withIdleService } from '../service.ts';
import type { Verification } from '../source-ip/verify.ts';
import { chooseFormsProxy } from './choose-proxy.ts';
import { checkEnvironment } from './environment.ts';
import { createTools, createTrail, type Examination, type HostFacts } from './examination.ts';
import { type Check, createReport, type DoctorFinding, type DoctorReport, runChecks } from './finding.ts';
import { checkForms } from './form-checks.ts';
import { checkClock, checkConfiguration, checkOpenFiles, checkPorts, checkRoute } from './machine-checks.ts';
import { checkHttp, checkTls } from './partner-checks.ts';
import type { Authority } from '../targets/host.ts';
import type { FormsProxy, ProxyAddress } from './proxy-address.ts';
import { type Target, targetsOf } from './targets.ts';
import { checkHops, checkResolution, checkSilence, checkSourceAddress, checkTcp } from './way-checks.ts';

/** For `examineProxy`. */
export interface ProxyExamination {
  readonly loaded: Extract<LoadResult, { ok: true }>;
  readonly file: string;
  readonly host: HostFacts;
  /** The proxy for trying forms; null: the one that runs here, or one that the doctor starts. */
  readonly proxy: ProxyAddress | null;
  /** Hosts and ports to try where a destination has a pattern or a range for them. */
  readonly asked: readonly Authority[];
  /** For each step, ms. */
  readonly timeout: number;
  /** Names of checks; empty: all. */
  readonly only: readonly string[];
  /** Replaces the configured resolver. */
  readonly lookup?: Lookup;
}

/** A check that looks at one target at a time: all at once, the findings in the order of the targets. */
function ofEachTarget(check: (target: Target, examination: Examination) => Promise<DoctorFinding[]>): Check<Examination>['run'] {
  return async (examination) => (await Promise.all(examination.targets.map((target) => check(target, examination)))).flat();
}

/** In the order of a request's path. */
export const PROXY_CHECKS: readonly Check<Examination>[] = [
  { name: 'configuration', title: 'Configuration', needs: [], run: (examination) => Promise.resolve(checkConfiguration(examination)) },
  { name: 'names', title: 'Names, as this host sees them', needs: [], run: checkResolution },
  { name: 'route', title: 'Routes to the addresses', needs: ['names'], run: checkRoute },
  { name: 'tcp', title: 'TCP', needs: ['route'], run: ofEachTarget(checkTcp) },
  { name: 'hops', title: 'Parent proxies on the way', needs: ['names'], run: checkHops },
  { name: 'tls', title: 'TLS with the partner', needs: ['tcp', 'hops'], run: ofEachTarget(checkTls) },
  { name: 'http', title: 'HTTP with the partner', needs: ['tls'], run: ofEachTarget(checkHttp) },
  { name: 'forms', title: 'Forms of request, as a client asks', needs: ['http'], run: checkForms },
  { name: 'source-address', title: 'Source address', needs: ['names'], run: checkSourceAddress },
  { name: 'nat-ports', title: 'NAT ports', needs: [], run: checkPorts },
  {
    name: 'silence',
    title: 'Why a partner is silent',
    needs: ['tcp', 'source-address', 'nat-ports'],
    run: (examination) => Promise.resolve(checkSilence(examination)),
  },
  { name: 'clock', title: 'Clock', needs: ['http'], run: ({ trail }) => Promise.resolve(checkClock(trail.clocks)) },
  {
    name: 'open-files',
    title: 'Open files',
    needs: [],
    run: ({ config, host }) => Promise.resolve(checkOpenFiles(config, host.openFiles)),
  },
  {
    name: 'environment',
    title: 'Environment of this process',
    needs: [],
    run: ({ host, targets, tools }) => checkEnvironment({ env: host.env, partners: targets }, tools),
  },
];

/** Leaves nothing running. */
export async function examineProxy({ loaded, file, host, proxy, asked, timeout, only, lookup }: ProxyExamination): Promise<DoctorReport> {
  const config = hurry(loaded.config, timeout);
  const { http, tls, admin } = config.listeners;
  const self = createSelfCheck([...http, ...tls, admin]);
  const isSelf = (address: string, port: number): boolean => self.isSelf(address, port);
  const targets = targetsOf(config, asked, isSelf);
  const tools = createTools({ config, lookup, timeouts: config.timeouts, timeout });
  const chosen: Promise<FormsProxy>[] = [];
  const examination: Examination = {
    config,
    file,
    hash: loaded.hash,
    warnings: loaded.warnings,
    asked,
    targets,
    tools,
    host,
    trail: createTrail(),
    proxy,
    lookup,
    isSelf,
    verifySource: () => verifySourceOnce(config, lookup),
    formsProxy: () => {
      const one = chooseFormsProxy({ config, targets, tools, proxy, lookup });
      chosen.push(one);
      return one;
    },
  };
  try {
    return createReport('proxy', `The route from here to the partners of ${file}.`, await runChecks(PROXY_CHECKS, examination, only));
  } finally {
    for (const result of await Promise.allSettled(chosen)) if (result.status === 'fulfilled') await result.value.close();
  }
}

/** Once: `verify-ip` detects alternating addresses. */
async function verifySourceOnce(config: Config, lookup: Lookup | undefined): Promise<Verification | null> {
  if (!config.sourceIp?.probe) return null;
  const { expected, probe } = config.sourceIp;
  return withIdleService(config, ({ sourceProof }) => sourceProof.verify({ probe, expected, times: 1 }), lookup);
}

/** No step takes longer than the doctor's time limit. */
function hurry(config: Config, timeout: number): Config {
  const short = (ms: number): number => Math.min(ms, timeout);
  const hops = new Map(config.hops.map((hop) => [hop.name, { ...hop, connect: short(hop.connect) }]));
  const way = <T extends { readonly via: Config['hops'] }>(place: T): T => ({
    ...place,
    via: place.via.map((hop) => hops.get(hop.name) ?? hop),
  });
  const { sourceIp, timeouts } = config;
  return {
    ...config,
    hops: [...hops.values()],
    destinations: config.destinations.map(way),
    timeouts: {
      ...timeouts,
      resolve: short(timeouts.resolve),
      connect: short(timeouts.connect),
      tls: short(timeouts.tls),
      responseHeaders: short(timeouts.responseHeaders),
    },
    sourceIp: sourceIp?.probe ? { ...sourceIp, probe: { ...way(sourceIp.probe), timeout: short(sourceIp.probe.timeout) } } : sourceIp,
  };
}

/**
 * By which proxy forms are tried: the one that was named; else the one that
 * runs here, if it takes the doctor for a client; else one that the doctor
 * starts.
 */
import { isIPv6 } from 'node:net';
import type { Config, Form } from '../config/config.ts';
import { Fault } from '../errors.ts';
import { askConnect } from './ask-connect.ts';
import type { Examination } from './examination.ts';
import { type Finding, ok, skipped, warn } from './finding.ts';
import type { FormsProxy, TriedForm } from './forms-proxy.ts';
import { judgeConnect } from './judge-answer.ts';
import { openOrFail, openProxy } from './open-proxy.ts';
import { type ProxyAddress, showProxy } from './proxy-url.ts';
import { startStandIn } from './stand-in.ts';

type Choice = Pick<Examination, 'config' | 'targets' | 'tools' | 'proxy' | 'lookup'>;

/** Why a running proxy would tell nothing of the forms: the doctor is nobody's client there. */
const NOT_FOR_US: ReadonlySet<string> = new Set(['client-not-allowed', 'no-rule', 'credentials-missing', 'credentials-wrong', 'peer-not-trusted', 'proxy-protocol-malformed']);

export async function chooseProxy(choice: Choice): Promise<FormsProxy> {
  const { config, proxy } = choice;
  if (proxy !== null) return namedProxy(choice, proxy);
  const findings: Finding[] = [];
  const [listener] = config.listeners.http;
  if (listener !== undefined && listener.port !== 0) {
    const found = await tryRunning(choice, { scheme: 'http', host: reachable(listener.host), port: listener.port });
    if (found === null) return runningProxy(choice);
    findings.push(found);
  }
  return standInProxy(choice, findings);
}

/** Null: it serves us. Otherwise why a stand-in is needed. */
async function tryRunning({ targets, tools }: Choice, at: Pick<ProxyAddress, 'scheme' | 'host' | 'port'>): Promise<Finding | null> {
  const [target] = targets;
  const where = showProxy(at);
  let socket;
  try {
    socket = await tools.connect(at.host, at.port);
  } catch (error) {
    return skipped('running proxy', `none at ${where} (${Fault.from(error).code})`);
  }
  if (target === undefined) {
    socket.destroy();
    return skipped('running proxy', 'there is nothing to ask it for');
  }
  const refused = await askConnect(socket, { ...target, credentials: null, timeout: tools.timeout });
  if (refused === null) socket.destroy();
  else {
    const { code, seen } = judgeConnect(refused);
    if (NOT_FOR_US.has(code)) return skipped('running proxy', `${where} does not take this host for a client (${code})`);
    if (code.startsWith('proxy-')) return warn('running proxy', 'proxy-not-ours', `${where} is no proxy of ours: ${seen}`, 'If eco-egress is to listen there, end what does.');
  }
  return null;
}

/** One that cannot be reached is one finding, and not one for each form. */
async function namedProxy({ targets, tools }: Choice, proxy: ProxyAddress): Promise<FormsProxy> {
  const [target] = targets;
  const tried = target === undefined ? null : await tryProxy(proxy, target, tools);
  return {
    kind: 'named',
    findings: [tried ?? ok(showProxy(proxy), 'is the proxy, as --proxy says')],
    // Its listeners for TLS are not known.
    open: (form) => (tried !== null || form === 'sni' || form === 'terminated' ? null : openProxy(proxy, tools)),
    credentials: proxy.credentials,
    close: () => Promise.resolve(),
  };
}

/** Null: it takes connections. */
async function tryProxy(proxy: ProxyAddress, target: Choice['targets'][number], tools: Choice['tools']): Promise<Finding | null> {
  const opened = await openOrFail(proxy, target, tools);
  if (!('destroy' in opened)) return opened;
  opened.destroy();
  return null;
}

function runningProxy({ config, tools }: Choice): FormsProxy {
  return {
    kind: 'running',
    findings: [ok('proxy', `the one that runs here (${config.listeners.http.map(({ host, port }) => showProxy({ scheme: 'http', host: reachable(host), port })).join(', ')})`)],
    open: (form) => {
      const listener = listenerFor(config, form);
      // A port that the system chose is not known.
      return listener === null || listener.port === 0 ? null : tools.connect(reachable(listener.host), listener.port);
    },
    credentials: null,
    close: () => Promise.resolve(),
  };
}

async function standInProxy({ config, lookup, tools }: Choice, findings: readonly Finding[]): Promise<FormsProxy> {
  const service = await startStandIn(config, lookup);
  const { http, tls } = service.addresses;
  return {
    kind: 'stand-in',
    findings: [...findings, ok('proxy', 'one that the doctor started with this configuration, and is a client of')],
    open: (form) => {
      const listener = listenerFor(config, form);
      if (listener === null) return null;
      const bound = listener.kind === 'http' ? http[listener.index] : tls[listener.index];
      return bound === undefined ? null : tools.connect(bound.address, bound.port);
    },
    credentials: null,
    close: () => service.close(),
  };
}

function listenerFor({ listeners, tlsServer }: Config, form: TriedForm): { kind: 'http' | 'tls'; index: number; host: string; port: number } | null {
  const kind = form === 'sni' || form === 'terminated' ? 'tls' : 'http';
  if (form === 'terminated' && tlsServer === null) return null;
  const list = listeners[kind];
  const index = list.findIndex(({ forms }) => (form === 'terminated' ? forms.some((inside) => inside !== 'sni') : forms.some((taken: Form) => taken === form)));
  const found = list[index];
  return found === undefined ? null : { kind, index, host: found.host, port: found.port };
}

/** Where a listener on all addresses is reached from its own host. */
export function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  return isIPv6(host) && host === '::' ? '::1' : host;
}

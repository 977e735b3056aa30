/**
 * The proxy through which forms are tried: the named one; else the one that
 * runs here, if the doctor is a client of it; else one that the doctor starts.
 */
import type { Socket } from 'node:net';
import { type ClientConfig, type Config, type Form, type ListenerConfig, NO_TLS } from '../config/config.ts';
import type { Lookup } from '../dial/lookup.ts';
import { secure } from '../dial/tls.ts';
import { Fault } from '../errors.ts';
import { discardOutput, Service } from '../service.ts';
import { reachable } from '../targets/host.ts';
import { answersHttp, askConnect, judgeConnect } from './answers.ts';
import type { Examination, Tools } from './examination.ts';
import { fail, failBy, type DoctorFinding, ok, skipped, warn } from './finding.ts';
import { type FormsProxy, type ProxyAddress, showProxy, type TriedForm } from './proxy-address.ts';

type Choice = Pick<Examination, 'config' | 'targets' | 'tools' | 'proxy' | 'lookup'>;

/** Why a running proxy cannot test the forms: the doctor is not a client there. */
const NOT_FOR_US: ReadonlySet<string> = new Set([
  'client-not-allowed',
  'no-rule',
  'credentials-missing',
  'credentials-wrong',
  'peer-not-trusted',
  'proxy-protocol-malformed',
]);

/** Finds or starts the proxy; the caller closes it. Rejects if it cannot start. */
export async function chooseFormsProxy(choice: Choice): Promise<FormsProxy> {
  const { config, proxy } = choice;
  if (proxy !== null) return namedProxy(choice, proxy);
  const findings: DoctorFinding[] = [];
  const [listener] = config.listeners.http;
  if (listener !== undefined && listener.port !== 0) {
    const found = await tryRunning(choice, { scheme: 'http', host: reachable(listener.host), port: listener.port });
    if (found === null) return runningProxy(choice);
    findings.push(found);
  }
  return standInProxy(choice, findings);
}

/** Null: it serves us. Otherwise why a separate proxy is needed. */
async function tryRunning({ targets, tools }: Choice, at: Pick<ProxyAddress, 'scheme' | 'host' | 'port'>): Promise<DoctorFinding | null> {
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
    const { ours, code, seen } = judgeConnect(refused);
    if (!ours)
      return warn(
        'running proxy',
        'proxy-not-ours',
        `${where} is not an eco-egress proxy: ${seen}`,
        'If eco-egress should listen there, stop the other program.',
      );
    if (NOT_FOR_US.has(code)) return skipped('running proxy', `${where} does not take this host for a client (${code})`);
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

/** Null: it accepts connections. */
async function tryProxy(proxy: ProxyAddress, target: Choice['targets'][number], tools: Choice['tools']): Promise<DoctorFinding | null> {
  const opened = await openOrFail(proxy, target, tools);
  if (!('destroy' in opened)) return opened;
  opened.destroy();
  return null;
}

function runningProxy({ config, tools }: Choice): FormsProxy {
  return {
    kind: 'running',
    findings: [
      ok(
        'proxy',
        `the one that runs here (${config.listeners.http.map(({ host, port }) => showProxy({ scheme: 'http', host: reachable(host), port })).join(', ')})`,
      ),
    ],
    open: (form) => {
      const listener = listenerFor(config, form);
      // A port that the system chose is not known.
      return listener === null || listener.port === 0 ? null : tools.connect(reachable(listener.host), listener.port);
    },
    credentials: null,
    close: () => Promise.resolve(),
  };
}

async function standInProxy({ config, lookup, tools }: Choice, findings: readonly DoctorFinding[]): Promise<FormsProxy> {
  const service = await startStandIn(config, lookup);
  const { http, tls } = service.addresses;
  return {
    kind: 'stand-in',
    findings: [...findings, ok('proxy', 'one that doctor started with this configuration')],
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

function listenerFor(
  { listeners, tlsServer }: Config,
  form: TriedForm,
): { kind: 'http' | 'tls'; index: number; host: string; port: number } | null {
  const kind = form === 'sni' || form === 'terminated' ? 'tls' : 'http';
  if (form === 'terminated' && tlsServer === null) return null;
  const list = listeners[kind];
  const index = list.findIndex(({ forms }) =>
    form === 'terminated' ? forms.some((inside) => inside !== 'sni') : forms.some((taken: Form) => taken === form),
  );
  const found = list[index];
  return found === undefined ? null : { kind, index, host: found.host, port: found.port };
}

// A connection to a proxy, opened as its clients do; or the error.

/** TCP, and TLS with an https proxy, verified as a client would. */
export async function openProxy({ scheme, host, port }: ProxyAddress, tools: Tools): Promise<Socket> {
  const socket = await tools.connect(host, port, await tools.resolve(host));
  if (scheme === 'http') return socket;
  return secure({ socket, host, port, config: NO_TLS, keys: 'the proxy', timeout: tools.timeout, signal: new AbortController().signal });
}

/** The caller closes the socket. */
export async function openOrFail(
  proxy: ProxyAddress,
  target: { readonly host: string; readonly port: number },
  tools: Tools,
): Promise<Socket | DoctorFinding> {
  const shown = showProxy(proxy);
  try {
    return await openProxy(proxy, tools);
  } catch (error) {
    const fault = Fault.from(error);
    if (proxy.scheme === 'https' && fault.code === 'tls-failed' && (await speaksPlainHttp(proxy, target, tools)))
      return fail(
        shown,
        'https-proxy-on-plain-port',
        `the URL asks for TLS with the proxy, and port ${proxy.port} speaks plain HTTP`,
        `Write http://${shown.slice('https://'.length)}: also for https:// destinations.`,
      );
    return { ...failBy(shown, fault), advice: adviseOnProxy(fault) };
  }
}

/** Another connection that fails does not say so. */
async function speaksPlainHttp(
  proxy: ProxyAddress,
  target: { readonly host: string; readonly port: number },
  tools: Tools,
): Promise<boolean> {
  try {
    return await answersHttp(await openProxy({ ...proxy, scheme: 'http' }, tools), {
      ...target,
      credentials: proxy.credentials,
      timeout: tools.timeout,
    });
  } catch {
    return false;
  }
}

/** The dialler's remedies are about partners. */
function adviseOnProxy({ code, remedy }: Fault): string | null {
  switch (code) {
    case 'connection-refused':
      return 'Check host and port of the proxy, and that it runs.';
    case 'connect-timeout':
    case 'unreachable':
      return 'Check the network policies of both namespaces, and that the Service has endpoints.';
    case 'tls-certificate':
      return "Have the client trust the authority of the proxy's own certificate; here: NODE_EXTRA_CA_CERTS.";
    default:
      return remedy;
  }
}

const HERE = '127.0.0.1';

/** The configuration as it is, on ports of its own on loopback, with the doctor among its clients; the caller closes it. */
async function startStandIn(config: Config, lookup: Lookup | undefined): Promise<Service> {
  const service = new Service(admitDoctor(config), { logDestination: discardOutput(), ...(lookup === undefined ? {} : { lookup }) });
  await service.start();
  return service;
}

/** Every rule applies to the doctor as to its named clients; trusted peers do not matter to it. */
export function admitDoctor(config: Config): Config {
  const doctor: ClientConfig = { name: freeName(config), addresses: [`${HERE}/32`], basic: null, tokens: null, certificates: null };
  const here = <T extends ListenerConfig>(listener: T): T => ({
    ...listener,
    host: HERE,
    port: 0,
    trustedPeers: [],
    proxyProtocol: 'off',
    believe: [],
  });
  return {
    ...config,
    listeners: { http: config.listeners.http.map(here), tls: config.listeners.tls.map(here), admin: { host: HERE, port: 0, hosts: [] } },
    clients: [doctor, ...config.clients],
    rules: config.rules.map((rule) => ({ ...rule, clients: [...rule.clients, doctor.name] })),
    // The doctor runs that probe itself.
    sourceIp: null,
    selfTest: { every: null },
  };
}

function freeName({ clients }: Config): string {
  let name = 'doctor';
  while (clients.some((client) => client.name === name)) name = `${name}-x`;
  return name;
}

/** Every form of request, tried as a client through a proxy with this configuration. */
import { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { type DestinationConfig, type Form, FORMS } from '../config/config.ts';
import { readPeerChain } from '../dial/peer-chain.ts';
import { secure } from '../dial/tls.ts';
import { Fault } from '../errors.ts';
import { compilePolicy, type Policy } from '../policy/compile.ts';
import { decide } from '../policy/decide.ts';
import type { Ask } from '../policy/verdict.ts';
import type { OneAnswer } from '../relay/ask-once.ts';
import { askConnect, credentialFields, judgeExchange, judgeRefused } from './answers.ts';
import { admitDoctor } from './choose-proxy.ts';
import { type Examination, targetKey } from './examination.ts';
import { fail, failBy, type DoctorFinding, judgeStatus, ok, skipped } from './finding.ts';
import type { FormsProxy, TriedForm } from './proxy-address.ts';
import type { Target } from './targets.ts';

const TRIED: readonly TriedForm[] = [...FORMS, 'terminated'];

/** Tries each form for each destination through a proxy, all at once. */
export async function checkForms(examination: Examination): Promise<DoctorFinding[]> {
  if (examination.targets.length === 0) return [skipped('', 'there is no destination to ask for')];
  const proxy = await examination.formsProxy();
  const policy = compilePolicy(admitDoctor(examination.config));
  const places = Map.groupBy(examination.targets, ({ destination }) => destination);
  const found = await Promise.all(
    [...places].flatMap(([destination, targets]) =>
      TRIED.map((form) => tryForm(form, destination, targets, { proxy, policy, examination })),
    ),
  );
  return [...proxy.findings, ...found];
}

interface Trial {
  readonly target: Target;
  readonly method: 'HEAD' | 'GET' | 'OPTIONS';
  readonly path: string;
}

interface Means {
  readonly proxy: FormsProxy;
  /** As the stand-in has it: with the doctor as a client. */
  readonly policy: Policy;
  readonly examination: Examination;
}

async function tryForm(
  form: TriedForm,
  destination: DestinationConfig,
  targets: readonly Target[],
  { proxy, policy, examination }: Means,
): Promise<DoctorFinding> {
  const { name } = destination;
  const target = targets.find((candidate) => suits(form, candidate, policy)) ?? null;
  const subject = `${form} ${target === null ? name : target.where}`;
  if (target === null) return skipped(subject, whyNone(form, name));
  if (form !== 'terminated' && !destination.forms.includes(form))
    return skipped(subject, `off: it is not among destinations.${name}.forms`);
  // A proxy elsewhere may reach what this host cannot.
  const whole = target.protocol === 'unknown' ? examination.trail.reached : examination.trail.answered;
  if (proxy.kind !== 'named' && !whole.has(targetKey(target))) return skipped(subject, 'not tried: the route is broken, see above');
  const trial = planTrial(form, target, policy, examination);
  if (typeof trial === 'string') return skipped(subject, trial);
  try {
    const opened = proxy.open(form);
    if (opened === null)
      return skipped(subject, proxy.kind === 'named' ? whyNotThere(form) : 'no listener takes it, or none whose port is known');
    return await attempt(form, trial, await opened, subject, proxy, examination);
  } catch (error) {
    return failBy(subject, Fault.from(error));
  }
}

/** For a proxy elsewhere. */
function whyNotThere(form: TriedForm): string {
  return form === 'sni' || form === 'terminated' ? 'the TLS listeners of a proxy elsewhere are not known' : 'the proxy is not reached';
}

/** Whether this form can request the target at all. */
function suits(form: TriedForm, { destination: { gateway }, host, port, protocol }: Target, policy: Policy): boolean {
  switch (form) {
    case 'connect':
      return true;
    case 'forward':
      return protocol !== 'unknown';
    case 'gateway':
    case 'terminated':
      return gateway?.host === host && gateway.port === port;
    case 'host-routed':
      return protocol === 'http';
    case 'sni':
      return protocol === 'tls' && policy.tlsPort(host) === port;
  }
}

function whyNone(form: TriedForm, name: string): string {
  if (form === 'gateway' || form === 'terminated') return `destinations.${name} has no gateway`;
  return form === 'host-routed' ? 'none of its ports is known to speak plain HTTP' : 'none of its ports fits';
}

/** A harmless request that the policy permits, as it would for the clients that the rules name; otherwise why there is none. */
function planTrial(form: TriedForm, target: Target, policy: Policy, { config, host: facts }: Examination): Trial | string {
  const { destination, host, port } = target;
  const asked = form === 'terminated' ? 'gateway' : form;
  const opaque = asked === 'connect' || asked === 'sni';
  const base = `${destination.gateway?.basePath ?? ''}/`;
  const listed = [destination.paths, ...config.rules.map(({ paths }) => paths)]
    .flatMap((paths) => paths ?? [])
    .map((path) => path.replace(/\*$/, ''));
  let why = '';
  // A prefix leads to paths below the base path alone.
  for (const path of [base, ...listed].filter((each) => asked !== 'gateway' || each.startsWith(base))) {
    for (const method of ['HEAD', 'GET', 'OPTIONS'] as const) {
      const peer = { address: '127.0.0.1', user: null, token: null, sans: [], rejected: null };
      const ask: Ask = {
        form: asked,
        peer,
        now: facts.now(),
        host,
        port,
        method: opaque ? null : method,
        path: opaque ? null : path,
        ...(asked === 'gateway' ? { destination: destination.name } : {}),
      };
      const verdict = decide(policy, ask);
      if (verdict.verdict !== 'deny') return { target, method, path };
      why ||= `the policy permits no such request: ${verdict.code}, ${verdict.detail}`;
    }
  }
  return why;
}

async function attempt(
  form: TriedForm,
  trial: Trial,
  socket: Socket,
  subject: string,
  proxy: FormsProxy,
  examination: Examination,
): Promise<DoctorFinding> {
  const { tools } = examination;
  const { host, port, where, protocol } = trial.target;
  if (form === 'connect') {
    const refused = await askConnect(socket, { host, port, credentials: proxy.credentials, timeout: tools.timeout });
    if (refused !== null) {
      const { code, seen, advice } = await judgeRefused(
        refused,
        async () => (await proxy.open(form)) ?? Promise.reject(new Error('it is gone')),
        tools.timeout,
      );
      return fail(subject, code, seen, advice);
    }
    return throughTunnel(trial, socket, subject, examination);
  }
  if (form === 'sni') return throughTunnel(trial, socket, subject, examination);
  if (form === 'terminated') return throughTermination(socket, subject, examination);
  return checkFormAnswer(
    subject,
    await tools.ask(
      { socket },
      trialRequest(form, trial, `${protocol === 'tls' ? 'https' : 'http'}://${where}`, credentialFields(proxy.credentials)),
    ),
  );
}

/** In a tunnel the client speaks with the partner itself. */
async function throughTunnel(
  { target, method, path }: Trial,
  socket: Socket,
  subject: string,
  { tools }: Examination,
): Promise<DoctorFinding> {
  const { host, port, where, protocol, destination } = target;
  if (protocol === 'unknown') {
    socket.destroy();
    return ok(subject, 'the tunnel is up');
  }
  if (protocol === 'http') return checkFormAnswer(subject, await tools.ask({ socket }, { method, origin: `http://${where}`, path }));
  const secured = await secure({
    socket,
    host,
    port,
    config: { ...destination.tls },
    timeout: tools.timeout,
    signal: new AbortController().signal,
  });
  return checkFormAnswer(subject, await tools.ask({ socket: secured }, { method, origin: `https://${where}`, path }));
}

/** Our own certificate may be from an authority that is unknown here: it is compared with the configured one. */
async function throughTermination(socket: Socket, subject: string, { config, tools }: Examination): Promise<DoctorFinding> {
  const [name = ''] = config.tlsServer?.names ?? [];
  const chain = await readPeerChain({ socket, host: name, port: 0, timeout: tools.timeout });
  const configured = new X509Certificate(config.tlsServer?.cert ?? '').fingerprint256;
  if (chain[0]?.fingerprint !== configured)
    return fail(
      subject,
      'tls-certificate',
      `another certificate than the configured one is shown for ${name}`,
      'Restart or reload the proxy that runs here.',
    );
  return ok(
    subject,
    `TLS for ${name} ends there, with the configured certificate, until ${new Date(chain[0].validTo).toISOString().slice(0, 10)}`,
  );
}

function trialRequest(
  form: Form,
  { target, method, path }: Trial,
  origin: string,
  credentials: Record<string, string>,
): { method: Trial['method']; origin: string; path: string; headers: Record<string, string> } {
  const { destination, where } = target;
  if (form === 'gateway') {
    const { prefix = '', basePath = '' } = destination.gateway ?? {};
    return { method, origin, path: `${prefix}${path.slice(basePath.length)}`, headers: { host: 'eco-egress', ...credentials } };
  }
  return { method, origin, path: form === 'forward' ? `${origin}${path}` : path, headers: { host: where, ...credentials } };
}

function checkFormAnswer(subject: string, { status, headers }: OneAnswer): DoctorFinding {
  const refusal = judgeExchange(headers);
  return refusal === null ? judgeStatus(subject, `answered ${status}`, status) : fail(subject, refusal.code, refusal.seen, refusal.advice);
}

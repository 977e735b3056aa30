/** A healthy way from a proxy's place to its partner, for tests that break one thing of it and ask the doctor. */
import { createServer, type Server } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { Test } from 'tap';
import { stringify } from 'yaml';
import { loadConfig } from '../../src/config/load.ts';
import type { Lookup } from '../../src/dial/lookup.ts';
import type { HostFacts } from '../../src/doctor/examination.ts';
import { examineProxy, type ProxyExamination } from '../../src/doctor/examine-proxy.ts';
import type { DoctorFinding, DoctorReport } from '../../src/doctor/finding.ts';
import { type EchoEndpoint, startEchoEndpoint } from './echo-endpoint.ts';
import { baseDraft, type Draft, ECO, labCertificates } from './lab.ts';
import { listen } from './listen.ts';
import { OWN, ownCertificate } from './tls-lab.ts';

export const RIGHT = '34.123.45.67';
export const PLAIN = 'plain.telus.internal';

export interface DoctorLab {
  readonly https: number;
  readonly http: number;
  readonly echo: EchoEndpoint;
  readonly authorityPem: string;
}

export interface Patient {
  readonly configure?: (draft: Draft) => void;
  /** Addresses of names that are not 127.0.0.1; a string is the code of an error. */
  readonly names?: Readonly<Record<string, readonly string[] | string>>;
  readonly host?: Partial<HostFacts>;
  readonly proxy?: ProxyExamination['proxy'];
  readonly asked?: ProxyExamination['asked'];
  readonly only?: readonly string[];
  readonly timeout?: number;
  readonly files?: Readonly<Record<string, string>>;
}

export interface PartnerOptions {
  readonly https?: Server;
  readonly http?: Server;
}

/** The partner, on TLS and in plain, and an echo endpoint; they end with the test. */
export async function startPartner(t: Test, { https, http }: PartnerOptions = {}): Promise<DoctorLab> {
  const { authority, certPem, keyPem } = await labCertificates();
  const answer = createServer((_, response) => response.end('well'));
  return {
    https: await listen(t, https ?? createHttpsServer({ cert: certPem, key: keyPem }, (_, response) => response.end('well'))),
    http: await listen(t, http ?? answer),
    echo: await startEchoEndpoint(t, RIGHT),
    authorityPem: authority.certPem,
  };
}

/** What the doctor says of a proxy before that partner, every form open. */
export async function examine(lab: DoctorLab, patient: Patient = {}): Promise<DoctorReport> {
  const own = await ownCertificate();
  const draft = healthyDraft(lab);
  patient.configure?.(draft);
  const files: Record<string, string> = { '/lab/tls.crt': own.certPem, '/lab/tls.key': own.keyPem, '/lab/ca.pem': lab.authorityPem, ...patient.files };
  const loaded = loadConfig({ file: '/lab/egress.yaml', env: {}, readFile: (path) => files[path] ?? stringify(draft) });
  if (!loaded.ok) throw new Error(`the configuration is faulty: ${JSON.stringify(loaded.faults, null, 2)}`);
  return examineProxy({
    loaded,
    file: 'egress.yaml',
    host: { env: {}, openFiles: 100_000, now: Date.now, ...patient.host },
    proxy: patient.proxy ?? null,
    asked: patient.asked ?? [],
    timeout: patient.timeout ?? 5_000,
    only: patient.only ?? [],
    lookup: lookupOf(patient.names ?? {}),
  });
}

export function lookupOf(names: NonNullable<Patient['names']>): Lookup {
  return (host) => {
    const addresses = names[host] ?? ['127.0.0.1'];
    if (typeof addresses === 'string') return Promise.reject(Object.assign(new Error(addresses), { code: addresses }));
    return Promise.resolve({ addresses, ttl: null });
  };
}

function healthyDraft({ https, http, echo }: DoctorLab): Draft {
  const draft = baseDraft({ https, http });
  Object.assign(draft.destinations.eco, { ports: [https] });
  draft.destinations['plain'] = { hosts: [PLAIN], ports: [http], addresses: ['127.0.0.0/8'], gateway: { prefix: '/plain', url: `http://${PLAIN}:${http}` } };
  draft.listeners['tls'] = ['127.0.0.1:0'];
  draft.tlsServer = { names: [OWN], certFile: 'tls.crt', keyFile: 'tls.key' };
  draft.rules[0] = { clients: ['pods'], destinations: ['eco', 'plain'] };
  draft.sourceIp = { expected: RIGHT, probe: { url: echo.url, addresses: ['127.0.0.1'] } };
  draft.nat = { ports: 8192 };
  return draft;
}

/** `check code subject` of all that is not well, and was tried. */
export function faultsOf({ checks }: DoctorReport): string[] {
  return checks.flatMap(({ name, findings }) => findings.filter(({ code }) => code !== null).map(({ code, subject }) => `${name} ${code ?? ''} ${subject}`.trim()));
}

export function findingsOf({ checks }: DoctorReport, name: string): readonly DoctorFinding[] {
  return checks.find((check) => check.name === name)?.findings ?? [];
}

/** What is said and advised of the one fault. */
export function wordsOf(report: DoctorReport): string {
  return report.checks.flatMap(({ findings }) => findings.filter(({ code }) => code !== null).map(({ seen, advice }) => `${seen} → ${advice ?? ''}`)).join('\n');
}

export { ECO };

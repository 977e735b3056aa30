/** Checks of the partner: TLS, verified as the proxy verifies it, and HTTP. */
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { readPeerChain, type PartnerCertificate } from '../dial/peer-chain.ts';
import { trustEndOf } from '../dial/tls.ts';
import { Fault } from '../errors.ts';
import type { OneAnswer } from '../relay/ask-once.ts';
import { bound } from '../telemetry/safe-text.ts';
import { type Examination, targetKey } from './examination.ts';
import { failBy, type DoctorFinding, judgeStatus, ok, skipped, warn } from './finding.ts';
import { dialTargetOf, targetGuard, type Target } from './targets.ts';

const DAY_MS = 86_400_000;
/** A certificate that expires sooner is a warning. */
const SOON_DAYS = 14;
/** A certificate may be for hundreds. */
const LONGEST_NAMES = 200;

/** A TLS handshake with a target that speaks it, reached as requests reach it. */
export async function checkTls(target: Target, examination: Examination): Promise<DoctorFinding[]> {
  const { protocol, where } = target;
  const reached = examination.trail.reached.get(targetKey(target));
  if (protocol !== 'tls') return [];
  if (reached === undefined) return [skipped(where, 'not reached: see tcp and hops')];
  // Behind hops, the last of them chooses the address.
  if (target.destination.via.length > 0) return [await checkAddress(target, undefined, where, examination)];
  return Promise.all(
    reached.map((address) => checkAddress(target, address, reached.length === 1 ? where : `${where} at ${address}`, examination)),
  );
}

async function checkAddress(
  target: Target,
  address: string | undefined,
  subject: string,
  examination: Examination,
): Promise<DoctorFinding> {
  const { host, isSelf, tools } = examination;
  try {
    const { socket } = await tools.dial(dialTargetOf(target, isSelf), targetGuard(target), address);
    const finding = describeTls(subject, socket, host.now());
    socket.destroy();
    return finding;
  } catch (error) {
    const fault = Fault.from(error);
    const finding = failBy(subject, fault);
    if (fault.code !== 'tls-certificate') return finding;
    const chain = await readChain(target, address, examination);
    return chain === null ? finding : { ...finding, seen: `${finding.seen}; ${describeChain(chain)}` };
  }
}

/** Null: another connection shows none, and the first finding stands alone. */
export async function readChain(
  target: Target,
  address: string | undefined,
  { isSelf, tools }: Pick<Examination, 'isSelf' | 'tools'>,
): Promise<readonly PartnerCertificate[] | null> {
  const { host, port, destination } = target;
  try {
    const { socket } = await tools.dial(dialTargetOf(target, isSelf, false), targetGuard(target), address);
    return await readPeerChain({ socket, host: destination.tls.serverName ?? host, port, timeout: tools.timeout });
  } catch {
    return null;
  }
}

/** A TLS connection that was verified. */
export function describeTls(subject: string, socket: Socket, now: number): DoctorFinding {
  const [certificate, protocol] =
    socket instanceof TLSSocket ? [socket.getPeerX509Certificate(), socket.getProtocol() ?? 'TLS'] : [undefined, 'TLS'];
  if (certificate === undefined) return ok(subject, `${protocol}, verified`);
  const ends = trustEndOf(socket);
  const days = Math.floor((ends - now) / DAY_MS);
  const seen = `${protocol}, certificate for ${bound(certificate.subjectAltName ?? certificate.subject, LONGEST_NAMES)}, valid for ${days} more ${days === 1 ? 'day' : 'days'} (until ${new Date(ends).toISOString().slice(0, 10)}${ends < certificate.validToDate.getTime() ? ', when an authority above it expires' : ''})`;
  if (days < SOON_DAYS) return warn(subject, 'certificate-expiring', seen, 'Renew it where it is installed.');
  return ok(subject, seen);
}

/** The certificate of a server, and the issuer that would have to be trusted. */
export function describeChain(chain: readonly PartnerCertificate[]): string {
  const [leaf] = chain;
  if (leaf === undefined) return 'no certificate is shown';
  const day = (ms: number): string => (Number.isNaN(ms) ? 'a day that cannot be read' : new Date(ms).toISOString().slice(0, 10));
  const last = chain.at(-1) ?? leaf;
  const way = chain.map(({ subject }) => subject).join(', signed by ');
  const root = last.issuer === last.subject ? `, which signed itself` : `, signed by ${last.issuer}, which is not sent`;
  return `shown: ${way}${root}; for ${bound(leaf.names, LONGEST_NAMES) || 'no name'}, valid ${day(leaf.validFrom)} to ${day(leaf.validTo)}`;
}

/** Whether HTTP is answered, over the same path as the proxy's requests. Any answer below 500 is ok: its meaning is between partner and client. */
export async function checkHttp(target: Target, { host, isSelf, tools, trail }: Examination): Promise<DoctorFinding[]> {
  const { destination, protocol, where } = target;
  if (protocol === 'unknown') return trail.reached.has(targetKey(target)) ? [skipped(where, 'what this port speaks is not known')] : [];
  if (!trail.reached.has(targetKey(target))) return [skipped(where, 'not reached: see tcp and hops')];
  const origin = `${protocol === 'tls' ? 'https' : 'http'}://${where}`;
  const path = `${destination.gateway?.basePath ?? ''}/`;
  let dialled;
  try {
    dialled = await tools.dial(dialTargetOf(target, isSelf), targetGuard(target));
  } catch {
    return [skipped(where, 'no connection: see tls')];
  }
  try {
    const asked = host.now();
    const { status, headers } = await tools.ask(dialled, { method: 'HEAD', origin, path });
    trail.answered.add(targetKey(target));
    noteClock(trail.clocks, where, headers, (asked + host.now()) / 2);
    return [judgeStatus(where, `HEAD ${path} is answered ${status}`, status)];
  } catch (error) {
    return [failBy(where, Fault.from(error))];
  }
}

/** RFC 9110 §6.6.1: when the answer was made, to the second. */
export function noteClock(
  clocks: { where: string; ahead: number }[],
  where: string,
  { date, age }: OneAnswer['headers'],
  now: number,
): void {
  // A cache answers with the Date of what it stored (RFC 9111 §5.1).
  const dated = typeof date === 'string' ? Date.parse(date) + (Number(age ?? 0) || 0) * 1000 : Number.NaN;
  if (!Number.isNaN(dated)) clocks.push({ where, ahead: dated - now });
}

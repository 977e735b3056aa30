/**
 * Whether a client's host or pod reaches the partner without the proxy. A
 * network policy or firewall refuses such connections or drops them. A sidecar
 * of a mesh accepts connections to any address, so a connection alone proves
 * nothing there: a try of an address that no host has shows the difference.
 */
import type { Socket } from 'node:net';
import { secure } from '../dial/tls.ts';
import { Fault } from '../errors.ts';
import type { ClientExamination } from './client-checks.ts';
import { type DoctorFinding, ok, skipped, warn } from './finding.ts';

/** For documentation (RFC 5737): no host has it, so only a server that answers for other addresses accepts it. */
export const NO_HOSTS_ADDRESS = '192.0.2.1';

/** Each uses a connection to the partner. */
const ADDRESSES_TRIED = 4;

const CLOSE_IT =
  'Let only the proxy out to the partner: by the NetworkPolicy no-direct-egress of npx eco-egress manifests (deploy/kubernetes/README.md), or by a firewall. Then run this again.';
const LOOK_IN_THE_LOG =
  'Search the log of the proxy for this connection (form sni or host-routed, with the address of this pod). If it is not there, the sidecar lets it out by itself: apply the NetworkPolicy no-direct-egress of npx eco-egress manifests (deploy/kubernetes/README.md).';

/** Tries to reach the partner without the proxy: the check succeeds if that fails. */
export async function checkPastProxy(examination: ClientExamination): Promise<DoctorFinding[]> {
  const { target, tools, trail } = examination;
  const { where } = target;
  if (trail.addresses.length === 0)
    return [
      skipped(
        where,
        'the name does not resolve here, so that there is no address to try. If you know one: --only past-proxy --target https://ADDRESS',
      ),
    ];
  const addresses = trail.addresses.filter((address) => !trail.proxyAddresses.includes(address)).slice(0, ADDRESSES_TRIED);
  if (addresses.length === 0)
    return [
      skipped(
        where,
        'the name leads to the proxy, so that its answer has no address of the partner. If you know one: --only past-proxy --target https://ADDRESS',
      ),
    ];

  const tried = await Promise.all(
    addresses.map((address) => tools.connect(target.host, target.port, [address]).catch((error: unknown) => Fault.from(error))),
  );
  const reached: string[] = [];
  const closed: string[] = [];
  let first: Socket | null = null;
  tried.forEach((outcome, index) => {
    const address = addresses[index] ?? '';
    if (outcome instanceof Fault) {
      closed.push(`${address}: ${outcome.code}`);
      return;
    }
    reached.push(address);
    if (first === null) first = outcome;
    else outcome.destroy();
  });
  const socket = first as Socket | null;
  if (socket === null) return [ok(where, `cannot be reached past the proxy (${closed.join(', ')})`)];
  try {
    if (await acceptsAnything(examination)) return [await lookThroughSidecar(examination, socket)];
    const seen = `${reached.join(', ')} accepted a connection that was made without the proxy, and no sidecar answers for others here`;
    // Without an address to compare with, this may be the proxy itself.
    if (trail.proxyAddresses.length === 0)
      return [
        skipped(
          where,
          `${seen}: the name leads to the proxy, or nothing steers and this is a way past it. To compare, the doctor needs the address of the proxy: --proxy URL`,
        ),
      ];
    return [warn(where, 'reached-past-proxy', seen, CLOSE_IT)];
  } finally {
    socket.destroy();
  }
}

async function acceptsAnything({ target, tools, emptyAddress }: ClientExamination): Promise<boolean> {
  try {
    const socket = await tools.connect(emptyAddress, target.port);
    socket.destroy();
    return true;
  } catch {
    return false;
  }
}

/** TLS shows whether bytes are forwarded: a sidecar that permits only registered hosts closes the connection. */
async function lookThroughSidecar({ target, tls, tools, emptyAddress }: ClientExamination, socket: Socket): Promise<DoctorFinding> {
  const { where, host, port, scheme } = target;
  const sidecar = `a sidecar accepts connections to anything here, even to ${emptyAddress}`;
  if (scheme === 'http') return skipped(where, `${sidecar}, so that a connection shows nothing`, LOOK_IN_THE_LOG);
  try {
    const secured = await secure({
      socket,
      host,
      port,
      config: { ...tls },
      keys: 'the client',
      timeout: tools.timeout,
      signal: new AbortController().signal,
    });
    secured.destroy();
  } catch (error) {
    const { code } = Fault.from(error);
    // A certificate was shown: a server has answered.
    if (code !== 'tls-certificate') return ok(where, `cannot be reached past the proxy: ${sidecar}, and TLS through it fails (${code})`);
  }
  return warn(
    where,
    'reached-through-sidecar',
    `${sidecar}, and carried TLS to what has a certificate for it: through the proxy where the mesh steers it there, past it otherwise. From here the two look the same`,
    LOOK_IN_THE_LOG,
  );
}

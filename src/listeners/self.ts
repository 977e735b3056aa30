/**
 * Knows our own listeners, so that no request can be sent back to this very
 * proxy, whatever names or addresses lead there, and whenever they appeared.
 */
import type { AddressInfo, Socket } from 'node:net';
import { isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { ListenAddress } from '../config/config.ts';

/** Tells our own listeners from other addresses. */
export interface SelfCheck {
  /** A listener is bound. */
  readonly add: (address: AddressInfo) => void;
  /** Whether a canonical address and port is one of them. */
  readonly isSelf: (address: string, port: number) => boolean;
  /**
   * Whether a connection that we opened leads to one of them. The kernel gives
   * what stays on this host the address that it goes to, also where that is no
   * interface's (a local route for a whole range).
   * @param port that it goes to: partners seldom have one of ours, and then the system is not asked
   */
  readonly isOurs: (connected: Pick<Socket, 'localAddress' | 'remoteAddress'>, port: number) => boolean;
}

/** @param planned listeners yet to be bound: known from the start where their port is fixed */
export function createSelfCheck(planned: readonly ListenAddress[] = []): SelfCheck {
  const bound = new Map<number, Set<string>>();
  const everywhere = new Set<number>();
  const self: SelfCheck = {
    add({ address, port }) {
      if (address === '0.0.0.0' || address === '::') {
        everywhere.add(port);
        return;
      }
      const addresses = bound.get(port) ?? new Set();
      addresses.add(address);
      bound.set(port, addresses);
    },
    isSelf(address, port) {
      const addresses = bound.get(port);
      // Dialling the unspecified address reaches the loopback interface, whichever of its addresses the listener has.
      if (addresses !== undefined && (addresses.has(address) || address === '0.0.0.0' || address === '::')) return true;
      // Addresses come and go while we run. Partners seldom have a port of ours, so the system is seldom asked.
      return everywhere.has(port) && (isLocal(address) || isOnInterface(address));
    },
    isOurs: (connected, port) => everywhere.has(port) && connected.localAddress !== undefined && connected.localAddress === connected.remoteAddress,
  };
  for (const { host, port } of planned) if (port !== 0) self.add({ address: host, port, family: '' });
  return self;
}

/** Reaches this host without being any interface's address: all of 127/8, and the unspecified addresses. */
function isLocal(address: string): boolean {
  return isIPv6(address) ? address === '::1' || address === '::' : address.startsWith('127.') || address === '0.0.0.0';
}

function isOnInterface(address: string): boolean {
  return Object.values(networkInterfaces()).some((entries) => entries?.some((entry) => entry.address === address) === true);
}

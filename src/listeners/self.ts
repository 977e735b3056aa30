/**
 * Recognises the proxy's own listeners: no request is sent back to this proxy,
 * under any name or address, also one that appeared later.
 */
import type { AddressInfo, Socket } from 'node:net';
import { isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { ListenAddress } from '../config/config.ts';

/** Distinguishes the proxy's own listeners from other addresses. */
export interface SelfCheck {
  /** A listener is bound. */
  readonly add: (address: AddressInfo) => void;
  /** Whether this canonical address and port is one of them. */
  readonly isSelf: (address: string, port: number) => boolean;
  /**
   * Whether a connection that we opened leads to one of them. For connections
   * that stay on this host, the kernel uses the destination address as the
   * source, also if no interface has it (a local route for a whole range).
   * @param port destination port: usually not a port of our listeners, and then no system call is
   * made
   */
  readonly isOurs: (connected: Pick<Socket, 'localAddress' | 'remoteAddress'>, port: number) => boolean;
}

/** @param planned listeners not yet bound: known from the start where their port is fixed */
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
      // Dialling the unspecified address reaches the loopback interface, for any address of the listener.
      if (addresses !== undefined && (addresses.has(address) || address === '0.0.0.0' || address === '::')) return true;
      // Addresses may change at run time. Partners rarely use a port of our listeners, so the system call is rare.
      return everywhere.has(port) && (isLocal(address) || isOnInterface(address));
    },
    isOurs: (connected, port) =>
      everywhere.has(port) && connected.localAddress !== undefined && connected.localAddress === connected.remoteAddress,
  };
  for (const { host, port } of planned) if (port !== 0) self.add({ address: host, port, family: '' });
  return self;
}

/** Reaches this host without being an interface's address: all of 127/8, and the unspecified addresses. */
function isLocal(address: string): boolean {
  return isIPv6(address) ? address === '::1' || address === '::' : address.startsWith('127.') || address === '0.0.0.0';
}

function isOnInterface(address: string): boolean {
  return Object.values(networkInterfaces()).some((entries) => entries?.some((entry) => entry.address === address) === true);
}

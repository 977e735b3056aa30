/**
 * Knows our own listeners, so that no request can be sent back to this very
 * proxy, whatever names or addresses lead there.
 */
import type { AddressInfo } from 'node:net';
import { isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { ListenAddress } from '../config/config.ts';

export interface SelfCheck {
  /** A listener is bound. */
  add(address: AddressInfo): void;
  /** Whether a canonical address and port is one of them. */
  isSelf(address: string, port: number): boolean;
}

/** @param planned listeners yet to be bound: known from the start where their port is fixed */
export function createSelfCheck(planned: readonly ListenAddress[] = []): SelfCheck {
  const bound = new Map<number, Set<string>>();
  const everywhere = new Set<number>();
  let local = localAddresses();
  const self: SelfCheck = {
    add({ address, port }) {
      if (address === '0.0.0.0' || address === '::') {
        everywhere.add(port);
        // The addresses of a pod do not change while it runs, but may come after the process began.
        local = localAddresses();
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
      return everywhere.has(port) && (local.has(address) || isLocal(address));
    },
  };
  for (const { host, port } of planned) if (port !== 0) self.add({ address: host, port, family: '' });
  return self;
}

/** Reaches this host without being any interface's address: all of 127/8, and the unspecified addresses. */
function isLocal(address: string): boolean {
  return isIPv6(address) ? address === '::1' || address === '::' : address.startsWith('127.') || address === '0.0.0.0';
}

function localAddresses(): Set<string> {
  const found = new Set<string>();
  for (const entries of Object.values(networkInterfaces())) for (const { address } of entries ?? []) found.add(address);
  return found;
}

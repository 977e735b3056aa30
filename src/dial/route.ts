/** Which address of ours packets to a place would leave from, as the routing table says: nothing is sent. */
import { createSocket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import { Fault } from '../errors.ts';
import { errorCode } from './lookup.ts';
import { place } from './place.ts';

/**
 * Connecting a UDP socket asks the routing table and the local firewall, and
 * sends no packet (POSIX connect()). Leaves no socket behind.
 *
 * @param address IP literal
 * @throws {Fault} `unreachable`: there is no route
 */
export function findLocalAddress(address: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
    const fail = (error: Error): void => {
      socket.close();
      reject(new Fault('unreachable', `${place(address, port)}: ${errorCode(error) || error.message}`, { remedy: 'Check the routes of this host: none leads there.', cause: error }));
    };
    socket.once('error', fail);
    socket.once('connect', () => {
      const local = socket.address().address;
      socket.close();
      resolve(local);
    });
    // Given a callback, Node hands it the error in place of the event.
    socket.connect(port, address);
  });
}

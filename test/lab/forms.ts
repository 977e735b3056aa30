/** How a client tells curl to go through the proxy, for each form of request. */
import { ECO, PROXY_NAME } from './cast.ts';

/** Arguments by form, for a proxy at that address; each asks for /api/status. */
export function formsAt(at: string): Record<string, readonly string[]> {
  const steered = (host: string, port: number, to: number): string[] => ['--connect-to', `${host}:${port}:${at}:${to}`];
  return {
    'connect': ['--proxy', `http://${at}:3128`, `https://${ECO}/api/status`],
    'forward': ['--proxy', `http://${at}:3128`, `http://${ECO}/api/status`],
    'gateway': [`http://${at}:8080/eco/api/status`],
    'host-routed': [...steered(ECO, 80, 8080), `http://${ECO}/api/status`],
    'sni': [...steered(ECO, 443, 8443), `https://${ECO}/api/status`],
    'terminated': [...steered(PROXY_NAME, 8443, 8443), `https://${PROXY_NAME}:8443/eco/api/status`],
  };
}

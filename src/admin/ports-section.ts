/** The part of the status page about NAT ports: how many are in use, and which clients use them up. */
import { escapeHtml } from './html.ts';

export interface PortsInfo {
  /** NAT ports towards one address and port; null: not limited. */
  readonly limit: number | null;
  readonly destinations: ReadonlyMap<string, { readonly used: number; readonly highWater: number; readonly refused: number }>;
  /** By client: tunnels that were over soon, most first. */
  readonly shortTunnels: readonly (readonly [client: string, tunnels: number])[];
}

const CLIENTS_SHOWN = 10;

export function renderPorts({ limit, destinations, shortTunnels }: PortsInfo): string {
  const of = limit === null ? 'They are counted, and not limited: <code>nat.ports</code> is not set.' : `There are ${limit} towards each address and port.`;
  const rows = [...destinations].map(([name, { used, highWater, refused }]) => row(name, used, highWater, refused));
  const use = rows.length === 0 ? '<p>None has been used yet.</p>' : `<table><tr><th>Destination</th><th>In use</th><th>Most so far</th><th>Refused</th></tr>${rows.join('')}</table>`;
  return `<h2>NAT ports</h2><p>${of}</p>${use}${clients(shortTunnels)}`;
}

function clients(shortTunnels: PortsInfo['shortTunnels']): string {
  if (shortTunnels.length === 0) return '';
  const rows = shortTunnels.slice(0, CLIENTS_SHOWN).map(([client, tunnels]) => row(client, tunnels));
  return (
    '<p>These clients open tunnels that are over within 30 seconds, and so take a port for each request or two. By the gateway, or with a connection that they keep, they would share a few:</p>' +
    `<table><tr><th>Client</th><th>Short tunnels</th></tr>${rows.join('')}</table>`
  );
}

function row(name: string, ...numbers: number[]): string {
  return `<tr><td>${escapeHtml(name)}</td>${numbers.map((number) => `<td>${number}</td>`).join('')}</tr>`;
}

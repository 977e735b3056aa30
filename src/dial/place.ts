/** How a message names the place that is dialled. */

/** `host:port`, an IPv6 literal in brackets (RFC 3986 §3.2.2). */
export function place(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

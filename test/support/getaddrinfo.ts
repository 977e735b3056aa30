/**
 * What the system's resolver takes for an address, without asking any server:
 * getaddrinfo with AI_NUMERICHOST. `dns.lookup` has no such flag, and answers
 * for texts that it knows itself, so this calls what is under it.
 */
interface Request {
  oncomplete?: (error: number | null, addresses: string[] | null) => void;
}

interface Binding {
  readonly GetAddrInfoReqWrap: new () => Request;
  getaddrinfo(request: Request, hostname: string, family: number, hints: number, order: number): number;
}

/** RFC 3493 §6.1; the same number on Linux and macOS. */
const AI_NUMERICHOST = 4;

const binding = (process as unknown as { binding(name: string): unknown }).binding('cares_wrap') as Binding;

/** Null when the text is no address to the resolver: it would ask DNS. */
export function readAsAddress(text: string): Promise<string | null> {
  return new Promise((resolve, reject) => {
    const request = new binding.GetAddrInfoReqWrap();
    request.oncomplete = (error, addresses) => {
      resolve(error === null || error === 0 ? (addresses?.[0] ?? null) : null);
    };
    const code = binding.getaddrinfo(request, text, 0, AI_NUMERICHOST, 0);
    if (code !== 0) reject(new Error(`getaddrinfo could not be asked: ${code}`));
  });
}

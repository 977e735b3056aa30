/** The address in an echo endpoint's answer: the whole text, or a member of a JSON document. Pure. */
import { Fault } from '../errors.ts';
import { classifyAddress } from '../policy/address-class.ts';
import { quote } from '../target/quote.ts';

/**
 * @param field `ip`, or `client.ip` for a member inside another; null: the body is the address
 * @returns canonical text, by which addresses can be compared
 * @throws {Fault} upstream-malformed
 */
export function readAnswer(body: string, field: string | null): string {
  const text = field === null ? body : readMember(body, field);
  const address = classifyAddress(text.trim());
  if (address !== null) return address.canonical;
  const looksLikeJson = field === null && body.trimStart().startsWith('{');
  throw malformed(
    field === null ? `the answer ${quote(body)} is not one IP address` : `${field} of the answer is ${quote(text)}, which is not one IP address`,
    looksLikeJson ? 'Name the member that holds the address in sourceIp.probe.field.' : 'Take an endpoint that answers with the address alone, or name a JSON member in sourceIp.probe.field.',
  );
}

function readMember(body: string, field: string): string {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    throw malformed(`the answer ${quote(body)} is not JSON`, 'Take sourceIp.probe.field out if the endpoint answers with the address alone.');
  }
  for (const name of field.split('.')) {
    value = typeof value === 'object' && value !== null && Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined;
  }
  if (typeof value === 'string') return value;
  throw malformed(`the answer ${quote(body)} has no text at ${field}`, 'Correct sourceIp.probe.field.');
}

function malformed(what: string, remedy: string): Fault {
  return new Fault('upstream-malformed', what, { remedy });
}

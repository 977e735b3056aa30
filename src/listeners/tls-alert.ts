/** The TLS alerts that we send without a TLS session of our own: the client's handshake fails with a reason. */

/** RFC 8446 §5.1, §6: record type 21, the version every client of ours accepts, two bytes, fatal. */
const FATAL_ALERT = [21, 3, 3, 0, 2, 2] as const;
/** RFC 6066 §9. */
const UNRECOGNISED_NAME = 112;

/** `unrecognized_name`: the server name is not one that we let pass. */
export function unrecognisedName(): Buffer {
  return Buffer.from([...FATAL_ALERT, UNRECOGNISED_NAME]);
}

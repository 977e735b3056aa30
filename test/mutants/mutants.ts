/**
 * Guards of the source, each as a sloppy change would leave it, by the
 * invariant of docs/invariants.md that rests on it. `npm run mutants` tries
 * them. Who adds a guard adds its mutant here (CONTRIBUTING.md).
 */
import type { Mutant } from './mutant.ts';

const mutant = (name: string, file: string, tests: string | readonly string[], text: string, becomes: string): Mutant => ({ name, file, tests: typeof tests === 'string' ? [tests] : tests, text, becomes });

/** Heading and mutants of each invariant. */
export const INVARIANTS: readonly (readonly [heading: string, mutants: readonly Mutant[]])[] = [
  [
    '1. Nothing goes out before this very request was allowed',
    [
      mutant('denial-not-thrown', 'src/egress.ts', 'test/egress.test.ts', "if (verdict.verdict === 'deny') throw new Denial(ask, verdict);", ''),
      mutant('te-with-content-length', 'src/http1/request-head.ts', 'test/http1/request-head.test.ts', "if (lengths.length > 0) throw new MessageError('framing', 'the request has both", "if (lengths.length > 9) throw new MessageError('framing', 'the request has both"),
      mutant('connect-with-content', 'src/listeners/http-forms.ts', 'test/hostile/framing.test.ts', "if (head.method === 'CONNECT' && head.framing.kind !== 'none') throw", 'if (head === null) throw'),
      mutant('early-data-not-held', 'src/listeners/client-connection.ts', 'test/integration/tunnel.test.ts', 'if (leaves) this.#hold(chunk, at);', ''),
      mutant('connect-answered-before-dial', 'src/listeners/request-context.ts', 'test/integration/refusals.test.ts', '    if (this.head === null) this.connection.detach();\n', '    if (this.head === null) this.connection.detach();\n    if (this.head !== null) this.connection.socket.write("HTTP/1.1 200 Connection Established\\r\\n\\r\\n");\n'),
      mutant('hello-not-awaited', 'src/listeners/tls-listener.ts', 'test/listeners/tls-listener.test.ts', 'const head = reader.earlier.length === 0 ? chunk : Buffer.concat([reader.earlier, chunk]);', 'const head = chunk;'),
      mutant('two-content-lengths', 'src/http1/request-head.ts', 'test/http1/request-head.test.ts', "if (lengths.length > 1) throw new MessageError('framing'", "if (lengths.length > 9) throw new MessageError('framing'"),
      mutant('content-length-with-sign', 'src/http1/request-head.ts', 'test/http1/request-head.test.ts', 'const CONTENT_LENGTH = /^\\d{1,15}$/;', 'const CONTENT_LENGTH = /^\\+?\\d{1,15}$/;'),
      mutant('coding-besides-chunked', 'src/http1/request-head.ts', 'test/http1/request-head.test.ts', "if (codings.length > 1 || codings[0]?.toLowerCase() !== 'chunked')", "if (!codings.join().toLowerCase().endsWith('chunked'))"),
      mutant('chunked-in-http-1.0', 'src/http1/request-head.ts', 'test/http1/request-head.test.ts', "if (version !== '1.1') throw new MessageError('framing'", "if (version === '') throw new MessageError('framing'"),
      mutant('folded-line', 'src/http1/fields.ts', 'test/http1/fields.test.ts', "if (!lenient || name === '' || !VALUE.test(line))", "if (name === '' || !VALUE.test(line))"),
      mutant('bare-lf-in-fields', 'src/http1/fields.ts', 'test/http1/fields.test.ts', "else if (!lenient) throw new MessageError('malformed', 'a line ends in LF without CR');", ''),
      mutant('bare-lf-in-section', 'src/http1/head-reader.ts', 'test/http1/head-reader.test.ts', 'if (end === -1) refuseBareLf(bytes, searched);', ''),
      mutant('blank-before-colon', 'src/http1/fields.ts', 'test/http1/fields.test.ts', 'lenient ? trimEnd(text, at, colon) : colon', 'trimEnd(text, at, colon)'),
      mutant('control-character-in-value', 'src/http1/fields.ts', 'test/http1/fields.test.ts', 'const VALUE = /^[\\t\\x20-\\x7e\\x80-\\xff]*$/;', 'const VALUE = /^[^\\r\\n]*$/;'),
      mutant('bare-lf-in-chunks', 'src/http1/body-reader.ts', 'test/http1/body-reader.test.ts', "if (!ended && (!this.#options.lenient || this.#expects === 'chunk-end'))", "if (!ended && this.#expects === 'chunk-end')"),
      mutant('two-hosts', 'src/targets/request-target.ts', 'test/targets/request-target.test.ts', 'if (hostHeaders.length > 1) {', 'if (hostHeaders.length > 9) {'),
      mutant('tunnels-not-judged-on-reload', 'src/service.ts', 'test/reload/reload.test.ts', 'if (request.recheck((permit, address) => this.#egress.revoked(permit, address, now))) cut += 1;', ''),
      mutant('proof-never-lapses', 'src/identity/authenticator.ts', 'test/identity/authenticator.test.ts', "lapsed: () => (holds() ? null : 'the password has been changed or taken away')", 'lapsed: () => null'),
      mutant('pools-survive-their-terms', 'src/egress.ts', 'test/egress.test.ts', 'return before.policy.mode === terms.policy.mode && next !== undefined &&', 'return next !== undefined &&'),
      mutant('reload-during-dial', 'src/egress.ts', 'test/resilience/shares.test.ts', "const revoked = terms === this.#options ? null : this.revoked(permit, dialled.address ?? UNRESOLVED, Date.now());", 'const revoked = null as Fault | null;'),
    ],
  ],
  [
    '2. The address dialled is the address checked',
    [
      mutant('one-good-address-is-enough', 'src/dial/dial.ts', 'test/dial/dialler.test.ts', 'if (permitted.length > 0 || first === undefined) return permitted;', 'if (permitted.length > 0 || first === undefined) return addresses;'),
      mutant('only-address-not-asked-about', 'src/dial/dial.ts', 'test/dial/dialler.test.ts', 'if (refusal !== null) throw refusal;', ''),
      mutant('all-addresses-dialled', 'src/dial/dialler.ts', 'test/dial/dialler.test.ts', 'addresses: permitted, timeout: timeouts.connect', 'addresses, timeout: timeouts.connect'),
      mutant('parent-address-not-judged', 'src/dial/hops.ts', 'test/dial/hops.test.ts', 'addresses: permitted, timeout: hop.connect', 'addresses, timeout: hop.connect'),
      mutant('metadata-range-lost', 'src/policy/address-class.ts', ['test/policy/address-class.test.ts', 'test/hostile/guards.test.ts'], "  range('168.63.129.16/32', 'metadata', 'Azure platform services'),\n", ''),
      mutant('private-is-public', 'src/policy/address-guard.ts', 'test/policy/address-guard.test.ts', "if (known.class === 'public') return null;\n    return new Fault(", "if (known.class === 'public' || known.class === 'private') return null;\n    return new Fault("),
      mutant('nat64-not-looked-into', 'src/policy/address-class.ts', 'test/policy/address-class.test.ts', "if (is(NAT64)) return { via: 'nat64', addresses: [last] };", ''),
      mutant('teredo-half-looked-into', 'src/policy/address-class.ts', 'test/policy/address-class.test.ts', 'addresses: [v4(b, 4), v4(b.map((byte) => byte ^ 0xff), 12)]', 'addresses: [v4(b, 4)]'),
      mutant('zone-id-taken', 'src/targets/ip-address.ts', 'test/policy/address-class.test.ts', "if (isIP(text) === 0 || text.includes('%')) return null;", 'if (isIP(text) === 0) return null;'),
      mutant('report-mode-widens-to-all', 'src/policy/address-guard.ts', 'test/policy/address-guard.test.ts', "if (mode === 'report' && known.class === 'public') return null;", "if (mode === 'report') return null;"),
      mutant('ourselves-where-listed', 'src/policy/address-guard.ts', 'test/policy/address-guard.test.ts', 'if (isSelf(known.canonical, port)) {', 'if (ranges === null && isSelf(known.canonical, port)) {'),
      mutant('ourselves-as-parent', 'src/policy/address-guard.ts', 'test/policy/hop-guard.test.ts', "if (isSelf(known.canonical, port)) return new Fault('loop'", "if (ranges === null && isSelf(known.canonical, port)) return new Fault('loop'"),
      mutant('loopback-is-not-us', 'src/listeners/self.ts', 'test/listeners/self.test.ts', '(isLocal(address) || isOnInterface(address))', 'isOnInterface(address)'),
      mutant('connected-to-ourselves', 'src/dial/connect.ts', 'test/dial/connect.test.ts', 'if (isOurs?.(socket, port) === true) {', 'if (isOurs === null) {'),
      mutant('own-via-not-known', 'src/listeners/http-forms.ts', 'test/integration/fields.test.ts', 'if (viaNames(via, config.name)) {', 'if (via.length > 9 && viaNames(via, config.name)) {'),
      mutant('own-via-last-only', 'src/relay/headers.ts', 'test/relay/headers.test.ts', 'for (const value of via) {', 'for (const value of via.slice(-1)) {'),
      mutant('tls-not-verified', 'src/dial/tls.ts', 'test/dial/tls.test.ts', 'rejectUnauthorized: true', 'rejectUnauthorized: false'),
      mutant('any-name-in-certificate', 'src/dial/tls.ts', 'test/dial/tls.test.ts', '      rejectUnauthorized: true,\n', '      rejectUnauthorized: true,\n      checkServerIdentity: () => undefined,\n'),
      mutant('session-of-another-name', 'src/dial/tls.ts', 'test/dial/tls.test.ts', 'const sessionKey = `${name}:${port}`;', 'const sessionKey = `${port}`;'),
    ],
  ],
  [
    '3. Every listener and every form enforce the same policy',
    [
      mutant('rules-of-everybody', 'src/policy/decide.ts', 'test/policy/decide.test.ts', 'for (const candidate of client.rules[index] ?? []) {', 'for (const candidate of policy.rules) {'),
      mutant('port-not-judged', 'src/policy/decide.ts', 'test/policy/decide.test.ts', 'if (destination.ports.has(ask.port)) {', 'if (ask.port > 0) {'),
      mutant('form-not-judged', 'src/policy/decide.ts', 'test/policy/decide.test.ts', 'if (destination.forms.has(ask.form)) {', 'if (destination.forms.size > 0) {'),
      mutant('method-not-judged', 'src/policy/decide.ts', 'test/policy/decide.test.ts', '!methods.has(ask.method)) return denyMethod(', "!methods.has(ask.method) && ask.form === 'gateway') return denyMethod("),
      mutant('two-readings-of-a-path', 'src/policy/decide.ts', 'test/policy/decide.test.ts', 'if (ambiguity !== null) return denyAmbiguity(ask, ambiguity, client.config, config);', ''),
      mutant('gateway-path-not-read', 'src/policy/decide.ts', 'test/policy/decide.test.ts', "if (paths === null && ask.form !== 'gateway') return null;", 'if (paths === null) return null;'),
      mutant('report-mode-spreads', 'src/policy/decide.ts', 'test/policy/report-mode.test.ts', "if (policy.mode !== 'report' && destination?.config.report !== true && reporting === undefined) return would;", ''),
      mutant('rule-has-no-end', 'src/policy/rule-match.ts', 'test/policy/rules.test.ts', "if (ask.now >= rule.until) return 'late';", ''),
      mutant('tunnel-under-listed-paths', 'src/policy/rule-match.ts', 'test/policy/rules.test.ts', "if (tunnel || ask.path === null) return 'hidden';", 'if (tunnel || ask.path === null) return null;'),
      mutant('one-kind-of-client-is-enough', 'src/policy/client-table.ts', 'test/policy/client-table.test.ts', 'if (addresses !== null && addresses.find(peer.address) === -1) return false;', ''),
      mutant('suffix-without-dot', 'src/policy/host-table.ts', 'test/policy/host-table.test.ts', 'const own = names.get(host);', 'const own = names.get(host) ?? suffixes.get(host);'),
      mutant('listener-takes-every-form', 'src/listeners/http-forms.ts', 'test/integration/forms.test.ts', '  if (forms.includes(form)) return;\n', '  if (forms.length > 0) return;\n'),
      mutant('dot-segment-passes', 'src/targets/path.ts', 'test/targets/path.test.ts', "if (!others && (dots === 1 || dots === 2)) return 'has a dot segment';\n      if", "if (!others && dots === 1) return 'has a dot segment';\n      if"),
      mutant('backslash-passes', 'src/targets/path.ts', 'test/targets/path.test.ts', "if (code === BACKSLASH) return 'has a backslash';", ''),
      mutant('encoded-twice-passes', 'src/targets/path.ts', 'test/targets/path.test.ts', 'return isDoubleEncoded(path, at) ?', 'return isDoubleEncoded(path, path.length) ?'),
      mutant('parameter-hides-dots', 'src/targets/path.ts', 'test/targets/path.test.ts', 'if (code === SEMICOLON) parameters = true;', 'if (code === SEMICOLON) others = true;'),
      mutant('another-name-inside-the-tunnel', 'src/listeners/fronting-guard.ts', 'test/listeners/fronting-guard.test.ts', 'if (serverName === host) return null;', 'if (serverName !== null) return null;'),
      mutant('second-hello-not-looked-at', 'src/listeners/fronting-guard.ts', 'test/integration/fronting.test.ts', 'return this.#over || this.#tls.settled;', 'return this.#over || this.#tls.hellos > 0 || this.#tls.settled;'),
      mutant('forwarded-for-of-anybody', 'src/listeners/trusted-peers.ts', 'test/listeners/trusted-peers.test.ts', 'if (believe.length === 0 || !isTrusted(own.address)) return own;', 'if (believe.length === 0) return own;'),
      mutant('forwarded-for-leftmost', 'src/identity/forwarded.ts', 'test/identity/forwarded.test.ts', 'if (address === null || !trusted(address)) return address;', 'if (address === null) return address;'),
      mutant('client-cert-field-first', 'src/identity/forwarded.ts', 'test/identity/forwarded.test.ts', "if (separator.startsWith(',')) pairs = [];", ''),
      mutant('proxy-header-of-a-stranger', 'src/listeners/connection-gate.ts', 'test/integration/peers.test.ts', "if (listener.proxyProtocol === 'off' || !this.#peers.trusts(connection.peer)) {", "if (listener.proxyProtocol === 'off') {"),
      mutant('proxy-header-left-out', 'src/listeners/proxy-protocol.ts', 'test/listeners/proxy-protocol.test.ts', "  return malformedHeader(`the connection begins with", "  if (bytes.length > 0) return { address: null, port: 0, length: 0 };\n  return malformedHeader(`the connection begins with"),
      mutant('token-without-expiry', 'src/identity/tokens.ts', 'test/identity/tokens.test.ts', "requiredClaims: ['exp', 'sub'],", "requiredClaims: ['sub'],"),
      mutant('token-long-expired', 'src/identity/tokens.ts', 'test/identity/tokens.test.ts', 'const TOLERANCE = 30;', 'const TOLERANCE = 3600;'),
      mutant('token-for-others', 'src/identity/tokens.ts', 'test/identity/tokens.test.ts', '              audience: [...audiences],\n', ''),
      mutant('token-without-signature', 'src/identity/tokens.ts', 'test/identity/tokens.test.ts', "const ALGORITHMS = ['RS256',", "const ALGORITHMS = ['none', 'HS256', 'RS256',"),
      mutant('token-of-a-withdrawn-key', 'src/identity/tokens.ts', 'test/identity/tokens.test.ts', 'stillHolds: () => keys.has(found.id) && inForce(source),', 'stillHolds: () => inForce(source),'),
      mutant('wrong-password-taken', 'src/identity/authenticator.ts', 'test/identity/authenticator.test.ts', 'if (known === undefined || !matches) {', 'if (known === undefined) {'),
      mutant('changed-password-still-good', 'src/identity/authenticator.ts', 'test/identity/credential-cache.test.ts', '(entry.stillHolds === null || entry.stillHolds())', 'entry.until > 0'),
      mutant('password-compared-byte-by-byte', 'src/identity/proxy-authorization.ts', 'test/identity/basic.test.ts', 'return timingSafeEqual(await derive(password, known, known.salt, known.hash.length), known.hash);', 'return (await derive(password, known, known.salt, known.hash.length)).equals(known.hash);'),
      mutant('unknown-user-costs-nothing', 'src/identity/authenticator.ts', 'test/identity/authenticator.test.ts', 'if (users.size === 0) return WRONG;', 'if (!users.has(user)) return WRONG;'),
      mutant('certificate-not-verified', 'src/listeners/tls-terminator.ts', 'test/listeners/tls-listener-ended.test.ts', 'if (socket.authorized) return', 'if (certificate.validFromDate.getTime() > 0) return'),
      mutant('revoked-certificate-goes-on', 'src/identity/revocation.ts', 'test/identity/revocation.test.ts', 'list.issuer === issuer && list.revoked.has(serial)', 'list.issuer !== issuer && list.revoked.has(serial)'),
    ],
  ],
  [
    '4. A refusal says why: to the client, in the log, in a counter',
    [
      mutant('no-proxy-status', 'src/listeners/refuse.ts', 'test/listeners/refuse.test.ts', "'Proxy-Status', proxyStatus(fault, name), ", ''),
      mutant('no-remedy', 'src/listeners/refuse.ts', 'test/listeners/refuse.test.ts', '    ...(remedy === null ? {} : { remedy }),\n', ''),
      mutant('unread-request-logged-as-good', 'src/listeners/request-context.ts', 'test/hostile/protocols.test.ts', '  record.client = clientName(record.clientAddress);\n  record.noteFault(fault);\n', '  record.client = clientName(record.clientAddress);\n'),
      mutant('two-lines-for-one-end', 'src/listeners/request-context.ts', 'test/hostile/boundary.test.ts', 'if (this.#told) return;', ''),
      mutant('report-not-told', 'src/egress.ts', 'test/egress.test.ts', "if (verdict.verdict === 'report') record.noteReported(verdict.would.code, verdict.would.detail);", ''),
      mutant('denied-counts-as-failed', 'src/telemetry/access-record.ts', 'test/telemetry/outcome.test.ts', "if (isRefusal(code)) return 'denied';", ''),
    ],
  ],
  [
    '5. What a client sends becomes no label, and no line unescaped',
    [
      mutant('text-not-escaped', 'src/telemetry/safe-text.ts', 'test/telemetry/create-telemetry.test.ts', 'const PLAIN_TEXT = /^[ !#-[\\]-~]*$/;', 'const PLAIN_TEXT = /^[^"]*$/;'),
      mutant('terminal-controls-pass', 'src/telemetry/safe-text.ts', 'test/telemetry/safe-text.test.ts', 'return UNSAFE.test(json) ? json.replace(ALL_UNSAFE, escape) : json;', 'return json;'),
      mutant('path-not-bounded', 'src/telemetry/logger.ts', 'test/telemetry/create-telemetry.test.ts', 'jsonText(bound(record.path, MAX_LOGGED_PATH))', 'jsonText(record.path)'),
      mutant('line-break-in-status-line', 'src/listeners/refuse.ts', 'test/listeners/refuse.test.ts', "return text.replace(/[^\\x20-\\x7e]/g, '?');", 'return text;'),
      mutant('any-client-as-label', 'src/telemetry/cells.ts', 'test/telemetry/metrics.test.ts', "return this.denials.has(client) ? client : '-';", 'return client;'),
      mutant('any-destination-as-label', 'src/telemetry/cells.ts', 'test/telemetry/metrics.test.ts', 'return this.destinations.get(name) ?? this.#unknown;', 'const known = this.destinations.get(name) ?? new DestinationCells([]);\n    this.destinations.set(name, known);\n    return known;'),
    ],
  ],
  [
    '6. Credentials stop at the hop they are for',
    [
      mutant('proxy-authorization-crosses', 'src/relay/headers.ts', ['test/relay/headers.test.ts', 'test/hostile/exposure.test.ts'], "  ['proxy-authorization', 'drop'],\n", ''),
      mutant('proxy-authorization-in-trailers', 'src/relay/headers.ts', 'test/relay/headers.test.ts', '!REQUEST_ACTIONS.has(lower) && cross(lower)', 'cross(lower)'),
      mutant('challenge-of-the-partner', 'src/relay/headers.ts', 'test/relay/headers.test.ts', "  'proxy-authenticate',\n", ''),
      mutant('claim-of-the-client-crosses', 'src/relay/headers.ts', 'test/relay/headers.test.ts', 'return !isClaim(read) || matchesField(keep, read);', "return read !== '';"),
      mutant('forwarded-for-crosses', 'src/relay/headers.ts', 'test/relay/headers.test.ts', "if (action === 'x-forwarded') return xForwarded !== 'off';", "if (action === 'x-forwarded') return true;"),
      mutant('name-with-underscore-crosses', 'src/relay/headers.ts', 'test/relay/headers.test.ts', 'if (read !== name && REQUEST_ACTIONS.has(read)) return false;', ''),
      mutant('nominated-field-crosses', 'src/relay/headers.ts', 'test/relay/headers.test.ts', 'if (hop?.has(lower) === true) continue;', ''),
      mutant('trace-shows-credentials', 'src/listeners/http-forms.ts', 'test/integration/final-recipient.test.ts', '/^(?:proxy-)?authorization$|^cookie$/i', '/^cookie$/i'),
      mutant('parent-repeats-a-secret', 'src/dial/connect-request.ts', 'test/dial/connect-request.test.ts', '  if (credentials === null) return text;\n', '  if (credentials !== undefined) return text;\n'),
      mutant('userinfo-in-a-message', 'src/targets/quote.ts', 'test/targets/quote.test.ts', 'const shown = at < start ? text :', 'const shown = at !== -2 ? text :'),
      mutant('secret-in-settings', 'src/config/settings.ts', 'test/admin/config-routes.test.ts', 'if (SECRETS.has(schema)) return HIDDEN;', ''),
      mutant('password-in-url-of-settings', 'src/config/settings.ts', 'test/config/settings.test.ts', "typeof value === 'string' ? hideInUrl(value) : (value ?? null)", 'value ?? null'),
    ],
  ],
  [
    '7. A broken upstream response never looks whole',
    [
      mutant('cut-becomes-an-end', 'src/listeners/request-context.ts', 'test/hostile/upstream.test.ts', '    this.connection.cut();\n', '    this.connection.complete([]);\n'),
      mutant('close-for-http-1.0', 'src/listeners/client-connection.ts', 'test/hostile/upstream.test.ts', "if (this.httpVersion === '1.0') resetSocket(this.socket);", ''),
      mutant('short-of-its-length', 'src/relay/upstream-connection.ts', 'test/relay/upstream-connection.test.ts', 'if (handler === null || this.#head === null || !this.#body.end())', 'if (handler === null || this.#head === null)'),
      mutant('reset-becomes-an-end', 'src/relay/upstream-connection.ts', 'test/relay/upstream-connection.test.ts', 'if (this.#error !== null) handler.onBroken(this.#cut(this.#error));\n    else handler', 'handler'),
      mutant('bytes-left-over', 'src/relay/upstream-connection.ts', 'test/relay/upstream-connection.test.ts', 'if (at < chunk.length) this.#reusable = false;', ''),
      mutant('bytes-out-of-turn', 'src/relay/upstream-connection.ts', 'test/hostile/upstream.test.ts', '        this.#reusable = false;\n        this.#socket.destroy();\n        return;\n', '        return;\n'),
      mutant('request-unfinished-and-reused', 'src/relay/upstream-connection.ts', 'test/relay/upstream-connection.test.ts', 'if (!this.#requestDone) this.#reusable = false;', ''),
      mutant('response-te-with-length', 'src/http1/response-head.ts', 'test/http1/response-head.test.ts', "if (lengths.length > 0) throw new MessageError('framing'", "if (lengths.length > 9) throw new MessageError('framing'"),
      mutant('response-lengths-differ', 'src/http1/response-head.ts', 'test/http1/response-head.test.ts', 'if (values.some((value) => value !== length)) throw', 'if (values.length > 9) throw'),
      mutant('chunk-ends-anywhere', 'src/http1/body-reader.ts', 'test/http1/body-reader.test.ts', "if (this.#expects === 'chunk-end' && this.#line !== '' && this.#line !== '\\r') throw", "if (this.#expects === 'content') throw"),
      mutant('post-sent-twice', 'src/relay/exchange.ts', 'test/integration/reuse.test.ts', 'const idempotent = IDEMPOTENT.has(plan.method);', "const idempotent = plan.method !== '';"),
      mutant('sent-again-and-again', 'src/relay/replay.ts', 'test/relay/replay.test.ts', 'return this.#repeatable && !this.#retried && this.#budget.allowsRetry;', 'return this.#repeatable && this.#budget.allowsRetry;'),
      mutant('tunnel-reset-becomes-an-end', 'src/relay/failed-writes.ts', 'test/relay/reset.test.ts', 'else connection.resetAndDestroy();', 'else connection.destroy();'),
      mutant('tunnel-half-close-cuts', 'src/relay/tunnel.ts', 'test/integration/tunnel.test.ts', 'else other.end();', 'else other.destroy();'),
    ],
  ],
  [
    '8. A bad configuration never replaces a good one',
    [
      mutant('faults-overlooked', 'src/config/load.ts', 'test/config/faults.test.ts', 'if (tree === null || config === null || faults.found.length > 0)', 'if (tree === null || config === null)'),
      mutant('refused-reload-applied', 'src/service.ts', 'test/reload/reload.test.ts', 'if (config.reload.refuseIfDenies && changes.newlyDenied.length > 0) return refuseDenials(changes);', ''),
      mutant('refusal-not-shown', 'src/reload/outcome.ts', 'test/reload/reload.test.ts', "['The latest configuration was refused; the previous one stays active.', ...outcome.reasons]", '[]'),
      mutant('reload-asked-from-elsewhere', 'src/admin/routes.ts', 'test/cli/reload.test.ts', 'if (!isFromThisHost(request)) return refuse(403,', "if (request.ip === '') return refuse(403,"),
      mutant('reload-asked-by-another-site', 'src/admin/callers.ts', 'test/admin/caller.test.ts', "if (site === undefined || site === 'same-origin' || site === 'none') return false;", "if (site !== 'cross-origin') return false;"),
      mutant('admin-by-any-name', 'src/admin/callers.ts', 'test/admin/caller.test.ts', 'if (host !== undefined && !isOurs(host, hosts)) {', "if (host === '') {"),
    ],
  ],
  [
    '9. Shutdown loses no request that was accepted before the deadline',
    [
      mutant('drain-cuts-the-busy', 'src/listeners/client-connection.ts', 'test/listeners/client-connection.test.ts', "if (this.#stage === 'opening' || this.#stage === 'silent' || (this.#stage === 'idle' && this.#rest === null)) this.destroy();", 'this.destroy();'),
      mutant('drain-accepts-on', 'src/service.ts', 'test/integration/service.test.ts', '    this.#listeners?.stop();\n    this.#egress.retire();\n', '    this.#egress.retire();\n'),
      mutant('drain-not-told', 'src/service.ts', 'test/integration/service.test.ts', "if (this.#environment.draining) reasons.push('The proxy is draining.');", ''),
      mutant('drain-without-delay', 'src/service.ts', 'test/integration/service.test.ts', 'await delay(drainDelay, undefined, { signal }).catch(ignoreAbort);', ''),
      mutant('cut-without-a-word', 'src/service.ts', 'test/integration/service.test.ts', '    for (const request of requests) request.connection.guard(() => { request.cut(cut); });\n', ''),
    ],
  ],
  [
    '10. Every socket has an owner that closes it, and a clock that would',
    [
      mutant('headers-without-a-clock', 'src/listeners/client-connection.ts', 'test/listeners/client-connection.test.ts', "      case 'silent':\n      case 'head':\n        return timeouts.requestHeaders;", "      case 'silent':\n      case 'head':\n        return Infinity;"),
      mutant('last-answer-without-a-clock', 'src/listeners/client-connection.ts', 'test/listeners/client-connection.test.ts', "return this.socket.writableLength > 0 ? timeouts.body : LINGER;", 'return Infinity;'),
      mutant('silent-tunnel-stays', 'src/listeners/client-connection.ts', 'test/listeners/client-connection.test.ts', "if (this.#stage === 'busy' || this.#stage === 'detached') this.request?.stalled();", "if (this.#stage === 'busy') this.request?.stalled();"),
      mutant('old-tunnel-stays', 'src/relay/tunnel.ts', 'test/relay/keep-alive.test.ts', 'if (now - this.#since >= age) {', 'if (age < 0) {'),
      mutant('place-not-given-back', 'src/limits.ts', 'test/limits.test.ts', 'this.#total[kind] -= 1;', ''),
      mutant('permit-not-released', 'src/listeners/request-context.ts', 'test/integration/limits.test.ts', 'this.#permit?.release();', ''),
      mutant('connection-counted-for-ever', 'src/listeners/connection-gate.ts', 'test/listeners/connection-gate.test.ts', '    this.#open -= 1;\n', ''),
      mutant('connections-without-end', 'src/listeners/connection-gate.ts', 'test/listeners/connection-gate.test.ts', 'if (this.#open >= connections) return reached(', 'if (this.#open < 0) return reached('),
    ],
  ],
  [
    '11. Nothing that a client, a partner, a disk or a terminal does ends the process',
    [
      mutant('handler-throws-on', 'src/relay/upstream-connection.ts', 'test/relay/upstream-connection.test.ts', 'else this.#crash(handler, error);', 'else throw error;'),
      mutant('request-throws-on', 'src/listeners/client-connection.ts', 'test/listeners/client-connection.test.ts', 'if (error instanceof MessageError) this.#onMessageError(error);\n      else this.crash(error);', 'if (error instanceof MessageError) this.#onMessageError(error);\n      else throw error;'),
      mutant('tunnel-throws-on', 'src/relay/tunnel-events.ts', 'test/hostile/boundary.test.ts', '    } catch (error) {\n      tunnel.crashed(error);', '    } catch (error) {\n      throw error;'),
      mutant('dial-of-the-gone-relayed', 'src/listeners/request-context.ts', 'test/listeners/request-context.test.ts', 'if (this.ended) upstream.destroy();\n          else this', 'this'),
      mutant('next-request-read-meanwhile', 'src/listeners/client-connection.ts', 'test/listeners/client-connection.test.ts', "          if (this.#body === null || this.#body.done || this.#paused) {\n            this.#hold(chunk, at);\n            return;\n          }\n", "          if (this.#body === null || this.#body.done || this.#paused) {\n            this.#enter('head');\n            break;\n          }\n"),
    ],
  ],
  [
    "12. What one client has is not another's",
    [
      mutant('ntlm-connection-not-pinned', 'src/relay/exchange.ts', 'test/hostile/boundary.test.ts', 'if (head.authenticatesConnection || plan.authenticatesConnection) this.#pin();', ''),
      mutant('pinned-connection-given-back', 'src/relay/exchange.ts', 'test/hostile/boundary.test.ts', 'if (connection !== null && !(connection.pinned && connection.reusable)) this', 'if (connection !== null) this'),
      mutant('ntlm-not-recognised', 'src/http1/response-head.ts', 'test/http1/response-head.test.ts', "return /^[ \\t]*(?:ntlm|negotiate)(?:[ \\t,]|$)/i.test(value) ||", 'return'),
      mutant('pool-of-two-destinations', 'src/egress.ts', 'test/egress.test.ts', 'const key = `${destination.name} ${origin.scheme}', 'const key = `${origin.scheme}'),
      mutant('pool-of-two-named-clients', 'src/egress.ts', 'test/integration/proxied-upstream.test.ts', "const client = destination.proxyProtocol === 'off' ? '' : permit.ask.peer.address;", "const client = destination.proxyProtocol === 'off' ? '' : '192.0.2.1';"),
      mutant('one-client-has-the-pool', 'src/relay/waiting-line.ts', 'test/relay/fair-share.test.ts', 'return free > 0 && this.heldBy(client) < free;', 'return free > 0;'),
      mutant('one-client-has-the-nat', 'src/dial/nat-budget.ts', 'test/dial/nat-shares.test.ts', 'return free > 0 && (client === null ||', 'return free > 0 && (client !== undefined ||'),
      mutant('nat-without-end', 'src/dial/nat-budget.ts', 'test/dial/nat-budget.test.ts', 'return free > 0 && (client === null ||', 'return free >= 0 && (client === null ||'),
      mutant('nat-forgets-what-closed', 'src/dial/ports.ts', 'test/dial/nat-budget.test.ts', "if (ending === 'closed') this.#closed.push(now);", "if (ending === 'unsent') this.#closed.push(now);"),
      mutant('tunnels-of-one-client', 'src/limits.ts', 'test/limits.test.ts', 'if (mine >= this.#config[perClient]) throw', 'if (mine < 0) throw'),
      mutant('connections-of-one-client', 'src/listeners/connection-gate.ts', 'test/listeners/connection-gate.test.ts', 'if (mine >= connectionsPerClient) return reached(', 'if (mine < 0) return reached('),
      mutant('passwords-of-one-address', 'src/identity/gate.ts', 'test/identity/gate.test.ts', 'if (own >= perAddress) throw', 'if (own < 0) throw'),
      mutant('guesses-without-end', 'src/identity/gate.ts', 'test/identity/gate.test.ts', 'if (debt >= failures) throw', 'if (debt < 0) throw'),
    ],
  ],
  [
    '13. The log never ends or delays the data path',
    [
      mutant('full-pipe-is-an-error', 'src/telemetry/log-output.ts', 'test/telemetry/log-output.test.ts', "error: error.code === 'EAGAIN' ? null : error", 'error'),
      mutant('log-waits-without-bound', 'src/telemetry/log-sink.ts', 'test/telemetry/log-sink.test.ts', 'if (!this.#open || this.#batch.length + (this.#inFlight?.length ?? 0) + line.length > this.#maxLength) {', 'if (!this.#open) {'),
      mutant('lost-lines-not-counted', 'src/telemetry/log-sink.ts', 'test/telemetry/log-sink.test.ts', 'this.#lost[reason] += lines;', ''),
      mutant('torn-line-goes-on', 'src/telemetry/log-sink.ts', 'test/telemetry/log-output.test.ts', 'if (written > 0) this.#torn = bytes[written - 1] !== LINE_FEED;', ''),
      mutant('metrics-throw-on', 'src/telemetry/attempt.ts', 'test/telemetry/attempt.test.ts', '        this.#count(part, error);\n        return false;', '        this.#count(part, error);\n        throw error;'),
      mutant('denials-throw-on', 'src/service.ts', 'test/integration/broken-telemetry.test.ts', "note: this.#telemetry.contain('denials', (record, fault, permit) => {\n          this.explainer.memory.note(record, fault, permit);\n        }),", 'note: (record, fault, permit) => {\n          this.explainer.memory.note(record, fault, permit);\n        },'),
      mutant('one-reader-asks-all-questions', 'src/admin/callers.ts', 'test/admin/queue.test.ts', 'if (mine >= mostOfOne || this', 'if (this'),
    ],
  ],
  [
    '14. Reading costs no more than the length of what is read',
    [
      mutant('extensions-without-end', 'src/http1/body-reader.ts', 'test/http1/body-reader.test.ts', 'if (this.#extensionBytes > MOST_EXTENSION_BYTES) throw', 'if (this.#extensionBytes < 0) throw'),
      mutant('fields-without-end', 'src/http1/fields.ts', 'test/http1/fields.test.ts', 'if (fields.length >= most * 2) throw', 'if (fields.length < 0) throw'),
      mutant('section-without-end', 'src/http1/head-reader.ts', 'test/http1/head-reader.test.ts', 'if (end - start <= limit) return;', 'if (end >= start) return;'),
      mutant('section-copied-for-each-byte', 'src/http1/head-reader.ts', 'test/http1/head-reader.test.ts', 'Buffer.allocUnsafeSlow(Math.min(Math.max(length, this.#held.length * 2, 256), most))', 'Buffer.allocUnsafeSlow(length)'),
    ],
  ],
];

export const MUTANTS: readonly Mutant[] = INVARIANTS.flatMap(([, mutants]) => mutants);

/** Folders of tests that start whole proxies. */
const WHOLE = /^test\/(?:cli|hostile|integration|reload|resilience)\//;
/** Of each invariant, at most. */
const MOST_QUICK = 2;

/** A few of each invariant, the first in the table whose tests start no whole proxy. */
export const QUICK: ReadonlySet<Mutant> = new Set(INVARIANTS.flatMap(([, mutants]) => mutants.filter(({ tests }) => tests.every((test) => !WHOLE.test(test))).slice(0, MOST_QUICK)));

/** Faults of a file: each is told, with its place, what is wrong, and what to write; all of them at once. */
import t from 'tap';
import { faultsOf, loadText, MINIMAL } from '../support/load-text.ts';

/** MINIMAL with one line changed. */
function changed(line: string, instead: string): string {
  if (!MINIMAL.includes(line)) throw new Error(`no ${line} in the minimal file`);
  return MINIMAL.replace(line, () => instead);
}

const HASH = `$scrypt$ln=15,r=8,p=1$${'A'.repeat(22)}$${'A'.repeat(43)}`;
const kinds = (text: string): string => changed('addresses: ["10.8.0.0/14"]', text);
const rule = (text: string): string => changed('[eco] }', `[eco], ${text} }`);
const listener = (text: string): string => `${MINIMAL}listeners: { http: [{ address: "0.0.0.0:1", ${text} }] }\n`;
const HOSTS = '    hosts: [eco.example]\n';
const two = (first: string, second: string): string =>
  `version: 1\nclients: { pods: { addresses: 10.0.0.0/8 } }\ndestinations:\n  a: ${first}\n  b: ${second}\nrules: [{ clients: [pods], destinations: [a, b] }]\n`;

t.test('one fault, one complaint at its place', async (t) => {
  const table: [what: string, text: string, fault: RegExp][] = [
    ['empty file', '', /^1:1 : The file is empty\. .*egress\.yaml/],
    ['comments only', '# nothing\n', /^1:1 : The file is empty/],
    ...[2_500, 100_000].map((depth): [string, string, RegExp] => [`brackets ${depth} deep`, `version: 1\nx: ${'['.repeat(depth)}${']'.repeat(depth)}\n`, /This is not valid YAML: it has thousands of nested brackets/]),
    ['another YAML', `# ours\n%YAML 1.1\n---\n${MINIMAL}`, /^2:1 : The file asks for YAML 1\.1, in which 0443 is 291 and yes is true\. Take the %YAML line out/],
    ['another YAML, behind a byte order mark', `\uFEFF%YAML 1.1\n---\n${MINIMAL}`, /^1:1 : The file asks for YAML 1\.1/],
    ['a list', '- a\n', /^1:1 : Expected a mapping \(key: value\), found a list/],
    ['a word', 'version 1\n', /^1:1 : Expected a mapping \(key: value\), found "version 1"/],
    ['an entry with one space too many', kinds('addresses:\n      - 10.8.0.0/14\n       - fd00::/8'), /^5:9 clients\.pods\.addresses\[0\]: .* Write each entry on a line of its own, after "- ", all in the same column\.$/],
    ['an entry without a blank', kinds('addresses:\n      -10.8.0.0/14\n      -10.12.0.0/14'), /^5:7 clients\.pods\.addresses: .* Write each entry on a line of its own, after "- "/],
    ['a key without a value in braces', rule('methods:'), /^10:45 rules\[0\]\.methods: There is no value here\. Write a value, or take the key out\.$/],
    ['an entry without a value', changed('[eco.example]', '[eco.example, null]'), /^7:26 destinations\.eco\.hosts\[1\]: There is no value here\. Write a value, or take the entry out\.$/],
    ['a number that is a comment', changed('  - { clients: [pods], destinations: [eco] }', '  - clients: [pods]\n    destinations: [eco]\n    ticket: #123'), /^12:5 rules\[0\]\.ticket: There is no value here\. .* A text that begins with # needs quotes\.$/],
    ['a comment in place of a value', changed('  - { clients: [pods], destinations: [eco] }', '  # none yet'), /^9:1 rules: There is no value here\. Write a value, or take the key out\.$/],
    ['clients as a list: their names are not known', changed('  pods:\n    addresses: ["10.8.0.0/14"]\n', '  - addresses: 10.8.0.0/14\n'), /^2:1 clients: Expected a mapping \(key: value\), found a list/],
    ['clients without any', changed('  pods:\n    addresses: ["10.8.0.0/14"]\n', ''), /^2:1 clients: There is no value here/],
    ['no forms for a gateway', changed(HOSTS, `${HOSTS}    forms: []\n    gateway: { prefix: /eco, url: "https://eco.example" }\n`), /^8:5 destinations\.eco\.forms: The list is empty/],
    ['any method', rule('methods: [any]'), /^10:55 rules\[0\]\.methods\[0\]: "any" is not a method\. Take methods out: without it, every method may be used\.$/],
    ['no version', changed('version: 1\n', ''), /^1:1 : version is missing at the top of the file\. Write version: 1/],
    ['another version', changed('version: 1', 'version: 2'), /^1:10 version: 2 is not possible here\. Write 1\./],
    ['version as text', changed('version: 1', 'version: "1"'), /^1:10 version: "1" is not possible here\. Write 1, without quotes\.$/],
    ['unknown key at the top', `${MINIMAL}metrics: on\n`, /^11:1 metrics: There is no key "metrics" at the top of the file\. Valid here: version, name/],
    ['misspelt key', `${MINIMAL}timeout: {}\n`, /^11:1 timeout: There is no key "timeout" .* Did you mean timeouts\?/],
    ['misspelt required key', changed('    hosts:', '    host:'), /^7:5 destinations\.eco\.host: .* Did you mean hosts\?/],
    ['key of another case', `${MINIMAL}dns: { stalefor: 1h }\n`, /^11:8 dns\.stalefor: .* Did you mean staleFor\?/],
    ['missing key', changed(HOSTS, ''), /^6:3 destinations\.eco: hosts is missing in destinations\.eco\. Add hosts: \["eco/],
    ['key without value', changed('["10.8.0.0/14"]', ''), /^4:5 clients\.pods\.addresses: There is no value here/],
    ['section without value', `${MINIMAL}log:\n`, /^11:1 log: There is no value here/],
    ['empty list', changed('[443]', '[]'), /^8:5 destinations\.eco\.ports: The list is empty/],
    ['mapping for a list', changed('[443]', '{ a: 443 }'), /^8:5 destinations\.eco\.ports: Expected a list, found a mapping/],
    ['list for a mapping', `${MINIMAL}log: []\n`, /^11:1 log: Expected a mapping \(key: value\), found a list/],
    ['text for a mapping', `${MINIMAL}log: info\n`, /^11:6 log: Expected a mapping \(key: value\), found "info"/],
    ['wrong choice', `${MINIMAL}log: { level: trace }\n`, /^11:15 log\.level: "trace" is not possible here\. Write one of: debug, info, warn, error/],
    ['choice of another case', `${MINIMAL}log: { format: JSON }\n`, /^11:16 log\.format: .* Did you mean json\?/],
    ['the opposite is not suggested', `${MINIMAL}headers: { forwarded: on }\n`, /^11:23 headers\.forwarded: "on" is not possible here\. Write one of: off, pass, append/],
    ['YAML 1.1 truth', `${MINIMAL}headers: { via: yes }\n`, /^11:17 headers\.via: "yes" is neither true nor false/],
    ['entry of a list', changed('[443]', '[443, 70000]'), /^8:18 destinations\.eco\.ports\[1\]: 70000 is not a port/],
    ['entry of a text', changed('[443]', '443, x'), /^8:12 destinations\.eco\.ports: "x" is not a port/],
    ['duplicate name', changed('destinations:', '  pods: { addresses: 10.0.0.0/8 }\ndestinations:'), /^5:3 clients\.pods: "pods" is written twice; the first one is on line 3/],
    ['duplicate key', changed(HOSTS, HOSTS + HOSTS), /^8:5 destinations\.eco\.hosts: "hosts" is written twice; the first one is on line 7/],
    ['a name that is none', changed('destinations:', '  Pods: { addresses: 10.0.0.0/8 }\ndestinations:'), /^5:3 clients\.Pods: "Pods" is not a name/],
    ['a name of digits', changed('destinations:', '  10: { addresses: 10.0.0.0/8 }\ndestinations:'), /^5:3 clients\.10: "10" is not a name/],
    ['dangling client', changed('[pods]', '[pod]'), /^10:17 rules\[0\]\.clients\[0\]: There is no entry "pod" under clients\. Did you mean pods\?/],
    ['dangling destination', changed('[eco] }', '[eco, all] }'), /^10:44 rules\[0\]\.destinations\[1\]: There is no entry "all" under destinations\. Valid here: eco\. Otherwise add it under destinations\.$/],
    ['a pattern of destinations, which could not be added', changed('[eco] }', '[eco, "*"] }'), /^10:44 rules\[0\]\.destinations\[1\]: There is no entry "\*" under destinations\. Valid here: eco\. Name the destinations one by one\.$/],
    ['port taken twice', `${MINIMAL}listeners: { http: ["0.0.0.0:81", "0.0.0.0:81"] }\n`, /^11:35 listeners\.http\[1\]: 0\.0\.0\.0:81 is taken by listeners\.http\[0\]/],
    ['port of any address', `${MINIMAL}listeners: { http: ["0.0.0.0:81"], admin: "127.0.0.1:81" }\n`, /^11:43 listeners\.admin: 127\.0\.0\.1:81 is taken by listeners\.http\[0\] already \(0\.0\.0\.0:81\)/],
    ['both families', `${MINIMAL}listeners: { http: ["[::]:81"], admin: "127.0.0.1:81" }\n`, /^11:40 listeners\.admin/],
    ['spelt otherwise', `${MINIMAL}listeners: { http: ["[::1]:81", "[0:0:0:0:0:0:0:1]:81"] }\n`, /^11:33 listeners\.http\[1\]/],
    ['the same port, spelt as IPv6', `${MINIMAL}listeners: { http: ["127.0.0.1:81"], admin: "[::ffff:127.0.0.1]:81" }\n`, /^11:45 listeners\.admin: .* is taken by listeners\.http\[0\] already \(127\.0\.0\.1:81\)/],
    ['any address, spelt as IPv6', `${MINIMAL}listeners: { http: ["127.0.0.1:81"], admin: "[::ffff:0.0.0.0]:81" }\n`, /^11:45 listeners\.admin: .* is taken by listeners\.http\[0\] already/],
    ['any address of IPv6, which takes IPv4 too', `${MINIMAL}listeners: { http: ["127.0.0.1:81"], admin: "[::]:81" }\n`, /^11:45 listeners\.admin: \[::\]:81 is taken by listeners\.http\[0\] already/],
    ['and the other way round', `${MINIMAL}listeners: { http: ["[::]:81"], admin: "127.0.0.1:81" }\n`, /^11:40 listeners\.admin: 127\.0\.0\.1:81 is taken by listeners\.http\[0\] already/],
    ['the default of another', `${MINIMAL}listeners: { http: "0.0.0.0:9090" }\n`, /^11:1 listeners\.admin: 0\.0\.0\.0:9090 is taken by listeners\.http\[0\]/],
    ['host and port twice', two('{ hosts: x.example, ports: "80,443" }', '{ hosts: [y.example, X.example.], ports: 443 }'), /^5:27 destinations\.b\.hosts\[1\]: "x\.example" with port 443 belongs to destination a/],
    ['wildcard twice', two('{ hosts: "*.example", ports: 443 }', '{ hosts: "*.example", ports: 443 }'), /^5:15 destinations\.b\.hosts: "\*\.example" with port 443 belongs/],
    ['the same prefix', two('{ hosts: x.example, ports: 443, gateway: { prefix: /eco, url: "https://x.example" } }', '{ hosts: y.example, ports: 443, gateway: { prefix: /eco/, url: "https://y.example" } }'), /^5:57 destinations\.b\.gateway\.prefix: \/eco is the prefix of destination a already/],
    ['a prefix inside', two('{ hosts: x.example, ports: 443, gateway: { prefix: /eco/sub, url: "https://x.example" } }', '{ hosts: y.example, ports: 443, gateway: { prefix: /eco, url: "https://y.example" } }'), /^5:57 destinations\.b\.gateway\.prefix: \/eco and the prefix of destination a \(\/eco\/sub\) overlap/],
    ['url of a foreign host', changed(HOSTS, `${HOSTS}    gateway: { prefix: /eco, url: "https://evil.example" }\n`), /^8:35 destinations\.eco\.gateway\.url: Its host "evil\.example" is not among the hosts of eco/],
    ['url of a foreign port', changed(HOSTS, `${HOSTS}    gateway: { prefix: /eco, url: "http://eco.example" }\n`), /^8:35 destinations\.eco\.gateway\.url: Its port 80 is not among the ports of eco\. Add 80/],
    ['url of the suffix itself', changed(HOSTS, '    hosts: ["*.eco.example"]\n    gateway: { prefix: /eco, url: "https://eco.example" }\n'), /^8:35 destinations\.eco\.gateway\.url: Its host/],
    ['gateway without its form', changed(HOSTS, `${HOSTS}    forms: [connect]\n    gateway: { prefix: /eco, url: "https://eco.example" }\n`), /^8:5 destinations\.eco\.forms: eco has a gateway, but its forms leave gateway out/],
    ['gateway without url', changed(HOSTS, `${HOSTS}    gateway: { prefix: /eco }\n`), /^8:5 destinations\.eco\.gateway: url is missing/],
    ['hop without url', `${MINIMAL}hops: { edge: {} }\n`, /^11:9 hops\.edge: url is missing in hops\.edge\. Add url: http:\/\/activegateway\.telus\.internal:3128$/],
    ['pods without a namespace', `${MINIMAL}cluster: { clients: { pods: {} } }\n`, /^11:23 cluster\.clients\.pods: namespace is missing in cluster\.clients\.pods\. Add namespace: dynatrace-sit$/],
    ['an alias', changed('destinations:', '  more: &m { addresses: 10.0.0.0/8 }\n  others: *m\ndestinations:'), /^6:11 clients\.others: \*m repeats another part/],
    ['a wildcard without quotes', changed('[eco.example]', '[*.eco.example]'), /^7:13 destinations\.eco\.hosts\[0\]: \*\.eco\.example is not in quotes.* Write "\*\.eco\.example"\.$/],
    ...[['omap', '[a: 1]'], ['pairs', '[a: 1]'], ['set', '{ a.example }'], ['binary', 'YS5leGFtcGxl'], ['timestamp', '2027-03-01']].map(([tag = '', value = '']): [string, string, RegExp] => [`a tag ${tag}`, changed('[eco.example]', `!!${tag} ${value}`), new RegExp(`^7:12 : This is not valid YAML: unresolved tag: tag:yaml\\.org,2002:${tag}\\. Take the tag`)]),
    ...(['false', 'no', 'none', '"false"', '""', '" "'] as const).map((word): [string, string, RegExp] => [`${word} in place of off`, `${MINIMAL}listeners: { tls: ${word} }\n`, new RegExp(`^11:19 listeners\\.tls: "?${word.replaceAll('"', '')}"? is not possible here\\. Write off for none\\.$`)]),
    ['false in place of off for a time', `${MINIMAL}selfTest: { every: false }\n`, /^11:20 selfTest\.every: false is not a duration\. .*5m or 2h\. Never is off\.$/],
    ['a space from a web page, in a key', `${MINIMAL}log:\n \xa0level: info\n`, /^12:2 log\["\\u00a0level"\]: There is no key "\\u00a0level" in log\. U\+00A0 is not a space: write a plain one, or take it out\.$/],
    ['one behind a colon', changed('hosts: [', 'hosts:\u3000['), /^7:.* This is not valid YAML: .*U\+3000 is not a space/],
    ['one in a host', changed('[eco.example]', '"eco .\u2009example"'), /^7:12 destinations\.eco\.hosts: "eco \.\\u2009example" is not a host/],
    ['ranges with a blank between', changed('["10.8.0.0/14"]', '10.8.0.0/14 10.9.0.0/16'), /^4:16 clients\.pods\.addresses: "10\.8\.0\.0\/14 10\.9\.0\.0\/16" is not an address range\. Write a comma between two: 10\.8\.0\.0\/14, 10\.9\.0\.0\/16\.$/],
    ['hosts in lines', changed('[eco.example]', '|\n      eco.example\n      b.example\n      c.example'), /^7:12 destinations\.eco\.hosts: .* is not a host\. Write a comma between two: eco\.example, b\.example\.$/],
    ...['"\\"eco.example\\""', `"'eco.example'"`, '“eco.example”', '"eco.example,"', `'["eco.example"]'`].map((written): [string, string, RegExp] => [`a host as another notation has it: ${written}`, changed('[eco.example]', `[${written}]`), /^7:13 destinations\.eco\.hosts\[0\]: .* is not a host\. Write it alone: eco\.example\.$/]),
    ['a host with the dash of a word processor', changed('[eco.example]', 'eco–sit.example'), /^7:12 destinations\.eco\.hosts: .* is not a host\. Check its characters: quotes and dashes of a word processor/],
    ...['$ECO_HOST', '$(ECO_HOST)', '"{{ .Values.host }}"', '{{ .Values.host }}', '[{{ .Values.host }}]'].map((written): [string, string, RegExp] => [`a placeholder: ${written}`, changed('[eco.example]', written), /^7:1\d destinations\.eco\.hosts.*: .*\. Write a variable as \$\{NAME\} or \$\{NAME:-default\}\. A template with \{\{ \}\} has to be rendered before\.$/]),
    ['ports with a semicolon', changed('[443]', '443;80-90'), /^8:12 destinations\.eco\.ports: "443;80-90" is not a port\. Write a comma between two: 443, 80-90\.$/],
    ['a merge', changed('destinations:', '  more: { <<: { addresses: 10.0.0.0/8 } }\ndestinations:'), /^5:11 clients\.more: << merges/],
    ['a variable in a key', `${MINIMAL}"\${A}": 1\n`, /^11:1 \["\$\{A\}"\]: There is no key/],
    ['a variable that is not set', changed('[443]', '${PORT}'), /^8:12 destinations\.eco\.ports: The environment variable PORT is not set\. Set PORT, or write a default: \$\{PORT:-default\}/],
    ['one inside a list', changed('[443]', '["${PORT}", 80]'), /^8:13 destinations\.eco\.ports\[0\]: The environment variable PORT/],
    ['no prototype', `${MINIMAL}__proto__: { name: x }\n`, /^11:1 : A key here is not a plain word/],
    ['another mode', `${MINIMAL}mode: reports\n`, /^11:7 mode: "reports" is not possible here\. Did you mean report\?/],
    ['text for truth in reload', `${MINIMAL}reload: { watch: off }\n`, /^11:18 reload\.watch: "off" is neither true nor false/],
    ['too much to remember', `${MINIMAL}reload: { remember: 100001 }\n`, /^11:21 reload\.remember: .* from 0 to 100000/],
    ['PROXY protocol from anybody', listener('proxyProtocol: from-trusted'), /^11:21 listeners\.http\[0\]: trustedPeers is missing in listeners\.http\[0\]\. Add trustedPeers: .* load balancer/],
    ['headers of anybody', listener('believe: x-forwarded-for'), /^11:21 listeners\.http\[0\]: trustedPeers is missing/],
    ['another header', listener('trustedPeers: 10.0.0.1, believe: [forwarded]'), /^11:79 listeners\.http\[0\]\.believe\[0\]: "forwarded" is not possible here/],
    ['trusted peers that are none', listener('trustedPeers: lb.example, believe: x-forwarded-for'), /^11:59 listeners\.http\[0\]\.trustedPeers: "lb\.example" is not an address range/],
    ['a client known by nothing', changed('    addresses: ["10.8.0.0/14"]\n', '').replace('pods:', 'pods: {}'), /^3:3 clients\.pods: addresses is missing in clients\.pods\. .*or basic, tokens or certificates/],
    ['a misspelt kind', changed('addresses:', 'adresses:'), /^4:5 clients\.pods\.adresses: .* Did you mean addresses\?/],
    ['a user as text', kinds('basic: [sit]'), /^4:13 clients\.pods\.basic\[0\]: Expected a mapping \(key: value\), found "sit"/],
    ['users as text', kinds('basic: sit'), /^4:12 clients\.pods\.basic: Expected a list, found "sit"/],
    ['a user without hash', kinds('basic: [{ user: sit }]'), /^4:13 clients\.pods\.basic\[0\]: hash is missing .* eco-egress hash-password/],
    ['a password instead of its hash', kinds('basic: [{ user: sit, hash: hunter22 }]'), /^4:32 clients\.pods\.basic\[0\]\.hash: This password hash is not written as \$scrypt\$.*hash-password/],
    ['a hash that is too cheap', kinds(`basic: [{ user: sit, hash: "${HASH.replace('ln=15', 'ln=10')}" }]`), /^4:32 clients\.pods\.basic\[0\]\.hash: This password hash has ln=10/],
    ['a user with a colon', kinds(`basic: [{ user: "a:b", hash: "${HASH}" }]`), /^4:21 clients\.pods\.basic\[0\]\.user: "a:b" has a colon/],
    ['a user with a character of no width', kinds(`basic: [{ user: "si\u200bt", hash: "${HASH}" }]`), /^4:21 clients\.pods\.basic\[0\]\.user: "si\\u200bt" has an invisible character\. Write the name without it/],
    ['a subject that is shown in another order', kinds('tokens: [{ issuer: a, audience: b, subjects: "c\u202ed", jwksUrl: "https://a.example/k" }]'), /^4:\d+ clients\.pods\.tokens\[0\]\.subjects: "c\\u202ed" is not a subject/],
    ['an audience with a character of no width', kinds('tokens: [{ issuer: a, audience: "b\u2060", subjects: c, jwksUrl: "https://a.example/k" }]'), /^4:\d+ clients\.pods\.tokens\[0\]\.audience: "b\\u2060" is not a text as tokens have it/],
    ['a user of another client', changed('destinations:', `  more: { basic: [{ user: sit, hash: "${HASH}" }, { user: sit, hash: "${HASH}" }] }\ndestinations:`), /^5:(?!26)\d+ clients\.more\.basic\[1\]\.user: The user "sit" belongs to client more already/],
    ['a token without keys', kinds('tokens: [{ issuer: a, audience: b, subjects: c }]'), /^4:14 clients\.pods\.tokens\[0\]: jwksFile is missing .* or jwksUrl/],
    ['keys over plain http', kinds('tokens: [{ issuer: a, audience: b, subjects: c, jwksUrl: "http://a.example/k" }]'), /^4:62 clients\.pods\.tokens\[0\]\.jwksUrl: .* plain http/],
    ['two URLs of keys', kinds('tokens: [{ issuer: a, audience: b, subjects: c, jwksUrl: "https://a.example/k https://b.example/k" }]'), /^4:62 clients\.pods\.tokens\[0\]\.jwksUrl: .* is not an https URL/],
    ['a star in an audience', kinds('tokens: [{ issuer: a, audience: "*", subjects: c, jwksUrl: "https://a.example/k" }]'), /^4:37 clients\.pods\.tokens\[0\]\.audience: "\*" has a \*, but is compared character by character/],
    ['other keys for one issuer', kinds('tokens: [{ issuer: a, audience: b, subjects: c, jwksUrl: "https://a.example/k" }, { issuer: a, audience: d, subjects: e, jwksUrl: "https://b.example/k" }]'), /^4:135 clients\.pods\.tokens\[1\]\.jwksUrl: The keys of "a" come from another place for client pods/],
    ['password and token at once', kinds(`basic: [{ user: sit, hash: "${HASH}" }]\n    tokens: [{ issuer: a, audience: b, subjects: c, jwksUrl: "https://a.example/k" }]`), /^5:5 clients\.pods\.tokens: No request can show a password and a token at once/],
    ['a certificate of any host', kinds('certificates: ["spiffe://*/ns/x"]'), /^4:20 clients\.pods\.certificates\[0\]: .* not a URI with a host of its own/],
    ['a certificate of anybody', kinds('certificates: "*"'), /^4:19 clients\.pods\.certificates: "\*" is neither a DNS name nor a URI/],
    ['a path with two readings in a rule', rule('paths: [/a/../b]'), /^10:53 rules\[0\]\.paths\[0\]: .* it has a dot segment/],
    ['a method in a rule', rule('methods: get'), /^10:54 rules\[0\]\.methods: .* Write GET/],
    ['a date in a rule', rule('until: 2027-03-01'), /^10:52 rules\[0\]\.until: "2027-03-01" is a date without a time/],
    ['an end before the beginning', rule('from: 2027-03-01T00:00Z, until: "2027-03-01T01:00:00+01:00"'), /^10:77 rules\[0\]\.until: The rule ends before it begins/],
    ['an owner that is a number', rule('owner: 7'), /^10:52 rules\[0\]\.owner: 7 is not a text/],
    ['an owner of blanks', rule('owner: "  "'), /^10:52 rules\[0\]\.owner: "" is not a text/],
    ['an owner that is too long', rule(`owner: ${'x'.repeat(65)}`), /^10:52 rules\[0\]\.owner: "x+" has 65 characters\. Write at most 64/],
    ['a ticket that is too long', rule(`ticket: ${'x'.repeat(65)}`), /^10:53 rules\[0\]\.ticket: .* has 65 characters/],
    ['a reason that is too long', rule(`reason: ${'x'.repeat(301)}`), /^10:53 rules\[0\]\.reason: .* has 301 characters\. Write at most 300/],
    ['a reason of two lines', rule('reason: "a\\nb"'), /^10:53 rules\[0\]\.reason: "a\\nb" has a line break or an invisible character/],
    ['an owner with an escape sequence', rule('owner: "\\e[31mred"'), /^10:52 rules\[0\]\.owner: "\\u001b\[31mred" has a line break or an invisible character/],
    ['a ticket that is reordered', rule('ticket: "\\u202e1-GHC"'), /^10:53 rules\[0\]\.ticket: "\\u202e1-GHC" has a line break or/],
    ['a rate of nothing', rule('rate: {}'), /^10:45 rules\[0\]\.rate: perAddress is missing in rules\[0\]\.rate\. Add perAddress: \{ requests: 50\/s \}, or perClient/],
    ['a rate of an address with no limit', rule('rate: { perAddress: {} }'), /^10:53 rules\[0\]\.rate\.perAddress: requests is missing in rules\[0\]\.rate\.perAddress\. Add requests: 50\/s, or tunnels, sent or received/],
    ['a rate without a time', rule('rate: { perClient: { requests: 50 } }'), /^10:76 rules\[0\]\.rate\.perClient\.requests: 50 does not say in which time\. Write how many in which time: 50\/s/],
    ['bytes in decimal units', rule('rate: { perClient: { sent: 10GB/day } }'), /^10:72 rules\[0\]\.rate\.perClient\.sent: "10GB\/day" has a unit that is not known: GB\. Did you mean 10GiB\?/],
    ['what to do when bytes are used up', rule('rate: { perClient: { sent: 10GiB/day }, whenExhausted: close }'), /^10:100 rules\[0\]\.rate\.whenExhausted: "close" is not possible here\. .*refuse, cut/],
    ['a destination of another tunnelSni', changed('    ports:', '    tunnelSni: on\n    ports:'), /^8:16 destinations\.eco\.tunnelSni: "on" is not possible here\. Write one of: require, report, off/],
    ['a key that is a mapping', `${MINIMAL}? { a: b }\n: 1\n`, /^11:3 : A key here is not a plain word/],
  ];
  for (const [what, text, fault] of table) {
    const faults = faultsOf(text);
    t.equal(faults.length, 1, `${what}: one`);
    t.match(faults[0], fault, what);
  }
});

t.test('thousands of destinations with one host, or one prefix: a fault for each, and not for each pair', (t) => {
  const many = Array.from({ length: 2_000 }, (_, index) => `  d-${index}: { hosts: x.example, ports: 443, gateway: { prefix: "/eco${index === 0 ? '' : '/sub'}", url: "https://x.example" } }\n`).join('');
  const faults = faultsOf(`version: 1\ndestinations:\n${many}`);
  t.equal(faults.length, 2 * 1_999);
  t.match(faults.slice(-2), [/^2002:\d+ destinations\.d-1999\.hosts: .* belongs to destination d-0 already/, /^2002:\d+ destinations\.d-1999\.gateway\.prefix: \/eco\/sub and the prefix of destination d-0 \(\/eco\) overlap/]);
  t.end();
});

t.test('thousands of listeners are compared in one pass', (t) => {
  const many = Array.from({ length: 20_000 }, (_, index) => `"127.0.${index >> 8}.${index & 255}:81"`).join(', ');
  t.match(faultsOf(`${MINIMAL}listeners: { http: [${many}], admin: "127.0.78.31:81" }\n`), [/ listeners\.admin: 127\.0\.78\.31:81 is taken by listeners\.http\[19999\] already/]);
  t.end();
});

t.test('neighbours that are no fault', async (t) => {
  const table: [what: string, text: string][] = [
    ['port 0 twice', `${MINIMAL}listeners: { http: ["0.0.0.0:0", "0.0.0.0:0"], admin: "0.0.0.0:0" }\n`],
    ['one port on two addresses', `${MINIMAL}listeners: { http: ["127.0.0.1:81", "127.0.0.2:81", "[::1]:81"] }\n`],
    ['one host with other ports', two('{ hosts: x.example, ports: 80 }', '{ hosts: x.example, ports: 443 }')],
    ['exact beside wildcard', two('{ hosts: "*.example", ports: 443 }', '{ hosts: x.example, ports: 443 }')],
    ['prefixes that begin alike', two('{ hosts: x.example, ports: 443, gateway: { prefix: /eco, url: "https://x.example" } }', '{ hosts: y.example, ports: 443, gateway: { prefix: /ecology, url: "https://y.example" } }')],
    ['url below a wildcard', changed(HOSTS, '    hosts: ["*.eco.example"]\n    gateway: { prefix: /eco, url: "https://a.eco.example" }\n')],
    ['a folded reason', `${MINIMAL.trimEnd().replace('{ clients: [pods], destinations: [eco] }', 'clients: [pods]\n    destinations: [eco]\n    reason: >\n      The nightly\n      export')}\n`],
    ['destination named like a method of objects', two('{ hosts: x.example, ports: 443 }', '{ hosts: y.example, ports: 443 }').replaceAll(/\bb\b(?!\.)/g, 'constructor')],
  ];
  for (const [what, text] of table) t.strictSame(faultsOf(text), [], what);
});

t.test('YAML that cannot be read', async (t) => {
  const table: [what: string, text: string, faults: RegExp[]][] = [
    ['tabs', 'version: 1\nclients:\n\tpods: {}\n', [/^3:1 : .*tabs .* Indent with spaces/i]],
    ['a tab before an entry, reported for the line above, too', changed('addresses: ["10.8.0.0/14"]', 'addresses:\n\t- 10.8.0.0/14'), [/^5:1 : .*tabs .* Indent with spaces/i]],
    ['a tab before a key, and more keys', changed('    hosts', '\thosts'), [/^7:1 : .*tabs .* Indent with spaces/i]],
    ['a merge that is not resolved', changed('    ports: [443]\n', '<<<<<<< HEAD\n    ports: [443]\n=======\n    ports: [80]\n>>>>>>> theirs\n'), [/^8:1 : A merge left both versions of a part here\. Keep one of them/]],
    ['one with the common version', changed('    ports: [443]\n', '<<<<<<< HEAD\r\n    ports: [443]\r\n||||||| 0d1e2f\r\n    ports: [8]\r\n=======\r\n    ports: [80]\r\n>>>>>>> theirs\r\n'), [/^8:1 : A merge left both/]],
    ['a part of one that was left over', changed('rules:', '=======\r\nrules:'), [/^9:1 : A merge left both/]],
    ['a bracket left open', changed('[eco.example]', '[eco.example'), [/^7:12 : .* every \[ and \{ is closed/]],
    ['a bracket left open, with a list inside', changed('  eco:\n    hosts: [eco.example]\n    ports: [443]\n', '  eco: { hosts: [eco.example], ports: [443]\n'), [/^6:8 : .* every \[ and \{ is closed/]],
    ['a comma left out between two keys', `${MINIMAL}log: { level: info format: json }\n`, [/^11:15 : .* Write a comma between two entries/]],
    ['a line with one space too many', changed('[eco.example]\n    ports', 'eco.example\n     ports'), [/^7:12 : .* Check the indentation/]],
    ['an entry with one space too few', changed('addresses: ["10.8.0.0/14"]', 'addresses:\n      - 10.8.0.0/14\n     - fd00::/8'), [/^6:1 : .* Check the indentation/]],
    ['a quote left open', 'version: 1\nname: "x\n', [/^2:7 : .*closing "quote/]],
    ['a quote left open, with none after it', changed('[eco.example]', '["eco.example]'), [/^7:13 : .*closing "quote/]],
    ['a tab, and lines with spaces after it', changed('    ports', '\tports').replace('rules:', '    forms: [connect]\n    report: true\nrules:'), [/^8:1 : .*tabs .* Indent with spaces/i]],
    ['a line with one space too few, and others after it', changed('    ports', '   ports').replace('rules:', '    forms: [connect]\n    report: true\nrules:'), [/^8:1 : .* same column\. Check the indentation/]],
    ['a quote left open in a list', changed('[eco.example]', '["eco.example]').replace('[443]', '["443"]'), [/^7:13 : .*closing "quote/]],
    ['a backslash in double quotes', 'version: 1\nname: "C:\\certs"\n', [/^2:\d+ : .*escape sequence \\c\. Put the text in single quotes/]],
    ['no blank after a colon', changed('ports: [', 'ports:['), [/^8:5 : .* Write key: value, with a blank after the colon/]],
    ['= for a colon', changed('ports: [', 'ports = ['), [/^8:5 : .* Write key: value, with a blank after the colon/]],
    ['a star without quotes', changed('[pods]', '[*]'), [/^10:17 : .* Put a text that begins with \* or & in quotes/]],
    ['a template', changed('    ports', '{{- if .Values.ports }}\n    ports'), [/^8:1 : .* A template with \{\{ \}\} has to be rendered before/]],
    ['a colon in a text', 'version: 1\nname: a: b\n', [/^2:7 : .* needs quotes/]],
    ['a variable in brackets', 'version: 1\nclients:\n  a: { addresses: [${A}, ${B}] }\n', [/^3:21 : .* in quotes: \["\$\{NAME\}"\]/]],
    ['two documents', 'version: 1\n---\nversion: 1\n', [/^2:1 : .* Keep one document/]],
    ['a tag', 'version: !one 1\n', [/^1:10 : .*tag/]],
    ['two mistakes', 'version: 1\nname: @x\nlog: %y\n', [/^2:7 : .*in quotes/, /^3:6 : .*in quotes/]],
  ];
  for (const [what, text, faults] of table) {
    const told = faultsOf(text);
    t.equal(told.length, faults.length, `${what}: ${told.join(' | ')}`);
    t.match(told, faults, what);
  }
});

t.test('all at once, in the order of the file, whatever stage finds them', async (t) => {
  const faults = faultsOf(`version: 1
nam: door
listeners:
  http: [8080, "0.0.0.0:81", "0.0.0.0:81"]
clients:
  pods: { addresses: ["10.8.1.0/14", "\${UNSET}"] }
  pods: { addresses: 10.0.0.0/8 }
destinations:
  a:
    hosts: ["*", x.example]
    ports: [443]
    tls: { certFile: missing.pem }
  b:
    hosts: [x.example]
    ports: [443]
rules:
  - { clients: [pods, nobody], destinations: [a, b, c] }
timeouts: { connect: 10 }
`);
  const places = faults.map((fault) => fault.split(' ', 2).join(' '));
  t.strictSame(places, [
    '2:1 nam:',
    '4:10 listeners.http[0]:',
    '4:30 listeners.http[2]:',
    '6:23 clients.pods.addresses[0]:',
    '6:38 clients.pods.addresses[1]:',
    '7:3 clients.pods:',
    '10:13 destinations.a.hosts[0]:',
    '12:22 destinations.a.tls.certFile:',
    '12:22 destinations.a.tls.certFile:',
    '14:13 destinations.b.hosts[0]:',
    '17:23 rules[0].clients[1]:',
    '17:53 rules[0].destinations[2]:',
    '18:22 timeouts.connect:',
  ]);
});

t.test('what is unreadable draws no second complaint', async (t) => {
  t.equal(faultsOf(changed('[eco.example]', '["${A}"]').replace('[443]', '${B}')).length, 2);
  t.equal(faultsOf(`version: 1\nclients: &c {}\ndestinations: *c\n`).length, 1);
});

t.test('an empty variable is named as the reason', async (t) => {
  t.match(faultsOf(changed('[443]', '${PORT}'), { PORT: '' }), [/^8:12 destinations\.eco\.ports: ports is needed, but PORT is empty\. Set PORT/]);
  t.match(faultsOf(changed('[443]', '["${PORT}"]'), { PORT: '' }), [/^8:5 destinations\.eco\.ports: The list is empty, because PORT is empty/]);
});

t.test('a host that one destination repeats is compared once, and a variable that one text repeats is named once', async (t) => {
  // Each with each, these would take minutes.
  t.strictSame(faultsOf(changed('[eco.example]', `"${'eco.example,'.repeat(100_000)}"`)), []);
  t.match(faultsOf(`${MINIMAL}name: "\${X}\${X}"\n`, { X: '_' }), [/ The value comes from \$\{X\}\. /]);
});

t.test('a password in place of its hash is not shown, nor is its line', (t) => {
  const result = loadText(kinds('basic: [{ user: sit, hash: hunter22 }]'));
  t.match(result.ok ? [] : result.faults, [{ path: 'clients.pods.basic[0].hash', line: 4, excerpt: null }]);
  t.notMatch(JSON.stringify(result), 'hunter22');
  t.end();
});

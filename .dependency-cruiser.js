/**
 * Which part of src/ may import which: the arrows of docs/architecture.md. A new
 * arrow is added here. Held by test/docs/architecture.test.ts;
 * by hand: npx depcruise src
 */

/** `dial/lookup` stands for that file, `dial/` for the whole folder, `egress` for a file beside the folders. */
const at = (place) => (place.endsWith('/') ? `^src/${place}` : `^src/${place}\\.ts$`);

/** A part may import itself and these; an import of types is an import. */
export const MAY_IMPORT = {
  crowd: [],
  'lean-imports': [],
  turns: [],
  descriptors: ['config/config'],
  errors: [],
  version: [],
  cancel: [],
  'time-limit': [],
  'rate-buckets': [],
  rates: ['config/config', 'errors', 'policy/', 'rate-buckets', 'telemetry/'],
  limits: ['config/config', 'crowd', 'descriptors', 'errors', 'telemetry/'],
  'config/': ['identity/key-sources', 'identity/proxy-authorization', 'identity/revocation', 'targets/'],
  'http1/': [],
  'targets/': ['errors'],
  'policy/': ['config/config', 'errors', 'targets/'],
  'identity/': ['config/config', 'errors', 'http1/fields', 'policy/address-class', 'policy/verdict', 'targets/'],
  'dial/': ['cancel', 'config/config', 'config/tls-context', 'errors', 'targets/host', 'targets/ip-address', 'targets/quote', 'time-limit'],
  'relay/': ['config/claim-fields', 'config/config', 'crowd', 'dial/dial', 'errors', 'http1/', 'telemetry/', 'time-limit'],
  'telemetry/': ['config/config', 'config/rule-ends', 'config/tls-context', 'crowd', 'descriptors', 'errors', 'rate-buckets', 'turns'],
  'gateway/': ['config/config', 'egress', 'errors', 'lean-imports', 'relay/headers', 'targets/'],
  'listeners/': ['cancel', 'config/config', 'config/tls-context', 'crowd', 'descriptors', 'egress', 'errors', 'gateway/', 'http1/', 'identity/', 'lean-imports', 'limits', 'overload/', 'policy/tables', 'policy/compile', 'policy/verdict', 'relay/', 'targets/', 'telemetry/', 'time-limit'],
  'drain/': ['errors', 'time-limit'],
  'overload/': ['errors'],
  'admin/': ['config/config', 'config/rule-ends', 'crowd', 'drain/', 'explain/', 'incident/', 'lean-imports', 'reload/in-force', 'reload/outcome', 'reload/policy-change', 'self-test/self-test', 'source-ip/source-proof', 'targets/host', 'telemetry/', 'turns'],
  'incident/': ['config/config', 'dial/', 'doctor/examination', 'doctor/partner-checks', 'doctor/targets', 'errors', 'explain/kept-request', 'policy/address-guard', 'source-ip/source-proof', 'source-ip/verify', 'targets/host', 'targets/quote', 'telemetry/destination-health', 'telemetry/safe-text', 'turns'],
  'source-ip/': ['config/config', 'dial/dial', 'dial/ports', 'errors', 'lean-imports', 'listeners/', 'policy/address-class', 'policy/address-guard', 'policy/tables', 'relay/ask-once', 'targets/', 'telemetry/telemetry', 'time-limit'],
  'self-test/': ['config/config', 'crowd', 'egress', 'errors', 'listeners/', 'policy/tables', 'targets/', 'telemetry/', 'time-limit'],
  'build-parts': ['config/config', 'descriptors', 'dial/', 'errors', 'identity/authenticator', 'overload/', 'telemetry/cells', 'telemetry/rare-notice', 'telemetry/telemetry'],
  'reload/': ['config/', 'policy/', 'policy-diff/', 'targets/', 'telemetry/telemetry', 'turns'],
  'policy-diff/': ['config/config', 'errors', 'policy/', 'targets/', 'telemetry/safe-text', 'turns'],
  'explain/': ['config/config', 'egress', 'errors', 'gateway/', 'lean-imports', 'listeners/choose-form', 'policy/', 'policy-diff/', 'targets/', 'telemetry/', 'turns'],
  'suggest/': ['config/config', 'errors', 'explain/', 'policy/', 'policy-diff/', 'targets/quote', 'telemetry/safe-text'],
  'policy-tests/': ['config/', 'errors', 'explain/', 'policy/address-class', 'policy/verdict', 'telemetry/safe-text'],
  egress: ['cancel', 'config/config', 'dial/dial', 'errors', 'limits', 'policy/', 'rates', 'relay/failed-writes', 'relay/pool', 'relay/pools', 'relay/replay', 'targets/', 'telemetry/'],
  service: ['admin/', 'build-parts', 'config/', 'crowd', 'descriptors', 'dial/', 'drain/', 'egress', 'errors', 'explain/', 'gateway/', 'identity/', 'incident/', 'limits', 'listeners/', 'overload/', 'policy/', 'relay/', 'reload/', 'self-test/', 'source-ip/', 'targets/', 'telemetry/', 'version'],
  'manifests/': ['config/config', 'policy/address-class', 'policy/tables', 'targets/'],
  'demo/': ['config/', 'dial/lookup', 'service'],
  'doctor/': ['config/config', 'config/finding', 'config/load', 'descriptors', 'dial/', 'errors', 'listeners/self', 'policy/', 'relay/ask-once', 'service', 'source-ip/judge', 'source-ip/verify', 'targets/', 'telemetry/safe-text', 'turns'],
  'cli/': ['config/', 'demo/', 'doctor/', 'explain/answer', 'explain/policy-edits', 'explain/suggest-change', 'identity/proxy-authorization', 'incident/judge', 'manifests/', 'policy-diff/', 'policy-tests/', 'policy/compile', 'policy/rate-text', 'reload/other-changes', 'reload/outcome', 'service', 'source-ip/', 'suggest/', 'targets/', 'telemetry/log-output', 'telemetry/log-sink', 'telemetry/safe-text'],
  main: ['cli/', 'version'],
};

/** Imported for their types alone: the code behind them is handed over as an argument, or too large to be loaded by commands that do without. */
const TYPES_ONLY = [
  { name: 'only-service-knows-dial', from: '^src/(?!dial/|doctor/|incident/|(?:service|build-parts)\\.ts$)', to: at('dial/') },
  { name: 'only-service-makes-egress', from: '^src/(?!service\\.ts$)', to: at('egress') },
  { name: 'gateway-moves-no-bytes', from: '^src/gateway/', to: at('relay/') },
  { name: 'the-data-path-tells-an-interface', from: '^src/(?:relay/|reload/|(?:egress|limits|rates)\\.ts$)', to: at('telemetry/') },
  { name: 'checking-verifies-no-tokens', from: at('identity/key-sources'), to: '^node_modules/jose/' },
];

const arrows = Object.entries(MAY_IMPORT).map(([part, allowed]) => ({
  name: `arrows-of-${part.replace('/', '')}`,
  comment: `${part} imports nothing of src/ but itself${allowed.map((place) => `, ${place}`).join('')}`,
  severity: 'error',
  from: { path: at(part) },
  to: { path: '^src/', pathNot: [part, ...allowed].map(at) },
}));

const typesOnly = TYPES_ONLY.map(({ name, from, to }) => ({
  name,
  comment: 'only its types',
  severity: 'error',
  from: { path: from },
  to: { path: to, dependencyTypesNot: ['type-only'] },
}));

const forbid = (name, comment, from, to) => ({ name, comment, severity: 'error', from, to });

export default {
  forbidden: [
    ...arrows,
    ...typesOnly,
    forbid('no-cycles', 'two files that import each other are one file', {}, { circular: true }),
    forbid('no-orphan-parts', 'every part of src/ has its line in MAY_IMPORT', { path: '^src/', pathNot: Object.keys(MAY_IMPORT).map(at) }, {}),
    forbid('no-unresolved', 'an import that leads nowhere', {}, { couldNotResolve: true }),
    forbid('no-dev-dependencies', 'the image has none', { path: '^src/' }, { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'] }),
    forbid('only-from-tests', 'src/ knows neither its tests nor its benchmarks', { path: '^src/' }, { path: '^(?:test|bench|node_modules/(?:tap|ws))/' }),
    forbid(
      'pure-is-pure',
      'targets/ and policy/ do no I/O: node:net is for reading addresses, node:crypto for the hash',
      { path: '^src/(?:targets|policy)/' },
      { dependencyTypes: ['core'], pathNot: '^(?:net|crypto|url)$' },
    ),
    forbid('pure-has-no-client', 'targets/ and policy/ do no I/O', { path: '^src/(?:targets|policy)/' }, { path: '^node_modules/', pathNot: '^node_modules/ipaddr\\.js/' }),
    forbid('http1-has-no-socket', 'http1/ reads and writes messages; whose bytes they are, it does not know', { path: '^src/http1/' }, { dependencyTypes: ['core'], dependencyTypesNot: ['type-only'] }),
    forbid('names-are-resolved-in-dial', 'a name resolved elsewhere is an address nobody judged', { path: '^src/', pathNot: '^src/dial/' }, { path: '^dns' }),
    forbid('undici-in-relay', 'one-off questions alone use undici, over a connection they are given', { path: '^src/', pathNot: '^src/relay/ask-once\\.ts$' }, { path: '^node_modules/undici/' }),
    forbid('files-at-the-edge', 'configuration, commands and demo read and write files; besides, keys and names are read from one each, descriptors and lost packets counted, the cgroup is read, the log is written, and the status page has parts', { path: '^src/', pathNot: '^src/(?:(?:config|cli|demo)/|(?:admin/status-page|descriptors|dial/lookup|identity/key-sources|incident/retransmits|overload/memory-use|telemetry/log-output)\\.ts$)' }, { path: '^fs' }),
    forbid('the-page-runs-in-browsers', 'what a browser is sent imports nothing of the proxy but types', { path: '^src/admin/page/(?!server\\.js$)' }, { path: '^src/(?!admin/page/)|preact-render-to-string', dependencyTypesNot: ['type-only'] }),
    forbid('no-processes', 'the proxy starts no other program', { path: '^src/' }, { path: '^(?:child_process|worker_threads|cluster)$' }),
  ],
  options: {
    // Imports of types are arrows too: they name what a part knows.
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default'] },
  },
};

/** What a mesh is told to steer, and what is said of the rest. Each object is held to its schema. */
import t from 'tap';
import { PLACEMENT } from '../../src/manifests/placement.ts';
import { OVERLAYS, renderManifests } from '../../src/manifests/render.ts';
import { configOf } from '../support/load-text.ts';
import { policyWith, renderText } from '../support/manifests/rendered.ts';
import { checkSchema } from '../support/manifests/schemas.ts';
import { checkServerRules } from '../support/manifests/server-rules.ts';

interface VirtualServiceSpec {
  readonly hosts: string[];
  readonly tls?: { match: { port: number; sniHosts: string[] }[]; route: { destination: { subset?: string; port: { number: number } } }[] }[];
  readonly http?: { match: { port: number }[]; route: { destination: { port: { number: number } } }[] }[];
}

/** `tls 443 a,b -> 8443`, one line for each route. */
const routesOf = ({ tls = [], http = [] }: VirtualServiceSpec): string[] => [
  ...tls.map(({ match, route }) => `tls ${match[0]?.port} ${match[0]?.sniHosts.join()} -> ${route[0]?.destination.port.number}${route[0]?.destination.subset === undefined ? '' : ` ${route[0].destination.subset}`}`),
  ...http.map(({ match, route }) => `http ${match[0]?.port} -> ${route[0]?.destination.port.number}`),
];

const TABLE: readonly { what: string; destination: string; sidecar: string[]; tunnel: string[]; ambient?: string[]; notes?: RegExp[]; tunnelNotes?: RegExp[]; ambientNotes?: RegExp[] }[] = [
  {
    what: 'the shipped one',
    destination: '{ hosts: eco.example, ports: [443, 80] }',
    sidecar: ['tls 443 eco.example -> 8443', 'http 80 -> 8080'],
    tunnel: ['tls 443 eco.example -> 3128 eco-example-443', 'http 80 -> 8080'],
  },
  {
    what: 'two hosts, one of them a wildcard',
    destination: '{ hosts: [eco.example, "*.eco.example"], ports: [443, 80] }',
    sidecar: ['tls 443 eco.example,*.eco.example -> 8443', 'http 80 -> 8080'],
    tunnel: ['tls 443 eco.example -> 3128 eco-example-443', 'tls 443 *.eco.example -> 8443', 'http 80 -> 8080'],
    ambient: ['tls 443 eco.example -> 8443', 'http 80 -> 8080'],
    ambientNotes: [/^d: \*\.eco\.example is not steered\. Ambient .* list the names\.$/],
  },
  {
    what: 'a port that raw TLS cannot name',
    destination: '{ hosts: eco.example, ports: [443, 8443] }',
    sidecar: ['tls 443 eco.example -> 8443'],
    tunnel: ['tls 443 eco.example -> 3128 eco-example-443', 'tls 8443 eco.example -> 3128 eco-example-8443'],
    notes: [/^d: eco\.example:8443 is not steered\. Raw TLS does not say its port, and the proxy takes 443 for this host\..*sidecar-tunnel/],
  },
  {
    what: 'a single port, which raw TLS means',
    destination: '{ hosts: eco.example, ports: [8443] }',
    sidecar: ['tls 8443 eco.example -> 8443'],
    tunnel: ['tls 8443 eco.example -> 3128 eco-example-8443'],
  },
  {
    what: 'a gateway URL that says which port is HTTP',
    destination: '{ hosts: eco.example, ports: [8000, 8080], gateway: { prefix: /eco, url: "http://eco.example:8000" } }',
    sidecar: ['http 8000 -> 8080', 'http 8080 -> 8080'],
    tunnel: ['http 8000 -> 8080', 'http 8080 -> 8080'],
  },
  {
    what: 'a gateway URL that says that 8080 is TLS',
    destination: '{ hosts: eco.example, ports: [8080], gateway: { prefix: /eco, url: "https://eco.example:8080" } }',
    sidecar: ['tls 8080 eco.example -> 8443'],
    tunnel: ['tls 8080 eco.example -> 3128 eco-example-8080'],
  },
  {
    what: 'forms that leave out sni',
    destination: '{ hosts: eco.example, ports: [443, 80], forms: [connect, host-routed] }',
    sidecar: ['http 80 -> 8080'],
    tunnel: ['tls 443 eco.example -> 3128 eco-example-443', 'http 80 -> 8080'],
    notes: [/^d: eco\.example:443 is not steered\. TLS arrives from a mesh in the form sni, which its forms leave out\.$/],
  },
  {
    what: 'forms that leave out connect and host-routed',
    destination: '{ hosts: eco.example, ports: [443, 80], forms: [sni] }',
    sidecar: ['tls 443 eco.example -> 8443'],
    tunnel: ['tls 443 eco.example -> 8443'],
    notes: [/eco\.example:80 is not steered\. HTTP arrives from a mesh in the form host-routed, which its forms leave out\.$/],
    tunnelNotes: [/eco\.example:80 is not steered/],
  },
  {
    what: 'a range of ports, which only CONNECT can say',
    destination: '{ hosts: eco.example, ports: [443, "8443-8444"] }',
    sidecar: ['tls 443 eco.example -> 8443'],
    tunnel: ['tls 443 eco.example -> 3128 eco-example-443', 'tls 8443 eco.example -> 3128 eco-example-8443', 'tls 8444 eco.example -> 3128 eco-example-8444'],
    notes: [/^d: eco\.example:8443-8444 is not steered\. Raw TLS does not say its port/],
  },
  {
    what: 'plain HTTP that is sent on over TLS, to a destination without port 80',
    destination: '{ hosts: eco.example, ports: [443], upgradePlainHttp: 443 }',
    sidecar: ['tls 443 eco.example -> 8443', 'http 80 -> 8080'],
    tunnel: ['tls 443 eco.example -> 3128 eco-example-443', 'http 80 -> 8080'],
  },
  {
    what: 'more ports than a mesh lists',
    destination: '{ hosts: eco.example, ports: [443, "8000-8100"] }',
    sidecar: ['tls 443 eco.example -> 8443'],
    tunnel: ['tls 443 eco.example -> 3128 eco-example-443'],
    notes: [/^d: eco\.example:8000-8100 is not steered\. A mesh lists every port by itself/],
    tunnelNotes: [/^d: eco\.example:8000-8100 is not steered/],
  },
  {
    what: 'a host that is an address',
    destination: '{ hosts: [eco.example, 192.0.2.7], ports: [443], addresses: 192.0.2.0/24 }',
    sidecar: ['tls 443 eco.example -> 8443'],
    tunnel: ['tls 443 eco.example -> 3128 eco-example-443'],
    notes: [/^d: 192\.0\.2\.7 is an address, and a mesh steers by names/],
    tunnelNotes: [/^d: 192\.0\.2\.7 is an address/],
  },
  {
    what: 'names that Istio refuses, or reads otherwise',
    destination: '{ hosts: [eco_1.example, "*.eco_1.example", eco, eco.example], ports: [443] }',
    sidecar: ['tls 443 eco.example -> 8443'],
    tunnel: ['tls 443 eco.example -> 3128 eco-example-443'],
    ...Object.fromEntries(['notes', 'tunnelNotes'].map((key) => [key, [/^d: eco_1\.example has an underscore, and Istio refuses/, /^d: \*\.eco_1\.example has an underscore/, /^d: eco has no dot, and Istio takes it for a Service/]])),
  },
];

for (const { what, destination, sidecar, tunnel, ambient = sidecar, notes = [], tunnelNotes = [], ambientNotes = notes } of TABLE) {
  t.test(what, async (t) => {
    for (const [overlay, routes, said] of [['sidecar', sidecar, notes], ['sidecar-tunnel', tunnel, tunnelNotes], ['ambient', ambient, ambientNotes]] as const) {
      const rendered = renderText(overlay, policyWith({ d: destination }));
      t.strictSame(rendered.objects.flatMap(checkSchema), [], overlay);
      t.strictSame(rendered.problems, []);
      t.strictSame(routesOf(rendered.spec('VirtualService', 'd-through-egress')), routes, overlay);
      const spoken = rendered.notes.filter((note) => !note.startsWith('The policy lists no addresses'));
      t.equal(spoken.length, said.length, spoken.join('\n'));
      for (const [index, text] of said.entries()) t.match(spoken[index], text);
    }
  });
}

t.test('a wildcard has a ServiceEntry of its own, for it cannot be resolved', async (t) => {
  const { spec } = renderText('sidecar', policyWith({ eco: '{ hosts: [eco.example, "*.eco.example"], ports: [443] }' }));
  t.match(spec('ServiceEntry', 'eco-external'), { hosts: ['eco.example'], resolution: 'DNS', exportTo: ['.'] });
  t.match(spec('ServiceEntry', 'eco-external-wildcard'), { hosts: ['*.eco.example'], resolution: 'NONE', ports: [{ number: 443, name: 'tls', protocol: 'TLS' }] });
});

t.test('a wildcard is not steered where it would take a host below it to another of its ports', async (t) => {
  // Istio takes the most specific route of a port: eco.example:8443 would go by the wildcard, and the proxy would dial its 443.
  for (const [exact, above] of [['eco.example', '*.example'], ['x.example', '*.example'], ['*.eco.example', '*.example'], ['*.eco.example', '*.eco.example']] as const) {
    for (const overlay of ['sidecar', 'sidecar-tunnel'] as const) {
      const { notes, spec } = renderText(overlay, policyWith({ wide: `{ hosts: "${above}", ports: [8443, 80] }`, one: `{ hosts: ["${exact}"], ports: [443] }` }));
      const mixed = notes.filter((note) => note.includes('takes another one for'));
      t.strictSame(mixed, exact === above ? [] : [`wide: ${above}:8443 is not steered. Raw TLS does not say its port, and the proxy takes another one for ${exact}, which a mesh would steer along. List the names in place of the wildcard.`]);
      if (exact !== above) t.strictSame(routesOf(spec('VirtualService', 'wide-through-egress')), ['http 80 -> 8080']);
      const same = renderText(overlay, policyWith({ wide: `{ hosts: "${above}", ports: [8443] }`, one: `{ hosts: ["${exact}"], ports: [8444] , forms: [connect] }` }));
      t.match(routesOf(same.spec('VirtualService', 'wide-through-egress'))[0], `tls 8443 ${above} -> 8443`, 'a port that only a tunnel takes is not in the way');
    }
  }
});

t.test('raw TLS is steered only where the policy listens for it', async (t) => {
  const text = `${policyWith({ eco: '{ hosts: [eco.example, "*.eco.example"], ports: [443] }' })}listeners: { tls: off }\n`;
  const { notes, problems, spec } = renderText('sidecar-tunnel', text);
  t.strictSame(problems, []);
  t.strictSame(routesOf(spec('VirtualService')), ['tls 443 eco.example -> 3128 eco-example-443']);
  t.match(notes, ['eco: *.eco.example:443 is not steered. No listener of the policy takes sni on port 8443.']);
});

t.test('a port has one protocol in the whole mesh: another one is not steered, and a word', async (t) => {
  const text = policyWith({
    a: '{ hosts: [a.example, b.example], ports: [443, 9000] }',
    b: '{ hosts: c.example, ports: [9000], gateway: { prefix: /x, url: "http://c.example:9000" } }',
    c: '{ hosts: a.example, ports: [9001], gateway: { prefix: /y, url: "http://a.example:9001" } }',
    d: '{ hosts: b.example, ports: [9001] }',
  });
  const { objects, notes, spec } = renderText('sidecar-tunnel', text);
  t.match(spec('ServiceEntry', 'a-external'), { ports: [{ name: 'tls' }, { name: 'tls-9000' }, { name: 'http-9001', protocol: 'HTTP' }] });
  t.notOk(objects.some(({ metadata }) => metadata.name.startsWith('b-')));
  t.notMatch(JSON.stringify(spec('VirtualService', 'a-through-egress')), 'b-example-9001');
  t.match(notes.filter((note) => note.includes('one protocol')), [/^d: b\.example:9001 .*takes this one for HTTP/, /^b: c\.example:9000 .*takes this one for TLS/]);
});

t.test('more hosts and ports than a ServiceEntry has', async (t) => {
  const hosts = Array.from({ length: 300 }, (_, index) => `h${index}.example`);
  const many = renderText('sidecar', policyWith({ eco: `{ hosts: [${hosts.join()}, "*.w.example"], ports: [443] }` }));
  t.strictSame(many.objects.flatMap(checkSchema), []);
  const entries = many.objects.filter(({ kind }) => kind === 'ServiceEntry');
  t.strictSame(entries.map(({ metadata }) => metadata.name), ['eco-external', 'eco-external-2', 'eco-external-wildcard']);
  t.strictSame(entries.flatMap(({ spec }) => (spec as { hosts: string[] }).hosts), [...hosts, '*.w.example']);
  const wide = renderText('sidecar-tunnel', policyWith({ eco: '{ hosts: eco.example, ports: ["1000-1099", "2000-2099", "3000-3099"] }' }));
  t.strictSame(wide.objects.flatMap(checkSchema), []);
  t.equal((wide.spec('ServiceEntry', 'eco-external') as { ports: object[] }).ports.length, 256);
  t.match(wide.notes.join('\n'), /eco: eco\.example:3056-3099 is not steered\. A mesh takes 256 ports/);
});

t.test('thousands of destinations, whose addresses are not listed', async (t) => {
  const text = policyWith(Object.fromEntries(Array.from({ length: 4000 }, (_, index) => [`d${index}`, `{ hosts: h${index}.example, ports: [443, 80] }`])));
  const config = configOf(text);
  // With the public ranges made anew for each, and each host looked for in each destination, this would take more than two minutes.
  for (const overlay of OVERLAYS) {
    const manifests = renderManifests(overlay, { config, policyText: text, placement: PLACEMENT, direct: [] }).files.flatMap((file) => file.manifests);
    if (/sidecar|ambient/.test(overlay)) t.equal(manifests.filter(({ kind }) => kind === 'VirtualService').length, 4000, overlay);
  }
});

t.test('several destinations: names and routes of each, one DestinationRule', async (t) => {
  const text = policyWith({ a: '{ hosts: [a.example, both.example], ports: [443] }', b: '{ hosts: [both.example, b.example], ports: [80, 8443] }', c: '{ hosts: both.example, ports: [9443] }' });
  const { objects, notes, spec } = renderText('sidecar-tunnel', text);
  const names = objects.filter(({ apiVersion }) => apiVersion.startsWith('networking.istio.io')).map(({ kind, metadata }) => `${kind} ${metadata.name}`);
  t.strictSame(names, ['ServiceEntry a-external', 'VirtualService a-through-egress', 'ServiceEntry b-external', 'VirtualService b-through-egress', 'DestinationRule eco-egress']);
  t.strictSame(routesOf(spec('VirtualService', 'a-through-egress')).toSorted(), [
    'http 80 -> 8080',
    'tls 443 a.example -> 3128 a-example-443',
    'tls 443 both.example -> 3128 both-example-443',
    'tls 8443 both.example -> 3128 both-example-8443',
    'tls 9443 both.example -> 3128 both-example-9443',
  ], 'a host of several destinations has one route for each of its ports');
  t.match(spec('VirtualService', 'b-through-egress'), { hosts: ['b.example'] });
  t.equal((spec('DestinationRule') as { subsets: unknown[] }).subsets.length, 5);
  t.notMatch(notes.join(), /not steered/);
});

t.test('a policy of which nothing can be steered', async (t) => {
  const { objects, notes } = renderText('sidecar', policyWith({ eco: '{ hosts: 192.0.2.7, ports: [443], addresses: 192.0.2.0/24 }' }));
  t.notOk(objects.some(({ kind }) => ['ServiceEntry', 'VirtualService'].includes(kind)));
  t.match(notes, [/an address/]);
});

t.test('ambient: bound to a waypoint that only the clients may use', async (t) => {
  const { objects, spec } = renderText('ambient', policyWith({ eco: '{ hosts: eco.example, ports: [443] }' }));
  t.match(objects.find(({ kind }) => kind === 'ServiceEntry'), { metadata: { labels: { 'istio.io/use-waypoint': 'eco-egress-waypoint' } } });
  t.match(objects.find(({ kind }) => kind === 'Gateway'), { metadata: { name: 'eco-egress-waypoint', namespace: 'dynatrace-sit' } });
  t.match(spec('AuthorizationPolicy'), { action: 'ALLOW', rules: [{ from: [{ source: { namespaces: ['dynatrace-sit'] } }] }] });
});

t.test('every host has a subset of its own, with a name that a DNS label can be', async (t) => {
  const long = `${'part.'.repeat(20)}example`;
  const { objects, spec } = renderText('sidecar-tunnel', policyWith({ eco: `{ hosts: [a-b.example, a.b.example, ${long}], ports: [443, 8443] }` }));
  t.strictSame(objects.flatMap((object) => [...checkSchema(object), ...checkServerRules(object)]), []);
  const names = (spec('DestinationRule') as { subsets: { name: string }[] }).subsets.map(({ name }) => name);
  t.equal(new Set(names).size, 6);
  t.strictSame(names.filter((name) => name.length > 63), []);
  t.ok(names.includes('a--b-example-443') && names.includes('a-b-example-443'));
});

t.test('the mesh closes idle connections before the proxy does, and repeats and cuts nothing', async (t) => {
  const destination = policyWith({ eco: '{ hosts: eco.example, ports: [443, 80] }' });
  for (const [text, idleTimeout] of [[destination, '60s'], [`${destination}timeouts: { keepAlive: 1s }\n`, '800ms'], [`${destination}timeouts: { keepAlive: 1ms }\n`, '1ms']] as const) {
    const { spec } = renderText('sidecar', text);
    t.match(spec('DestinationRule'), { trafficPolicy: { connectionPool: { http: { idleTimeout } } } });
    const { http = [] } = spec('VirtualService') as VirtualServiceSpec;
    t.strictSame(http.map((route) => Object.keys(route)), [['match', 'route', 'retries']], 'no timeout: "0s" is no duration to the API server');
  }
});

t.test('other namespaces', async (t) => {
  for (const overlay of ['sidecar', 'sidecar-tunnel', 'ambient'] as const) {
    const { objects, spec } = renderText(overlay, policyWith({ eco: '{ hosts: eco.example, ports: [443, 80] }' }), { placement: { namespace: 'door', clientNamespace: 'batch' } });
    const text = JSON.stringify(objects.filter(({ kind }) => kind !== 'ConfigMap'));
    t.notMatch(text, /dynatrace-sit|eco-egress\.eco-egress/);
    t.match(spec('DestinationRule'), { host: 'eco-egress.door.svc.cluster.local' });
    t.match(spec('VirtualService'), { tls: [{ match: [{ sourceNamespace: 'batch' }] }], http: [{ match: [{ sourceNamespace: 'batch' }] }] });
  }
});

t.test('two proxies for the same clients: neither replaces what steers to the other', async (t) => {
  for (const overlay of ['sidecar', 'sidecar-tunnel'] as const) {
    const steering = (namespace: string, destination: string): string[] =>
      renderText(overlay, policyWith({ [destination]: `{ hosts: ${destination}.example, ports: [443, 80] }` }), { placement: { namespace, clientNamespace: 'dynatrace-sit' } })
        .objects.filter(({ metadata }) => metadata.namespace === 'dynatrace-sit')
        .map(({ kind, metadata }) => `${kind} ${metadata.name}`);
    const one = new Set(steering('eco-egress', 'eco'));
    t.ok(one.has('DestinationRule eco-egress'), 'the name that it has had');
    t.strictSame(steering('billing-egress', 'billing').filter((name) => one.has(name)), [], overlay);
  }
});

t.test('a policy that does not listen where the Service leads', async (t) => {
  const destination = policyWith({ eco: '{ hosts: eco.example, ports: [443] }' });
  const problems = (overlay: Parameters<typeof renderText>[0], listeners: string): readonly string[] => renderText(overlay, `${destination}listeners: ${listeners}\n`).problems;
  t.strictSame(problems('sidecar', '{ tls: off }'), ['Port 8443 of the Service eco-egress leads to no listener. Let the policy listen on 8443 and take sni there.']);
  t.match(problems('sidecar', '{ http: "0.0.0.0:3128" }'), [/^Port 8080 of the Service eco-egress leads to no listener/]);
  t.match(problems('sidecar-tunnel', '{ http: [{ address: "0.0.0.0:3128", forms: forward }, "0.0.0.0:8080"] }'), [/^Port 3128 .* a listener without the form connect\. .* take connect there\.$/]);
  t.strictSame(problems('sidecar-tunnel', '{ tls: off }'), [], 'a tunnel needs no TLS port');
  t.strictSame(problems('base', '{ tls: off, http: "0.0.0.0:1" }'), []);
});

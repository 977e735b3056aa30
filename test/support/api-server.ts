/**
 * A small API server over HTTPS, for kubectl: discovery, server-side apply, get, list and delete, in memory. It takes
 * strict applies alone, holds objects to the schemas of the tests, and keeps what it was asked. Where a test says so, it
 * also takes what kubectl sends without --server-side: create, merge patch and update.
 */
import { createServer } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Test } from 'tap';
import { parse, stringify } from 'yaml';
import { createAuthority } from '../../src/demo/authority.ts';
import { listen } from './listen.ts';
import type { KubeObject } from './manifests/kustomize.ts';
import { checkSchema } from './manifests/schemas.ts';
import { checkServerRules } from './manifests/server-rules.ts';

export interface ApiServerOptions {
  /** Kinds that are there besides those of CRDs, as `apps/v1/Deployment`; Namespace and CustomResourceDefinition always are. */
  readonly kinds: Iterable<string>;
  readonly namespaces?: readonly string[];
  /** What it keeps in place of what was sent; `again`: it has the object already. */
  readonly keep?: (object: KubeObject, again: boolean) => KubeObject;
  /** Why it refuses an object, besides the schemas; null: it does not. */
  readonly refuse?: (object: KubeObject) => string | null;
  /** What it says besides, in a header. */
  readonly warn?: (object: KubeObject) => string | null;
  /** Whether an object stays when it is deleted. */
  readonly holds?: (object: KubeObject) => boolean;
  /** Takes create, merge patch and update as well. */
  readonly clientSide?: boolean;
}

export interface ApiServer {
  /** The file for KUBECONFIG. */
  readonly kubeconfig: string;
  /** By path. */
  readonly objects: ReadonlyMap<string, KubeObject>;
  /** Each request that changes something: `PATCH /apis/…`. */
  readonly changes: readonly string[];
}

const CLUSTER_WIDE = new Set(['Namespace', 'CustomResourceDefinition', 'PriorityClass']);
const TOKEN = 'token-of-the-test';

export async function startApiServer(t: Test, { kinds, namespaces = [], keep = (object) => object, refuse = () => null, warn = () => null, holds = () => false, clientSide = false }: ApiServerOptions): Promise<ApiServer> {
  const known = new Set(['v1/Namespace', 'apiextensions.k8s.io/v1/CustomResourceDefinition', ...kinds]);
  const objects = new Map<string, KubeObject>(namespaces.map((name) => [`/api/v1/namespaces/${name}`, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } }]));
  const changes: string[] = [];
  let version = 0;

  const kindOf = (group: string, plural: string): string | undefined => [...known].find((one) => one.startsWith(`${group}/`) && pluralOf(one.slice(one.lastIndexOf('/') + 1)) === plural);

  const answer = (response: ServerResponse, status: number, body: object, headers: Record<string, string> = {}): void => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
  };
  const fail = (response: ServerResponse, code: number, reason: string, message: string): void => {
    answer(response, code, { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, reason, message });
  };

  const discover = (path: string): object | null => {
    const versions = [...new Set([...known].map((one) => one.slice(0, one.lastIndexOf('/'))))];
    const grouped = versions.filter((one) => one.includes('/')).map((one) => one.split('/') as [string, string]);
    const resources = (groupVersion: string): object => ({
      kind: 'APIResourceList',
      apiVersion: 'v1',
      groupVersion,
      resources: [...known].filter((one) => one.slice(0, one.lastIndexOf('/')) === groupVersion).map((one) => one.slice(one.lastIndexOf('/') + 1)).map((kind) => ({ name: pluralOf(kind), singularName: kind.toLowerCase(), namespaced: !CLUSTER_WIDE.has(kind), kind, ...(kind === 'CustomResourceDefinition' ? { shortNames: ['crd'] } : {}), verbs: ['get', 'list', 'create', 'update', 'patch', 'delete', 'watch'] })),
    });
    if (path === '/version') return { major: '1', minor: '33', gitVersion: 'v1.33.0' };
    if (path === '/api') return { kind: 'APIVersions', versions: ['v1'] };
    if (path === '/apis') {
      return { kind: 'APIGroupList', apiVersion: 'v1', groups: [...new Set(grouped.map(([group]) => group))].map((group) => {
        const of = grouped.filter(([one]) => one === group).map(([, name]) => ({ groupVersion: `${group}/${name}`, version: name }));
        return { name: group, versions: of, preferredVersion: of[0] };
      }) };
    }
    if (path === '/openapi/v3') return { paths: Object.fromEntries(versions.map((one) => [prefixOf(one).slice(1), { serverRelativeURL: `/openapi/v3${prefixOf(one)}` }])) };
    const [, described] = /^\/openapi\/v3\/apis?\/(.*)$/.exec(path) ?? [];
    // What kubectl looks for is whether a patch takes the parameter by which validation is strict.
    if (described !== undefined) {
      return { openapi: '3.0.0', info: { title: 'test', version: '1' }, paths: Object.fromEntries([...known].filter((one) => one.slice(0, one.lastIndexOf('/')) === described).map((one) => {
        const [group = '', name = ''] = described.includes('/') ? described.split('/') : ['', described];
        const kind = one.slice(one.lastIndexOf('/') + 1);
        return [`${prefixOf(described)}/${pluralOf(kind)}/{name}`, { patch: { parameters: [{ name: 'fieldValidation', in: 'query', schema: { type: 'string' } }], responses: {}, 'x-kubernetes-action': 'patch', 'x-kubernetes-group-version-kind': { group, version: name, kind } } }];
      })) };
    }
    const [, groupVersion] = /^\/apis?\/([^/]+(?:\/[^/]+)?)$/.exec(path) ?? [];
    return groupVersion !== undefined && versions.includes(groupVersion) ? resources(groupVersion) : null;
  };

  const apply = async (request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> => {
    const object = parse(await text(request)) as KubeObject;
    const { searchParams, pathname } = url;
    if (request.headers['content-type'] !== 'application/apply-patch+yaml' || searchParams.get('fieldValidation') !== 'Strict' || searchParams.get('fieldManager') !== 'eco-egress') {
      fail(response, 400, 'BadRequest', 'not a strict server-side apply by eco-egress');
      return;
    }
    store(response, pathname, object);
  };

  const write = async (request: IncomingMessage, response: ServerResponse, path: string): Promise<void> => {
    const sent = parse(await text(request)) as KubeObject;
    const pathname = request.method === 'POST' ? `${path}/${sent.metadata.name}` : path;
    const before = objects.get(pathname);
    if (request.method === 'POST') {
      if (before !== undefined) fail(response, 409, 'AlreadyExists', `"${sent.metadata.name}" already exists`);
      else if (sent.metadata.resourceVersion !== undefined) fail(response, 400, 'BadRequest', 'resourceVersion should not be set on objects to be created');
      else store(response, pathname, sent);
    } else if (before === undefined) fail(response, 404, 'NotFound', `${pathname} not found`);
    else if (request.method === 'PUT') {
      // Custom resources know no update without the version that it replaces.
      if (sent.metadata.resourceVersion !== before.metadata.resourceVersion) fail(response, 409, 'Conflict', 'the object has been modified');
      else store(response, pathname, sent);
    } else if (request.headers['content-type'] === 'application/merge-patch+json') store(response, pathname, mergePatch(before, sent) as KubeObject);
    // How lists are merged strategically is not known here; kubectl also sends such a patch where nothing changes.
    else if (isDeepStrictEqual(mergePatch(before, sent), before)) answer(response, 200, before);
    else fail(response, 415, 'UnsupportedMediaType', 'neither a server-side apply nor a merge patch');
  };

  const store = (response: ServerResponse, pathname: string, object: KubeObject): void => {
    const { namespace } = object.metadata;
    if (namespace !== undefined && !objects.has(`/api/v1/namespaces/${namespace}`)) {
      fail(response, 404, 'NotFound', `namespaces "${namespace}" not found`);
      return;
    }
    const faults = object.kind === 'CustomResourceDefinition' ? [] : [...checkSchema(object), ...checkServerRules(object)];
    const refusal = refuse(object) ?? faults[0] ?? null;
    if (refusal !== null) {
      fail(response, 422, 'Invalid', refusal);
      return;
    }
    const before = objects.get(pathname);
    const kept = structuredClone(keep(object, before !== undefined));
    version += 1;
    Object.assign(kept.metadata, { uid: before?.metadata.uid ?? `uid-${version}`, resourceVersion: String(version), creationTimestamp: '2026-03-02T12:00:00Z' });
    if (kept.kind === 'CustomResourceDefinition') {
      const { group, names, versions } = kept.spec as { group: string; names: { kind: string }; versions: { name: string; served: boolean }[] };
      for (const { name, served } of versions) if (served) known.add(`${group}/${name}/${names.kind}`);
      kept['status'] = { conditions: [{ type: 'Established', status: 'True' }] };
    }
    objects.set(pathname, kept);
    const warning = warn(object);
    answer(response, before === undefined ? 201 : 200, kept, warning === null ? {} : { warning: `299 - "${warning}"` });
  };

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const url = new URL(request.url ?? '/', 'https://localhost');
    const { pathname } = url;
    const { method = '' } = request;
    if (method !== 'GET') changes.push(`${method} ${pathname}`);
    if (request.headers.authorization !== `Bearer ${TOKEN}`) {
      fail(response, 401, 'Unauthorized', 'Unauthorized');
      return;
    }
    // For a List kubectl asks for the former description. Empty, it describes nothing, and nothing is held to it.
    if (clientSide && pathname === '/openapi/v2') {
      response.writeHead(200, { 'content-type': 'application/octet-stream' }).end();
      return;
    }
    const described = method === 'GET' ? discover(pathname) : null;
    if (described !== null) {
      answer(response, 200, described);
      return;
    }
    const [, groupVersion = '', plural = '', name] = /^\/(?:api\/(?=v1)|apis\/(?=[^/]+\/))(v1|[^/]+\/[^/]+)(?:\/namespaces\/[^/]+(?=\/[^/]+))?\/([^/]+)(?:\/([^/]+))?$/.exec(pathname) ?? [];
    const kind = kindOf(groupVersion, plural);
    if (kind === undefined) fail(response, 404, 'NotFound', 'the server could not find the requested resource');
    else if (clientSide && (method === 'POST' || method === 'PUT' || (method === 'PATCH' && request.headers['content-type'] !== 'application/apply-patch+yaml'))) await write(request, response, pathname);
    else if (method === 'PATCH') await apply(request, response, url);
    else if (name === undefined) {
      const [, wanted] = /metadata\.name=(.*)/.exec(url.searchParams.get('fieldSelector') ?? '') ?? [];
      const found = objects.get(`${pathname}/${wanted ?? ''}`);
      answer(response, 200, { apiVersion: groupVersion, kind: `${kind.slice(kind.lastIndexOf('/') + 1)}List`, metadata: { resourceVersion: String(version) }, items: found === undefined ? [] : [found] });
    } else {
      const found = objects.get(pathname);
      if (found === undefined) fail(response, 404, 'NotFound', `${plural} "${name}" not found`);
      else if (method === 'DELETE') {
        // The wait of kubectl ends at once where the answer is an object that is gone.
        if (!holds(found)) {
          objects.delete(pathname);
          if (found.kind === 'Namespace') for (const path of objects.keys()) if (path.includes(`/namespaces/${name}/`)) objects.delete(path);
        }
        answer(response, 200, { kind: 'Status', apiVersion: 'v1', status: 'Success', details: { name, kind: plural, uid: found.metadata.uid ?? '' } });
      } else answer(response, 200, found);
    }
  };

  const authority = await createAuthority('API server of a test');
  const { certPem, keyPem } = await authority.issue({ names: ['localhost'], addresses: ['127.0.0.1'] });
  const server = createServer({ cert: certPem, key: keyPem }, (request, response) => {
    serve(request, response).catch((error: unknown) => {
      fail(response, 500, 'InternalError', String(error));
    });
  });
  const port = await listen(t, server);
  const directory = t.testdir({});
  const kubeconfig = join(directory, 'kubeconfig');
  writeFileSync(kubeconfig, stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'test',
    clusters: [{ name: 'test', cluster: { server: `https://127.0.0.1:${port}`, 'certificate-authority-data': Buffer.from(authority.certPem).toString('base64') } }],
    users: [{ name: 'test', user: { token: TOKEN } }],
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
  }));
  return { kubeconfig, objects, changes };
}

const prefixOf = (groupVersion: string): string => (groupVersion.includes('/') ? `/apis/${groupVersion}` : `/api/${groupVersion}`);

function pluralOf(kind: string): string {
  const name = kind.toLowerCase();
  if (name.endsWith('y') && !/[aeiou]y$/.test(name)) return `${name.slice(0, -1)}ies`;
  return /(s|x|ch)$/.test(name) ? `${name}es` : `${name}s`;
}

/** RFC 7386: null takes a member away, a list is replaced as a whole. */
function mergePatch(target: unknown, patch: unknown): unknown {
  if (patch === null || typeof patch !== 'object' || Array.isArray(patch)) return patch;
  const merged = new Map(Object.entries(target !== null && typeof target === 'object' && !Array.isArray(target) ? target : {}));
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key);
    else merged.set(key, mergePatch(merged.get(key), value));
  }
  return Object.fromEntries(merged);
}

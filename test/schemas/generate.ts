/**
 * Makes kubernetes.json: strict JSON Schemas of the core kinds that
 * deploy/kubernetes/ uses, from the models of Kubernetes' own JavaScript
 * client. By hand, when the kinds or the version change:
 *
 *   npm i --no-save @kubernetes/client-node && node test/schemas/generate.ts
 */
import { readFileSync, writeFileSync } from 'node:fs';

const MODELS = new URL('../../node_modules/@kubernetes/client-node/dist/gen/models/', import.meta.url);

const KINDS: Record<string, string> = {
  'v1/Namespace': 'V1Namespace',
  'v1/ServiceAccount': 'V1ServiceAccount',
  'v1/Service': 'V1Service',
  'v1/ConfigMap': 'V1ConfigMap',
  'apps/v1/Deployment': 'V1Deployment',
  'apps/v1/StatefulSet': 'V1StatefulSet',
  'apps/v1/DaemonSet': 'V1DaemonSet',
  'batch/v1/Job': 'V1Job',
  'batch/v1/CronJob': 'V1CronJob',
  'policy/v1/PodDisruptionBudget': 'V1PodDisruptionBudget',
  'autoscaling/v2/HorizontalPodAutoscaler': 'V2HorizontalPodAutoscaler',
  'networking.k8s.io/v1/NetworkPolicy': 'V1NetworkPolicy',
};

/** The client's models know no enumerations: those of the API's documentation, for the fields that are used here. */
const ENUMS: Record<string, readonly string[]> = {
  'V1Container.imagePullPolicy': ['Always', 'IfNotPresent', 'Never'],
  'V1ContainerPort.protocol': ['TCP', 'UDP', 'SCTP'],
  'V1DeploymentStrategy.type': ['Recreate', 'RollingUpdate'],
  'V1LabelSelectorRequirement.operator': ['In', 'NotIn', 'Exists', 'DoesNotExist'],
  'V1NetworkPolicyPort.protocol': ['TCP', 'UDP', 'SCTP'],
  'V1PodDisruptionBudgetSpec.unhealthyPodEvictionPolicy': ['AlwaysAllow', 'IfHealthyBudget'],
  'V1PodSpec.restartPolicy': ['Always', 'Never', 'OnFailure'],
  'V1SeccompProfile.type': ['Localhost', 'RuntimeDefault', 'Unconfined'],
  'V1ServicePort.protocol': ['TCP', 'UDP', 'SCTP'],
  'V1ServiceSpec.externalTrafficPolicy': ['Cluster', 'Local'],
  'V1ServiceSpec.internalTrafficPolicy': ['Cluster', 'Local'],
  'V1ServiceSpec.sessionAffinity': ['ClientIP', 'None'],
  'V1ServiceSpec.type': ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort'],
  'V1Toleration.effect': ['NoExecute', 'NoSchedule', 'PreferNoSchedule'],
  'V1Toleration.operator': ['Equal', 'Exists', 'Gt', 'Lt'],
  'V1TopologySpreadConstraint.whenUnsatisfiable': ['DoNotSchedule', 'ScheduleAnyway'],
  'V2HPAScalingPolicy.type': ['Percent', 'Pods'],
  'V2HPAScalingRules.selectPolicy': ['Disabled', 'Max', 'Min'],
  'V2MetricSpec.type': ['ContainerResource', 'External', 'Object', 'Pods', 'Resource'],
  'V2MetricTarget.type': ['AverageValue', 'Utilization', 'Value'],
};

type Schema = Record<string, unknown>;

interface Attribute {
  readonly baseName: string;
  readonly type: string;
}

const definitions: Record<string, Schema> = {};

function schemaOf(type: string, format: string | null): Schema {
  const list = /^Array<(.*)>$/.exec(type)?.[1];
  if (list !== undefined) return { type: 'array', items: schemaOf(list, null) };
  const map = /^\{ \[key: string\]: (.*); \}$/.exec(type)?.[1];
  if (map !== undefined) return { type: 'object', additionalProperties: schemaOf(map, null) };
  if (type === 'string' || type === 'boolean') return { type };
  if (type === 'number') return { type: format === 'double' ? 'number' : 'integer' };
  if (type === 'IntOrString') return { type: ['integer', 'string'] };
  if (type === 'Date') return { type: 'string' };
  if (type === 'any') return {};
  define(type);
  return { $ref: `#/definitions/${type}` };
}

function define(model: string): void {
  if (model in definitions) return;
  const schema: Schema = { type: 'object', additionalProperties: false };
  definitions[model] = schema;
  const source = readFileSync(new URL(`${model}.js`, MODELS), 'utf8');
  const types = readFileSync(new URL(`${model}.d.ts`, MODELS), 'utf8');
  const attributes = JSON.parse(/attributeTypeMap = (\[[^]*?\n\]);/.exec(source)?.[1] ?? '[]') as (Attribute & { format: string })[];
  schema['properties'] = Object.fromEntries(
    attributes
      .filter(({ baseName }) => baseName !== 'status' && baseName !== 'managedFields')
      .map(({ baseName, type, format }) => {
        const values = ENUMS[`${model}.${baseName}`];
        return [baseName, values === undefined ? schemaOf(type, format) : { enum: values }];
      }),
  );
  const required = [...types.matchAll(/^ {4}'(\w+)': /gm)].map(([, name]) => name);
  if (required.length > 0) schema['required'] = required;
}

for (const model of Object.values(KINDS)) define(model);
const version = /OpenAPI spec version: (.*)/.exec(readFileSync(new URL('V1Pod.js', MODELS), 'utf8'))?.[1];
const text = JSON.stringify({ $comment: `Kubernetes ${version}, made by generate.ts`, kinds: KINDS, definitions });
writeFileSync(new URL('kubernetes.json', import.meta.url), `${text.replaceAll(/(?<=[{,])(?="[VC]\w+":\{"type")/g, '\n')}\n`);

/**
 * Parses the tests of a policy (docs/policy-tests.md): a YAML file that names a
 * configuration, and requests with their expected results.
 */
import * as z from 'zod';
import { classifyAddress } from '../policy/address-class.ts';
import type { Verdict } from '../policy/verdict.ts';
import type { Config } from '../config/config.ts';
import { complainAbout, explainIssue } from '../config/effective.ts';
import { type Complain, type ConfigFinding, showValue, suggest } from '../config/finding.ts';
import { collectFaults, readSource } from '../config/load.ts';
import type { ReadFile } from '../config/named-files.ts';
import { invalidValue, readInteger, readMoment, type Read, readText } from '../config/read-scalar.ts';
import { type Environment, readTree } from '../config/read-tree.ts';
import { locateAll, readYaml } from '../config/read-yaml.ts';
import { entriesOf, scalar, valuesOf } from '../config/schema.ts';
import { type FaultCode, FAULTS } from '../errors.ts';
import type { ExplainRequest } from '../explain/explainer.ts';

/** The expectations of a test; null and absent: any value. */
export interface Expected {
  readonly verdict: Verdict['verdict'];
  readonly code: FaultCode | null;
  /** Names of the configuration. */
  readonly as: string | null;
  readonly destination: string | null;
  /** Position in `rules`, from 0. */
  readonly rule: number | null;
}

/** One test of a policy. */
export interface PolicyTest {
  readonly name: string;
  /** Where it begins in its file, from 1. */
  readonly line: number;
  readonly request: ExplainRequest;
  readonly expected: Expected;
}

/** The tests of one file. */
export interface PolicyTests {
  readonly file: string;
  /** As written: relative to the file of the tests. */
  readonly config: string;
  /** Variables of the configuration, which override those of the environment. */
  readonly env: Readonly<Record<string, string>>;
  readonly tests: readonly PolicyTest[];
  /** Gives the errors of a test their place in the file. */
  readonly locate: (report: (complain: Complain) => void) => ConfigFinding[];
}

/** The tests of a file, or every fault of it. */
export type TestsReading =
  { readonly ok: true; readonly tests: PolicyTests } | { readonly ok: false; readonly faults: readonly ConfigFinding[] };

const REQUEST_EXAMPLE =
  'Write METHOD and URL, CONNECT host:port, TLS host, or METHOD and path: GET https://eco-sit.telus.internal/api/status.';

/** The method, and the target after the first blank. */
function readTestRequest(value: unknown): Read<{ readonly method: string; readonly target: string }> {
  const [, method, target] = typeof value === 'string' ? (/^(\S+) +(\S.*)$/.exec(value.trim()) ?? []) : [];
  return method === undefined || target === undefined
    ? invalidValue(`${showValue(value)} is not a request.`, REQUEST_EXAMPLE)
    : { value: { method, target } };
}

function readResolved(value: unknown): Read<string> {
  const known = typeof value === 'string' ? classifyAddress(value) : null;
  return known === null
    ? invalidValue(`${showValue(value)} is not an IP address.`, 'Write an address that the name is to resolve to: 10.40.1.9.')
    : { value: known.canonical };
}

/** Variables are texts, however they are written. */
function readVariable(value: unknown): Read<string> {
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
    ? { value: String(value) }
    : invalidValue(`${showValue(value)} is not a value of a variable.`, 'Write one text.');
}

const isCode = (value: unknown): value is FaultCode => typeof value === 'string' && Object.hasOwn(FAULTS, value);

function readCode(value: unknown): Read<FaultCode> {
  if (isCode(value)) return { value };
  return invalidValue(
    `${showValue(value)} is not a code of docs/errors.md.`,
    typeof value === 'string' ? suggest(value, Object.keys(FAULTS)) : 'Write the code of a refusal: host-not-allowed.',
  );
}

const someText = scalar(readText);

/** Keys of an entry of `tests`. */
export const POLICY_TEST = {
  name: someText.optional(),
  client: z
    .preprocess(
      (value) => (typeof value === 'object' ? value : { address: value }),
      z.strictObject({
        address: someText.optional(),
        user: someText.optional(),
        subject: someText.optional(),
        sans: valuesOf(readText).optional(),
      }),
    )
    .optional(),
  request: scalar(readTestRequest),
  host: someText.optional(),
  resolves: valuesOf(readResolved).optional(),
  at: scalar(readMoment).optional(),
  expect: z.enum(['allow', 'deny', 'report']),
  code: scalar(readCode).optional(),
  as: someText.optional(),
  destination: someText.optional(),
  rule: scalar(readInteger(0, 1_000_000)).optional(),
};

/** Keys of the file. */
export const POLICY_TESTS = {
  config: someText,
  env: z.record(z.string(), scalar(readVariable)).prefault({}),
  tests: entriesOf(z.strictObject(POLICY_TEST)),
};

/** The whole file of tests. */
export const FILE_OF_TESTS = z.strictObject(POLICY_TESTS);

/** Never throws for the content of the file. @param env values of `${NAME}` in it */
export function readPolicyTests(file: string, env: Environment, readFile: ReadFile): TestsReading {
  const source = readSource(file, readFile, 'Name another file, or a directory with files *.test.yaml.');
  if (typeof source !== 'string') return { ok: false, faults: [source] };
  const { found, complain } = collectFaults();
  const { document, lines } = readYaml(source, complain, 'Start from docs/policy-tests.md.');
  const tree = document === null ? null : readTree(document, lines, env, complain);
  const content = tree === null ? null : FILE_OF_TESTS.safeParse(tree.value, { error: explainIssue });
  if (tree !== null && content?.success === false) complainAbout(content.error.issues, tree, complain);
  const place = { file, text: source, lines, root: tree?.root ?? null };
  if (content?.success !== true || found.length > 0) return { ok: false, faults: locateAll(found, place) };
  const { config, env: variables, tests } = content.data;
  const places = locateAll(
    tests.map((_, index) => ({ path: ['tests', index], problem: '', instead: '', aim: 'value' })),
    place,
  );
  return {
    ok: true,
    tests: {
      file,
      config,
      env: variables,
      tests: tests.map((test, index) => testOf(test, places[index]?.line ?? 1)),
      locate: (report) => {
        const faults = collectFaults();
        report(faults.complain);
        return locateAll(faults.found, place);
      },
    },
  };
}

type TestContent = z.output<typeof FILE_OF_TESTS>['tests'][number];

function testOf(
  { name, client = {}, request, host, resolves, at, expect, code, as, destination, rule }: TestContent,
  line: number,
): PolicyTest {
  const { method, target } = request;
  return {
    name: name ?? `${method} ${target}${client.address === undefined ? '' : ` from ${client.address}`}`,
    line,
    request: {
      client: client.address ?? null,
      user: client.user ?? null,
      subject: client.subject ?? null,
      sans: client.sans ?? [],
      method,
      target,
      host: host ?? null,
      resolve: false,
      ...(resolves === undefined ? {} : { resolves }),
      ...(at === undefined ? {} : { at }),
    },
    expected: { verdict: expect, code: code ?? null, as: as ?? null, destination: destination ?? null, rule: rule ?? null },
  };
}

/** Names in tests that are not defined in the configuration. */
export function complainOfNames(
  { tests }: PolicyTests,
  { clients, destinations, rules }: Pick<Config, 'clients' | 'destinations' | 'rules'>,
  complain: Complain,
): void {
  for (const [index, { request, expected }] of tests.entries()) {
    const { client } = request;
    if (client !== null && classifyAddress(client) === null && !clients.some(({ name }) => name === client)) {
      complain(
        ['tests', index, 'client', 'address'],
        `${showValue(client)} is neither an IP address nor a client of the configuration.`,
        suggest(
          client,
          clients.map(({ name }) => name),
        ),
      );
    }
    const check = (key: 'as' | 'destination', what: string, known: readonly { readonly name: string }[]): void => {
      const name = expected[key];
      if (name !== null && !known.some((one) => one.name === name))
        complain(
          ['tests', index, key],
          `The configuration has no ${what} ${showValue(name)}.`,
          suggest(
            name,
            known.map((one) => one.name),
          ),
        );
    };
    check('as', 'client', clients);
    check('destination', 'destination', destinations);
    if (expected.rule !== null && expected.rule >= rules.length)
      complain(
        ['tests', index, 'rule'],
        `The configuration has no rules[${expected.rule}].`,
        rules.length === 0 ? 'It has no rules.' : `Write a number from 0 to ${rules.length - 1}.`,
      );
  }
}

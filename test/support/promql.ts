/** What a PromQL query asks for: metrics with the labels that go with each, read by Prometheus's own grammar. */
import { parser } from '@prometheus-io/lezer-promql';

export interface QueryReading {
  /** Selected metrics, each with the labels of its selectors, and the values they are compared with. */
  readonly selectors: readonly { readonly metric: string; readonly matchers: readonly Matcher[] }[];
  /** Labels of `by`, `without`, `on`, `ignoring`, `group_left`. */
  readonly grouping: readonly string[];
}

export interface Matcher {
  readonly label: string;
  readonly operator: string;
  readonly value: string;
}

/** Throws at a query that is not PromQL. */
export function readQuery(query: string): QueryReading {
  const selectors: { metric: string; matchers: Matcher[] }[] = [];
  const grouping: string[] = [];
  const text = (node: { readonly from: number; readonly to: number } | null): string => (node === null ? '' : query.slice(node.from, node.to));
  parser.parse(query).iterate({
    enter: ({ type, from, node }) => {
      if (type.isError) throw new Error(`not PromQL at character ${from}: ${query}`);
      if (type.name === 'VectorSelector') {
        const matchers = (node.getChild('LabelMatchers')?.getChildren('UnquotedLabelMatcher') ?? []).map((matcher) => ({
          label: text(matcher.getChild('LabelName')),
          operator: text(matcher.getChild('MatchOp')),
          value: text(matcher.getChild('StringLiteral')).slice(1, -1),
        }));
        selectors.push({ metric: text(node.getChild('Identifier')), matchers });
      }
      if (type.name === 'GroupingLabels') grouping.push(...node.getChildren('LabelName').map(text));
    },
  });
  return { selectors, grouping };
}

/** Environment variables in one scalar, as text. */
import t from 'tap';
import { interpolate } from '../../src/config/read-tree.ts';

const env = { A: 'alpha', B: 'b}b', EMPTY: '', TRICK: '${A}', DOLLAR: '$&$1', _1: 'one' };

t.test('what is written gives what text', async (t) => {
  const table: [written: string, text: string, variables: string[], defaulted?: string[]][] = [
    ['plain', 'plain', []],
    ['${A}', 'alpha', ['A']],
    ['x${A}y${_1}', 'xalphayone', ['A', '_1']],
    ['${A:-z}', 'alpha', ['A']],
    ['${NONE:-z}', 'z', ['NONE'], ['NONE']],
    ['${EMPTY:-z}', 'z', ['EMPTY'], ['EMPTY']],
    ['${EMPTY}', '', ['EMPTY']],
    ['${NONE:-}', '', ['NONE'], ['NONE']],
    ['${NONE:-a:-b, c-d/e}', 'a:-b, c-d/e', ['NONE'], ['NONE']],
    ['${TRICK}', '${A}', ['TRICK']],
    ['${DOLLAR}', '$&$1', ['DOLLAR']],
    ['${B}', 'b}b', ['B']],
    ['$${A}', '${A}', []],
    ['$$${A}', '$${A}', []],
    ['$${A} ${A}', '${A} alpha', ['A']],
    ['$A $ {A} $', '$A $ {A} $', []],
  ];
  for (const [written, text, variables, defaulted = []] of table) t.strictSame(interpolate(written, env), { text, variables, defaulted, problems: [] }, written);
});

t.test('what cannot be filled in', async (t) => {
  const table: [written: string, problem: RegExp, instead: RegExp][] = [
    ['${NONE}', /variable NONE is not set/, /Set NONE, or write a default: \$\{NONE:-default\}/],
    ['${toString}', /toString is not set/, /Set toString/],
    ['${A', /no closing brace/, /\$\{NAME\}/],
    ['${}', /"\$\{\}" is not a variable/, /\$\{NAME\}/],
    ['${1A}', /is not a variable/, /\$\{NAME\}/],
    ['${A-z}', /is not a variable/, /\$\{NAME:-default\}/],
    ['${A:z}', /is not a variable/, /\$\{NAME:-default\}/],
    ['${ A }', /is not a variable/, /\$\{NAME\}/],
    ['${NONE:-${A}}', /default of NONE holds another variable/, /plain default/],
  ];
  for (const [written, problem, instead] of table) {
    const { problems } = interpolate(written, env);
    t.equal(problems.length, 1, written);
    t.match(problems[0], { problem, instead }, written);
  }
  t.equal(interpolate('${NONE} ${OTHER}', env).problems.length, 2, 'each is told');
});

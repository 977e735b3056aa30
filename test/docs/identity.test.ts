/** docs/identity.md: its example loads without a warning, and its hash is one. */
import t from 'tap';
import { loadText } from '../support/load-text.ts';
import { readDocBlocks } from '../support/doc-blocks.ts';

t.test('the example', async (t) => {
  const [block] = readDocBlocks('docs/identity.md').filter(({ language }) => language === 'yaml');
  const result = loadText(`version: 1\n${block?.text ?? ''}`);
  if (!result.ok) {
    t.fail(result.faults.map(({ path, problem }) => `${path}: ${problem}`).join('\n'));
    return;
  }
  t.match(result.config.clients, [{ name: 'activegate', addresses: null, tokens: [{ audience: 'eco-egress' }] }, { name: 'batch', basic: [{ user: 'batch' }], tokens: null }]);
  t.strictSame(result.warnings, []);
});

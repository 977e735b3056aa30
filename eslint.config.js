import { defineConfig, globalIgnores } from 'eslint/config';
import tseslint from 'typescript-eslint';

// A test or a tool that reads its own files so fails in a checkout whose path has a blank or a letter outside ASCII.
const FILE_OF_URL = { selector: "MemberExpression[property.name='pathname'] > NewExpression > MemberExpression[object.type='MetaProperty']", message: 'The path of a URL is percent-encoded: write join(import.meta.dirname, …).' };

export default defineConfig(
  globalIgnores(['node_modules', '.tap', 'coverage', 'dist']),
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      // Numbers in messages need no String() around them.
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      // Empty callbacks say "nothing to do here"; each carries its why.
      '@typescript-eslint/no-empty-function': 'off',
      // `?? x` and `|| x` differ on purpose where an empty string counts as absent.
      '@typescript-eslint/prefer-nullish-coalescing': 'off',
      'no-restricted-syntax': ['error', FILE_OF_URL],
      eqeqeq: 'error',
      'no-console': 'error',
    },
  },
  {
    // The scripts of the status page: JavaScript, because browsers take it as it is.
    files: ['src/admin/page/*.js'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { project: 'tsconfig.page.json', tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/prefer-nullish-coalescing': 'off',
      // A cast in JSDoc is not seen; what is cast is JSON of this proxy.
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-argument': 'off',
      // What would make markup or code from text.
      'no-restricted-properties': ['error', ...['innerHTML', 'outerHTML', 'insertAdjacentHTML', 'dangerouslySetInnerHTML', 'write', 'writeln'].map((property) => ({ property, message: 'What comes from outside is only ever set as text.' }))],
      eqeqeq: 'error',
      'no-console': 'error',
    },
  },
  {
    files: ['test/**/*.ts'],
    rules: {
      // A tap test takes an async function whether or not it awaits, and tap watches the promise of t.test itself.
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/no-floating-promises': 'off',
      // To t.match a list is the beginning of any longer one, and an empty one that of all.
      'no-restricted-syntax': ['error', FILE_OF_URL, { selector: "CallExpression[callee.property.name='match'] > ObjectExpression.arguments ArrayExpression[elements.length=0], CallExpression[callee.property.name='match'] > ArrayExpression.arguments[elements.length=0], CallExpression[callee.property.name='match'] > ArrayExpression.arguments ArrayExpression[elements.length=0]", message: 't.match takes any list for an empty one: write { length: 0 }, or use t.strictSame.' }],
    },
  },
);

/** Puts environment variables into one scalar: `${NAME}`, `${NAME:-default}`, and `$${` for a literal `${`. */
import { quote } from './finding.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Interpolated {
  readonly text: string;
  /** Names that were written, set or not; empty when the scalar has none. */
  readonly variables: readonly string[];
  /** Those of them that yielded their default. */
  readonly defaulted: readonly string[];
  readonly problems: readonly { readonly problem: string; readonly instead: string }[];
}

const REFERENCE = /\$\$\{|\$\{([^}]*)(\}?)/g;
const BODY = /^([A-Za-z_]\w*)(?::-(.*))?$/s;

/** `:-` stands in for a variable that is unset or empty, as in a shell. Values are never read for references again. */
export function interpolate(source: string, env: Environment): Interpolated {
  const variables: string[] = [];
  const defaulted: string[] = [];
  const problems: { problem: string; instead: string }[] = [];

  const text = source.replace(REFERENCE, (written, body: string | undefined, close: string) => {
    if (body === undefined) return '${';
    const match = BODY.exec(body);
    const name = match?.[1];
    const fallback = match?.[2];
    if (close === '') {
      problems.push({ problem: `${quote(written)} has no closing brace.`, instead: 'Write ${NAME} or ${NAME:-default}; $${ is a literal ${.' });
    } else if (name === undefined) {
      problems.push({ problem: `${quote(written)} is not a variable.`, instead: 'Write ${NAME} or ${NAME:-default}; $${ is a literal ${.' });
    } else if (fallback?.includes('${') === true) {
      problems.push({ problem: `The default of ${name} holds another variable.`, instead: 'Write one variable with a plain default: ${NAME:-default}.' });
    } else {
      variables.push(name);
      // process.env inherits from Object.prototype: `toString` is no variable.
      const value = Object.hasOwn(env, name) ? env[name] : undefined;
      if (value !== undefined && (value !== '' || fallback === undefined)) return value;
      if (fallback !== undefined) {
        defaulted.push(name);
        return fallback;
      }
      problems.push({
        problem: `The environment variable ${name} is not set.`,
        instead: `Set ${name}, or write a default: \${${name}:-default}.`,
      });
    }
    return '';
  });

  return { text, variables, defaulted, problems };
}

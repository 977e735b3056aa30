/**
 * Reads settings.env as kustomize does, which makes the ConfigMap of it: a value is all that follows the first `=`. What a
 * shell or dotenv would read otherwise is refused, so that the pod gets what was meant (kubernetes-sigs/kustomize#4525).
 */
export type Settings = { readonly values: Readonly<Record<string, string>> } | { readonly problem: string };

const NAME = /^[A-Za-z_]\w*$/;

/** @param file for what is said of it */
export function readSettings(text: string, file: string): Settings {
  const values: Record<string, string> = {};
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const written = line.trimStart();
    if (written === '' || written.startsWith('#')) continue;
    const equals = written.indexOf('=');
    const [name, value] = equals === -1 ? [written, ''] : [written.slice(0, equals), written.slice(equals + 1)];
    const problem = equals === -1 ? `${JSON.stringify(name)} has no value. Write NAME=value.` : judge(name, value);
    if (problem !== null) return { problem: `${file}:${index + 1}: ${problem}` };
    values[name] = value;
  }
  return { values };
}

function judge(name: string, value: string): string | null {
  const bare = name.replace(/^export\s+/, '').trim();
  const plain = value.trim().replace(/\s+#.*$/, '').replace(/^(["'])(.*)\1$/, '$2');
  const instead = `Write ${NAME.test(bare) ? bare : 'NAME'}=${plain}`;
  if (!NAME.test(name)) return `${JSON.stringify(name)} is not the name of a variable. ${instead}`;
  if (/^["']|["']$/.test(value.trim())) return `The quotes would be part of the value of ${name}. ${instead}`;
  if (/(?:^|\s)#/.test(value)) return `The comment would be part of the value of ${name}. ${instead}`;
  if (value !== value.trim()) return `The blanks would be part of the value of ${name}. ${instead}`;
  return null;
}

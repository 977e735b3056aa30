/** A rendered file as YAML text. */
import { stringify } from 'yaml';
import type { RenderedFile } from './render.ts';

const WIDTH = 110;

export function writeFileText({ manifests, notes }: RenderedFile): string {
  const heading = ['Rendered from the policy by "npx eco-egress manifests". Change the policy, not this file.', ...notes.map((note) => `Note: ${note}`)];
  // Quotes where YAML 1.1, which cluster tools read, would see no text; no anchors, which not all of them take; no folded lines.
  const documents = manifests.map((manifest) => stringify(manifest, { compat: 'yaml-1.1', aliasDuplicateObjects: false, lineWidth: 0, blockQuote: 'literal' }));
  return `${heading.map(commentOf).join('')}${documents.join('---\n')}`;
}

function commentOf(text: string): string {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last === undefined || last.length + word.length >= WIDTH) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines.map((line) => `# ${line}\n`).join('');
}

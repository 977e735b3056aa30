/** The fenced blocks of a Markdown page, and the commands in them. */
import { readFileSync } from 'node:fs';

export interface DocBlock {
  readonly language: string;
  /** What follows the language: the file a program is to be written to. */
  readonly file: string;
  readonly line: number;
  readonly text: string;
}

/** A command of a `console` block with the lines it is said to print. */
export interface DocCommand {
  readonly command: string;
  readonly shown: readonly string[];
}

/** @param page path from the root of the project */
export function readDocBlocks(page: string): DocBlock[] {
  const text = readFileSync(new URL(`../../${page}`, import.meta.url), 'utf8');
  return [...text.matchAll(/^```(\S*) ?(.*)\n([^]*?)^```$/gm)].map(({ 1: language = '', 2: file = '', 3: body = '', index }) => ({
    language,
    file,
    line: text.slice(0, index).split('\n').length,
    text: body,
  }));
}

/** Throws when something is shown before the first command. */
export function readCommands(block: string): DocCommand[] {
  const commands: { command: string; shown: string[] }[] = [];
  for (const line of block.trimEnd().split('\n')) {
    if (line.startsWith('$ ')) commands.push({ command: line.slice(2), shown: [] });
    else if (commands.length === 0) throw new Error(`no command before: ${line}`);
    else commands.at(-1)?.shown.push(line);
  }
  return commands;
}

/** The shown lines that are not in the output, in their order; `…` stands for anything within a line. */
export function findMissing(shown: readonly string[], output: string): string[] {
  const lines = output.split('\n').map((line) => line.trimEnd());
  let from = 0;
  return shown.filter((expected) => {
    const pattern = new RegExp(`^${expected.split('…').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('.*')}$`);
    const at = lines.findIndex((line, index) => index >= from && pattern.test(line));
    if (at !== -1) from = at + 1;
    return at === -1;
  });
}

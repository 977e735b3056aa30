/**
 * Writes changes into the text of a configuration file by insertion only:
 * comments, order and layout are kept. What cannot be inserted, because a
 * variable is used there, is reported instead.
 */
import { type Document, isMap, isPair, isScalar, isSeq, LineCounter, parseDocument, type Range, type YAMLMap, type YAMLSeq } from 'yaml';
import type { DestinationConfig } from '../config/config.ts';
import { type PolicyEdit, renderClient, renderDestination, renderEntry, renderRule } from '../explain/policy-edits.ts';

/** The new text of the file, or the places where nothing can be inserted. */
export type EditedFile = { readonly text: string } | { readonly problems: readonly string[] };

interface Insertion {
  readonly at: number;
  readonly text: string;
  /** How many characters it replaces. */
  readonly replaces?: number;
}

/** @param text of a file that the loader accepts: valid YAML, without aliases */
export function editFile(text: string, edits: readonly PolicyEdit[]): EditedFile {
  const file = new YamlFile(text);
  const clients = edits.flatMap((edit) => (edit.kind === 'client' ? [[renderClient(edit.client)]] : []));
  const destinations = edits.flatMap((edit) => (edit.kind === 'destination' ? [edit.destination] : []));
  const rules = edits.flatMap((edit) => (edit.kind === 'rule' ? [renderRule(edit.rule)] : []));
  // First: the end of a list may be the end of all destinations, too.
  for (const edit of edits)
    if (edit.kind === 'list') file.lengthen(['destinations', edit.destination, ...edit.path], edit.added.map(renderEntry));
  file.addEntries(
    'clients',
    clients.map((lines) => ({ lines, flow: lines.join('') })),
  );
  file.addEntries(
    'destinations',
    destinations.map((destination) => ({ lines: renderDestination(destination), flow: flowDestination(destination) })),
  );
  file.addItems('rules', rules);
  return file.finish();
}

function flowDestination(destination: DestinationConfig): string {
  const [name = '', ...keys] = renderDestination(destination);
  return `${name} { ${keys.map((line) => line.trim()).join(', ')} }`;
}

/** A new entry of a mapping: on lines of its own, and on one line. */
interface MapEntry {
  readonly lines: readonly string[];
  readonly flow: string;
}

class YamlFile {
  readonly #text: string;
  readonly #document: Document.Parsed;
  readonly #lines = new LineCounter();
  readonly #insertions: Insertion[] = [];
  /** Sections that the file does not have. */
  readonly #sections: string[] = [];
  readonly #problems: string[] = [];
  readonly #newline: string;

  constructor(text: string) {
    this.#text = text;
    this.#document = parseDocument(text, { lineCounter: this.#lines, uniqueKeys: false, logLevel: 'error' });
    this.#newline = text.includes('\r\n') ? '\r\n' : '\n';
  }

  /** At the end of a mapping at the top level. */
  addEntries(key: string, entries: readonly MapEntry[]): void {
    if (entries.length === 0) return;
    const node = this.#at([key]);
    if (isMap(node)) {
      if (this.#isBare(node))
        this.#replaceBare(
          node,
          entries.flatMap(({ lines }) => lines),
        );
      else if (node.flow === true)
        this.#insertFlow(
          node,
          entries.map(({ flow }) => flow),
        );
      else
        this.#insertLines(
          node,
          entries.flatMap(({ lines }) => lines),
          this.#indentOf(node),
        );
    } else
      this.#addSection(
        key,
        node,
        entries.flatMap(({ lines }) => lines),
        entries.map(({ flow }) => flow),
      );
  }

  /** At the end of a list at the top level. */
  addItems(key: string, items: readonly string[]): void {
    if (items.length === 0) return;
    const node = this.#at([key]);
    if (isSeq(node) && this.#isBare(node))
      this.#replaceBare(
        node,
        items.map((item) => `- ${item}`),
      );
    else if (isSeq(node)) this.#lengthenSeq(node, items);
    else
      this.#addSection(
        key,
        node,
        items.map((item) => `- ${item}`),
        items,
      );
  }

  /** At the end of an existing list: a YAML list, or one text with commas. */
  lengthen(path: readonly string[], entries: readonly string[]): void {
    const node = this.#at(path);
    if (isSeq(node)) this.#lengthenSeq(node, entries);
    else if (isScalar(node) && !String(node.source ?? node.value).includes('${'))
      this.#lengthenScalar(node.range?.[0] ?? 0, node.range?.[1] ?? 0, entries);
    else
      this.#problems.push(
        `${path.join('.')} is ${isScalar(node) ? 'taken from a variable' : 'not written there as a list'}: add ${entries.join(', ')} by hand`,
      );
  }

  finish(): EditedFile {
    if (this.#problems.length > 0) return { problems: this.#problems };
    let { length: end } = this.#text;
    const pieces: string[] = [];
    // From the end on, so positions stay valid; those of one position in their order.
    for (const { at, text, replaces = 0 } of this.#insertions.toReversed().toSorted((one, other) => other.at - one.at)) {
      pieces.unshift(text, this.#text.slice(at + replaces, end));
      end = at;
    }
    const text = this.#text.slice(0, end) + pieces.join('');
    return {
      text:
        this.#sections.length === 0
          ? text
          : `${text}${text.endsWith('\n') ? '' : this.#newline}${this.#sections.join(this.#newline)}${this.#newline}`,
    };
  }

  #at(path: readonly string[]): unknown {
    return this.#document.getIn(path, true);
  }

  /** A key that is missing, or has no value. */
  #addSection(key: string, node: unknown, lines: readonly string[], entries: readonly string[]): void {
    if (isScalar(node) && node.value !== null) {
      this.#problems.push(`${key} is not written there as YAML: add ${entries.join(', ')} by hand`);
      return;
    }
    const root = this.#document.contents;
    const pair = isMap(root) ? root.items.find((item) => isPair(item) && isScalar(item.key) && item.key.value === key) : undefined;
    const indented = lines.map((line) => `  ${line}`);
    const named: unknown = pair?.key;
    if (isScalar(named)) this.#insertAt(this.#lineEnd(named.range?.[1] ?? 0), indented);
    else this.#sections.push(`${key}:`, ...indented);
  }

  /** `{}` or `[]`, of a key at the top level of a file in lines. */
  #isBare({ range }: YAMLMap | YAMLSeq): boolean {
    const root = this.#document.contents;
    return isMap(root) && root.flow !== true && /^(?:\{\}|\[\])$/.test(this.#text.slice(range?.[0] ?? 0, range?.[1] ?? 0));
  }

  #replaceBare({ range }: YAMLMap | YAMLSeq, lines: readonly string[]): void {
    const start = this.#text.slice(0, range?.[0] ?? 0).trimEnd().length;
    this.#insertions.push({
      at: start,
      replaces: (range?.[1] ?? 0) - start,
      text: lines.map((line) => `${this.#newline}  ${line}`).join(''),
    });
  }

  #lengthenSeq(node: YAMLSeq, entries: readonly string[]): void {
    if (node.flow === true) {
      this.#insertFlow(node, entries);
      return;
    }
    const indent = this.#lines.linePos(node.range?.[0] ?? 0).col - 1;
    this.#insertAt(
      this.#lineEnd(this.#endOf(node)),
      entries.map((entry) => `${' '.repeat(indent)}- ${entry}`),
    );
  }

  #lengthenScalar(start: number, end: number, entries: readonly string[]): void {
    const source = this.#text.slice(start, end);
    const quote = source.startsWith('"') || source.startsWith("'") ? source[0] : '';
    const plain = entries.map((entry) => entry.replace(/^"|"$/g, ''));
    if (quote !== '') this.#insertions.push({ at: end - 1, text: `, ${plain.join(', ')}` });
    else
      this.#insertions.push({
        at: start,
        replaces: end - start,
        text: `[${[source.includes(',') ? source : renderEntry(/^\d+$/.test(source) ? Number(source) : source), ...entries].join(', ')}]`,
      });
  }

  /** Behind the last entry: a comment may follow it. */
  #insertFlow(node: YAMLMap | YAMLSeq, entries: readonly string[]): void {
    const last = node.items.at(-1);
    const at = last === undefined ? (node.range?.[1] ?? 1) - 1 : this.#endOfItem(last);
    this.#insertions.push({ at, text: `${last === undefined ? '' : ', '}${entries.join(', ')}` });
  }

  #insertLines(node: YAMLMap, lines: readonly string[], indent: number): void {
    this.#insertAt(
      this.#lineEnd(this.#endOf(node)),
      lines.map((line) => `${' '.repeat(indent)}${line}`),
    );
  }

  #insertAt(at: number, lines: readonly string[]): void {
    const open = at > 0 && this.#text[at - 1] !== '\n' ? this.#newline : '';
    this.#insertions.push({ at, text: `${open}${lines.map((line) => `${line}${this.#newline}`).join('')}` });
  }

  #indentOf(node: YAMLMap): number {
    const [first] = node.items;
    const start = isScalar(first?.key) ? (first.key.range?.[0] ?? 0) : 0;
    return this.#lines.linePos(start).col - 1;
  }

  /** After the last entry of a block collection, before comments and blank lines that follow it. */
  #endOf(node: unknown): number {
    const last: unknown = (isMap(node) || isSeq(node)) && node.flow !== true ? node.items.at(-1) : undefined;
    return last === undefined ? ((node as { range?: Range }).range?.[1] ?? 0) : this.#endOfItem(last);
  }

  #endOfItem(item: unknown): number {
    if (!isPair(item)) return this.#endOf(item);
    const isEmpty = item.value === null || (isScalar(item.value) && item.value.range?.[0] === item.value.range?.[1]);
    return this.#endOf(isEmpty ? item.key : item.value);
  }

  /** Start of the line after a position. */
  #lineEnd(at: number): number {
    if (at > 0 && this.#text[at - 1] === '\n') return at;
    const end = this.#text.indexOf('\n', at);
    return end === -1 ? this.#text.length : end + 1;
  }
}

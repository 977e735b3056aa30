/** Writes test/docs/messages.txt anew: every text of src/ that a user or an operator can read. */
import { writeFileSync } from 'node:fs';
import { collectMessages, formatMessages, LIST } from '../support/messages.ts';

writeFileSync(LIST, formatMessages(collectMessages()));

/** For an admin listener in a test that asks it nothing about the source address. */
import type { SourceView } from '../../src/source-ip/source-proof.ts';

const OFF: SourceView = { result: 'off', expected: [], seen: null, at: null, since: null, code: null, reason: null, remark: null, lastSeen: null, history: [], silentPartners: [] };

export const noSource = (): SourceView => OFF;

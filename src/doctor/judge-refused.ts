/** What listens at a proxy's address, where its answer alone does not tell: a port that speaks TLS may end a plain connection without a word. */
import type { Socket } from 'node:net';
import { readPeerChain } from '../dial/peer-chain.ts';
import type { Refused } from './ask-connect.ts';
import { judgeConnect, type Judgement, SPEAKS_TLS } from './judge-answer.ts';

/** @param reopen another connection to the same port */
export async function judgeRefused(refused: NonNullable<Refused>, reopen: () => Promise<Socket>, timeout: number): Promise<Judgement> {
  if (refused.heard.length > 0 || refused.silent) return judgeConnect(refused);
  try {
    await readPeerChain({ socket: await reopen(), host: '', port: 0, timeout });
    return SPEAKS_TLS;
  } catch {
    // No TLS either: what came first is the finding.
    return judgeConnect(refused);
  }
}

/** Every contender, ours first: ratios are to ours. */
import type { Contender } from './contender.ts';
import { haproxy, nginx, squid, tinyproxy } from './debian.ts';
import { httpProxy3, proxyChain, stock } from './npm.ts';
import { createOurs } from './ours.ts';

export const CONTENDERS: readonly Contender[] = [createOurs(), squid, tinyproxy, haproxy, nginx, proxyChain, stock, httpProxy3];

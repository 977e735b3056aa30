/** The files of the status page in a browser: its own in page/, and two installed libraries. Read at the first request. */
import { readdir, readFile } from 'node:fs/promises';

const FOLDER = new URL('page/', import.meta.url);
/** It runs only in the proxy. */
const UNSERVED = 'server.js';
const MEDIA_TYPES: Readonly<Record<string, string>> = { js: 'text/javascript; charset=utf-8', css: 'text/css; charset=utf-8', svg: 'image/svg+xml' };

/** A part of the page. */
interface Asset {
  readonly type: string;
  readonly text: string;
}

/** By name below /page/. */
let assets: Promise<ReadonlyMap<string, Asset>> | null = null;

/** Null: there is none of this name. */
export async function readAsset(name: string): Promise<Asset | null> {
  assets ??= readAssets();
  try {
    return (await assets).get(name) ?? null;
  } catch (error) {
    // A file that could not be read is tried again.
    assets = null;
    throw error;
  }
}

async function readAssets(): Promise<ReadonlyMap<string, Asset>> {
  const files = new Map((await readdir(FOLDER)).filter((name) => name !== UNSERVED).map((name) => [name, new URL(name, FOLDER).href]));
  files.set('preact.js', import.meta.resolve('preact')).set('uplot.js', import.meta.resolve('uplot/dist/uPlot.esm.js')).set('uplot.css', import.meta.resolve('uplot/dist/uPlot.min.css'));
  return new Map(await Promise.all(Array.from(files, async ([name, file]): Promise<[string, Asset]> => [name, { type: MEDIA_TYPES[name.split('.').at(-1) ?? ''] ?? 'application/octet-stream', text: await readFile(new URL(file), 'utf8') }])));
}

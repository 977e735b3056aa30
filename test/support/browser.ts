/** A real browser for tests of pages: Debian's Chromium, driven by playwright-core. Where there is none, tests are skipped and say so. */
import { existsSync } from 'node:fs';
import { type Browser, chromium, type ConsoleMessage, type Page } from 'playwright-core';

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** The browser of this machine; null: it has none. */
export const BROWSER = PLACES.find((place) => existsSync(place)) ?? null;

/** Why a test is skipped; false: it is not. */
export const skipWithoutBrowser: string | false = BROWSER === null ? 'no Chromium here: apt-get install chromium' : false;

/** The caller closes it. */
export async function openBrowser(): Promise<Browser> {
  if (BROWSER === null) throw new Error('there is no Chromium here');
  // In a container, and as root, Chromium has no sandbox of its own.
  return chromium.launch({ executablePath: BROWSER, args: ['--no-sandbox', '--disable-gpu'] });
}

/** What a page complains of: errors of the console, exceptions, violations of its Content-Security-Policy, requests that go elsewhere. Grows as it happens. */
export function watchComplaints(page: Page, origin: string): string[] {
  const complaints: string[] = [];
  page.on('console', (message: ConsoleMessage) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(`${message.type()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => {
    complaints.push(`exception: ${error.message}`);
  });
  page.on('request', (request) => {
    if (!request.url().startsWith(`${origin}/`)) complaints.push(`request to ${request.url()}`);
  });
  return complaints;
}

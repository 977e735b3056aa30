/** Certificates of a new authority, as files. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CertificateAuthority, createAuthority } from '../../src/demo/authority.ts';

export interface CertificateFiles {
  /** The authority's own. */
  readonly ca: string;
  /** Issues one, and writes it and its key. @param name of both files, before `.pem` and `.key` */
  readonly issue: (name: string, options: Parameters<CertificateAuthority['issue']>[0]) => Promise<{ readonly cert: string; readonly key: string }>;
}

export async function createCertificateFiles(directory: string, commonName: string): Promise<CertificateFiles> {
  const authority = await createAuthority(commonName);
  const write = (name: string, content: string): string => {
    const file = join(directory, name);
    writeFileSync(file, content, { mode: 0o600 });
    return file;
  };
  return {
    ca: write('ca.pem', authority.certPem),
    issue: async (name, options) => {
      const { certPem, keyPem } = await authority.issue(options);
      return { cert: write(`${name}.pem`, certPem), key: write(`${name}.key`, keyPem) };
    },
  };
}

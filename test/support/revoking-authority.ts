/** An authority that takes client certificates back, and signs the list of those (CRL). */
import 'reflect-metadata';
import { webcrypto, X509Certificate } from 'node:crypto';
import { BasicConstraintsExtension, ExtendedKeyUsage, ExtendedKeyUsageExtension, KeyUsageFlags, KeyUsagesExtension, PemConverter, SubjectAlternativeNameExtension, X509CertificateGenerator, X509CrlGenerator } from '@peculiar/x509';
import type { IssuedCertificate } from '../../src/demo/authority.ts';

const SIGNING = { name: 'ECDSA', hash: 'SHA-256' } as const;
const HOUR = 3_600_000;

export interface RevokingAuthority {
  readonly certPem: string;
  /** A client certificate with this URI. */
  issue(uri: string): Promise<IssuedCertificate>;
  /** The list that revokes these; `until` is when the next one was promised. */
  list(revoked: readonly IssuedCertificate[], until?: Date): Promise<string>;
}

export async function createRevokingAuthority(commonName: string): Promise<RevokingAuthority> {
  const generate = (): Promise<webcrypto.CryptoKeyPair> => webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify']);
  const keys = await generate();
  const name = [{ CN: [commonName] }];
  const times = { notBefore: new Date(Date.now() - HOUR), notAfter: new Date(Date.now() + 24 * HOUR) };
  const root = await X509CertificateGenerator.createSelfSigned({
    name,
    keys,
    serialNumber: '01',
    signingAlgorithm: SIGNING,
    extensions: [new BasicConstraintsExtension(true, undefined, true), new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true)],
    ...times,
  });
  let issued = 1;
  return {
    certPem: root.toString('pem'),
    issue: async (uri) => {
      issued += 1;
      const serialNumber = issued.toString(16).padStart(2, '0');
      const own = await generate();
      const certificate = await X509CertificateGenerator.create({
        serialNumber,
        subject: [{ CN: ['client'] }],
        issuer: name,
        publicKey: own.publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm: SIGNING,
        extensions: [new ExtendedKeyUsageExtension([ExtendedKeyUsage.clientAuth]), new SubjectAlternativeNameExtension([{ type: 'url', value: uri }])],
        ...times,
      });
      return { certPem: certificate.toString('pem'), keyPem: PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', own.privateKey), 'PRIVATE KEY') };
    },
    list: async (revoked, until = new Date(Date.now() + 24 * HOUR)) => {
      const entries = revoked.map(({ certPem }) => ({ serialNumber: new X509Certificate(certPem).serialNumber }));
      const list = await X509CrlGenerator.create({ issuer: root.subjectName, thisUpdate: new Date(Date.now() - HOUR), nextUpdate: until, entries, signingKey: keys.privateKey, signingAlgorithm: SIGNING });
      return `${PemConverter.encode(list.rawData, 'X509 CRL')}\n`;
    },
  };
}

/** An authority that takes client certificates back, and signs the list of those (CRL). */
import 'reflect-metadata';
import { webcrypto, X509Certificate } from 'node:crypto';
import { BasicConstraintsExtension, ExtendedKeyUsage, ExtendedKeyUsageExtension, KeyUsageFlags, KeyUsagesExtension, Name, PemConverter, SubjectAlternativeNameExtension, type X509Certificate as Certificate, X509CertificateGenerator, type X509CrlCreateParams, X509CrlGenerator } from '@peculiar/x509';
import type { IssuedCertificate } from '../../src/demo/authority.ts';

const SIGNING = { name: 'ECDSA', hash: 'SHA-256' } as const;
const HOUR = 3_600_000;

export interface RevokingAuthority {
  readonly certPem: string;
  /** A client certificate with this URI. */
  issue(uri: string): Promise<IssuedCertificate>;
  /** The list that revokes these; `until` is when the next one was promised. */
  list(revoked: readonly Pick<IssuedCertificate, 'certPem'>[], until?: Date, more?: Partial<X509CrlCreateParams>): Promise<string>;
  /** An authority below it. */
  subordinate(commonName: string): Promise<RevokingAuthority>;
}

const generate = (): Promise<webcrypto.CryptoKeyPair> => webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify']);
const aDay = (): { notBefore: Date; notAfter: Date } => ({ notBefore: new Date(Date.now() - HOUR), notAfter: new Date(Date.now() + 24 * HOUR) });
const ofAuthorities = (signsLists = true): (BasicConstraintsExtension | KeyUsagesExtension)[] => [new BasicConstraintsExtension(true, undefined, true), signsLists ? new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true) : new KeyUsagesExtension(KeyUsageFlags.keyCertSign, true)];

/** @param commonName as UTF8String or PrintableString, unless it says otherwise */
export async function createRevokingAuthority(commonName: string | { bmpString: string } | { universalString: string }, signsLists = true): Promise<RevokingAuthority> {
  const keys = await generate();
  return authorityOf(await X509CertificateGenerator.createSelfSigned({ name: new Name([typeof commonName === 'string' ? { CN: [commonName] } : { CN: [commonName] }]), keys, serialNumber: '01', signingAlgorithm: SIGNING, extensions: ofAuthorities(signsLists), ...aDay() }), keys);
}

function authorityOf(own: Certificate, keys: webcrypto.CryptoKeyPair): RevokingAuthority {
  let issued = 1;
  const next = (): string => {
    issued += 1;
    return issued.toString(16).padStart(2, '0');
  };
  const signed = { issuer: own.subjectName, signingKey: keys.privateKey, signingAlgorithm: SIGNING };
  return {
    certPem: own.toString('pem'),
    issue: async (uri) => {
      const serialNumber = next();
      const { publicKey, privateKey } = await generate();
      const certificate = await X509CertificateGenerator.create({
        serialNumber,
        subject: [{ CN: ['client'] }],
        publicKey,
        extensions: [new ExtendedKeyUsageExtension([ExtendedKeyUsage.clientAuth]), new SubjectAlternativeNameExtension([{ type: 'url', value: uri }])],
        ...signed,
        ...aDay(),
      });
      return { certPem: certificate.toString('pem'), keyPem: PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', privateKey), 'PRIVATE KEY') };
    },
    list: async (revoked, until = new Date(Date.now() + 24 * HOUR), more = {}) => {
      const entries = revoked.map(({ certPem }) => ({ serialNumber: new X509Certificate(certPem).serialNumber }));
      const list = await X509CrlGenerator.create({ thisUpdate: new Date(Date.now() - HOUR), nextUpdate: until, entries, ...signed, ...more });
      return `${PemConverter.encode(list.rawData, 'X509 CRL')}\n`;
    },
    subordinate: async (commonName) => {
      const serialNumber = next();
      const below = await generate();
      return authorityOf(await X509CertificateGenerator.create({ serialNumber, subject: [{ CN: [commonName] }], publicKey: below.publicKey, extensions: ofAuthorities(), ...signed, ...aDay() }), below);
    },
  };
}

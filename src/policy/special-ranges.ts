/**
 * The address ranges that are not public unicast: the IANA special-purpose
 * registries for IPv4 and IPv6 (RFC 6890), multicast, and the addresses at
 * which clouds serve instance credentials. Data only, the narrowest first.
 */

/** What kind of place an address is; only `public` may be dialled unasked. */
export type AddressClass =
  | 'public'
  | 'loopback'
  | 'private'
  | 'link-local'
  | 'site-local'
  | 'metadata'
  | 'shared'
  | 'unique-local'
  | 'multicast'
  | 'broadcast'
  | 'unspecified'
  | 'this-network'
  | 'documentation'
  | 'benchmarking'
  | 'discard'
  | 'anycast-service'
  | 'transition'
  | 'reserved';

/** How an IPv6 address carries an IPv4 address inside it. */
export type Embedding = 'mapped' | 'compatible' | 'translated' | 'nat64' | 'nat64-local' | '6to4' | 'teredo' | 'isatap';

export interface SpecialRange {
  readonly cidr: string;
  readonly class: AddressClass;
  /** The document that sets the range apart. */
  readonly reference: string;
}

const range = (cidr: string, addressClass: AddressClass, reference: string): SpecialRange => ({
  cidr,
  class: addressClass,
  reference,
});

export const IPV4_RANGES: readonly SpecialRange[] = [
  range('169.254.169.254/32', 'metadata', 'cloud instance metadata'),
  range('169.254.170.2/32', 'metadata', 'AWS ECS task credentials'),
  range('169.254.170.23/32', 'metadata', 'AWS EKS pod credentials'),
  range('168.63.129.16/32', 'metadata', 'Azure platform services'),
  range('100.100.100.200/32', 'metadata', 'Alibaba Cloud instance metadata'),
  range('192.0.0.192/32', 'metadata', 'Oracle Cloud instance metadata'),
  range('0.0.0.0/32', 'unspecified', 'RFC 1122'),
  range('255.255.255.255/32', 'broadcast', 'RFC 8190'),
  range('192.0.0.0/24', 'reserved', 'RFC 6890'),
  range('192.0.2.0/24', 'documentation', 'RFC 5737'),
  range('192.31.196.0/24', 'anycast-service', 'RFC 7535'),
  range('192.52.193.0/24', 'anycast-service', 'RFC 7450'),
  range('192.88.99.0/24', 'transition', 'RFC 7526'),
  range('192.175.48.0/24', 'anycast-service', 'RFC 7534'),
  range('198.51.100.0/24', 'documentation', 'RFC 5737'),
  range('203.0.113.0/24', 'documentation', 'RFC 5737'),
  range('169.254.0.0/16', 'link-local', 'RFC 3927'),
  range('192.168.0.0/16', 'private', 'RFC 1918'),
  range('198.18.0.0/15', 'benchmarking', 'RFC 2544'),
  range('172.16.0.0/12', 'private', 'RFC 1918'),
  range('100.64.0.0/10', 'shared', 'RFC 6598'),
  range('0.0.0.0/8', 'this-network', 'RFC 791'),
  range('10.0.0.0/8', 'private', 'RFC 1918'),
  range('127.0.0.0/8', 'loopback', 'RFC 1122'),
  range('224.0.0.0/4', 'multicast', 'RFC 5771'),
  range('240.0.0.0/4', 'reserved', 'RFC 1112'),
];

export const IPV6_RANGES: readonly SpecialRange[] = [
  range('fd00:ec2::254/128', 'metadata', 'AWS instance metadata'),
  range('fd00:ec2::23/128', 'metadata', 'AWS EKS pod credentials'),
  range('fd20:ce::254/128', 'metadata', 'Google Cloud instance metadata'),
  range('::/128', 'unspecified', 'RFC 4291'),
  range('::1/128', 'loopback', 'RFC 4291'),
  range('100::/64', 'discard', 'RFC 6666'),
  range('100:0:0:1::/64', 'discard', 'RFC 9780'),
  range('2001:2::/48', 'benchmarking', 'RFC 5180'),
  range('2001:4:112::/48', 'anycast-service', 'RFC 7535'),
  range('2620:4f:8000::/48', 'anycast-service', 'RFC 7534'),
  range('2001:3::/32', 'anycast-service', 'RFC 7450'),
  range('2001:db8::/32', 'documentation', 'RFC 3849'),
  range('2001::/32', 'transition', 'RFC 4380'),
  range('2001::/23', 'reserved', 'RFC 2928'),
  range('3fff::/20', 'documentation', 'RFC 9637'),
  range('2002::/16', 'transition', 'RFC 3056'),
  range('fe80::/10', 'link-local', 'RFC 4291'),
  range('fec0::/10', 'site-local', 'RFC 3879'),
  range('ff00::/8', 'multicast', 'RFC 4291'),
  range('fc00::/7', 'unique-local', 'RFC 4193'),
  // The translators' well-known prefix is reached like the IPv4 address in it (RFC 6052 §3.1).
  range('64:ff9b::/96', 'public', 'RFC 6052'),
  range('64:ff9b:1::/48', 'transition', 'RFC 8215'),
  range('::ffff:0:0:0/96', 'transition', 'RFC 7915'),
  range('::/96', 'transition', 'RFC 4291'),
  range('5f00::/16', 'reserved', 'RFC 9602'),
  // Global unicast is assigned from 2000::/3 alone; what is left belongs to nobody.
  range('2000::/3', 'public', 'RFC 4291'),
  range('::/0', 'reserved', 'RFC 4291'),
];

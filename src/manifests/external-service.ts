/** The Service for callers outside the cluster: a load balancer that lets in only the addresses that the policy knows. */
import type { Config } from '../config/config.ts';
import { outsideRanges } from './network-policy.ts';
import { EXTERNAL_SERVICE, type Manifest, type Placement, PROXY_LABELS } from './placement.ts';

/**
 * Internal to the VPC: a public address before a proxy invites the world to try.
 * `Local` keeps the caller's address, by which the policy knows it.
 * @returns null when no client outside the cluster has addresses: without source ranges a load balancer lets in everybody
 */
export function externalService(config: Config, { namespace, clientNamespace }: Placement): Manifest | null {
  const ranges = [...new Set(outsideRanges(config, clientNamespace))];
  if (ranges.length === 0) return null;
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name: EXTERNAL_SERVICE,
      namespace,
      labels: PROXY_LABELS,
      annotations: { 'networking.gke.io/load-balancer-type': 'Internal', 'networking.gke.io/load-balancer-ip-addresses': EXTERNAL_SERVICE },
    },
    spec: {
      type: 'LoadBalancer',
      selector: PROXY_LABELS,
      externalTrafficPolicy: 'Local',
      loadBalancerSourceRanges: ranges,
      ports: [
        { name: 'tls-sni', port: 443, targetPort: 'tls', protocol: 'TCP' },
        { name: 'http-gateway', port: 80, targetPort: 'http', protocol: 'TCP' },
      ],
    },
  };
}

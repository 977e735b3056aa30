/** The destination of what report mode lets pass although no destination has its host: public addresses only, nothing added. */
import { type DestinationConfig, FORMS } from '../config/config.ts';

export const ANONYMOUS: DestinationConfig = Object.freeze({
  name: '-',
  hosts: [],
  ports: [],
  addresses: null,
  forms: FORMS,
  gateway: null,
  methods: null,
  paths: null,
  tls: { ca: null, cert: null, key: null, serverName: null },
  report: true,
  upgradePlainHttp: null,
  tunnelSni: 'report',
  via: [],
  resolve: 'here',
  proxyProtocol: 'off',
});

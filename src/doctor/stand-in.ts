/** A proxy that the doctor starts itself: the configuration as it is, on ports of its own, with the doctor among its clients. */
import { Writable } from 'node:stream';
import type { ClientConfig, Config, ListenerConfig } from '../config/config.ts';
import type { Lookup } from '../dial/lookup.ts';
import { createService, type Service } from '../service.ts';

const HERE = '127.0.0.1';

/** Bound to loopback alone; the caller closes it. */
export async function startStandIn(config: Config, lookup: Lookup | undefined): Promise<Service> {
  const service = createService(admitDoctor(config), { logDestination: nowhere(), ...(lookup === undefined ? {} : { lookup }) });
  await service.start();
  return service;
}

/** Every rule holds for the doctor as for those it names; who may be believed what does not matter to it. */
export function admitDoctor(config: Config): Config {
  const doctor: ClientConfig = { name: freeName(config), addresses: [`${HERE}/32`], basic: null, tokens: null, certificates: null };
  const here = <T extends ListenerConfig>(listener: T): T => ({ ...listener, host: HERE, port: 0, trustedPeers: [], proxyProtocol: 'off', believe: [] });
  return {
    ...config,
    listeners: { http: config.listeners.http.map(here), tls: config.listeners.tls.map(here), admin: { host: HERE, port: 0, hosts: [] } },
    clients: [doctor, ...config.clients],
    rules: config.rules.map((rule) => ({ ...rule, clients: [...rule.clients, doctor.name] })),
    // The doctor asks that itself.
    sourceIp: null,
  };
}

export function nowhere(): Writable {
  return new Writable({ write: (_chunk, _encoding, done) => { done(); } });
}

function freeName({ clients }: Config): string {
  let name = 'doctor';
  while (clients.some((client) => client.name === name)) name = `${name}-x`;
  return name;
}

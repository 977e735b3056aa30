/** The proxies that Debian ships: Squid, tinyproxy, HAProxy, nginx. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Contender, Place } from './contender.ts';

const NGINX_STREAM = '/usr/lib/nginx/modules/ngx_stream_module.so';

export const squid: Contender = {
  name: 'squid',
  fromNpm: false,
  ways: { tunnel: 'connect', forward: 'http' },
  gatewayOn: 'port',
  version: () => versionOf('squid', ['-v'], /Version (\S+)/),
  launch: ({ directory, port, plainPort }) => {
    // Started by root it becomes another user, who has to get here and write its log.
    chmodSync(join(directory, '..'), 0o755);
    chmodSync(directory, 0o777);
    return {
      command: 'squid',
      // -N: one process, in the foreground.
      args: ['-N', '-f', write(directory, 'squid.conf', `
http_port 127.0.0.1:${port}
acl ports port ${plainPort}
http_access allow ports
http_access deny all
cache deny all
access_log stdio:${directory}/access.log
cache_log ${directory}/cache.log
pid_filename none
pinger_enable off
coredump_dir ${directory}
max_filedescriptors 20000
shutdown_lifetime 0 seconds
`)],
    };
  },
};

export const tinyproxy: Contender = {
  name: 'tinyproxy',
  fromNpm: false,
  // It forwards too, but closes the connection after each request: not the same work.
  ways: { tunnel: 'connect' },
  gatewayOn: 'port',
  version: () => versionOf('tinyproxy', ['-v'], /tinyproxy (\S+)/),
  launch: ({ directory, port, plainPort }) => ({
    command: 'tinyproxy',
    // A thread for each connection: it has no other way.
    args: ['-d', '-c', write(directory, 'tinyproxy.conf', `
Port ${port}
Listen 127.0.0.1
Timeout 600
MaxClients 20000
LogFile "${directory}/access.log"
LogLevel Connect
Allow 127.0.0.1
ConnectPort ${plainPort}
`)],
  }),
};

export const haproxy: Contender = {
  name: 'haproxy',
  fromNpm: false,
  ways: { tunnel: 'L4', gateway: 'http' },
  gatewayOn: 'gatewayPort',
  version: () => versionOf('haproxy', ['-v'], /version (\S+)/),
  launch: (place) => ({ command: 'haproxy', args: ['-db', '-f', write(place.directory, 'haproxy.cfg', haproxyConfig(place))] }),
};

export const nginx: Contender = {
  name: 'nginx',
  fromNpm: false,
  ways: { ...(existsSync(NGINX_STREAM) && { tunnel: 'L4' }), gateway: 'http' },
  gatewayOn: 'gatewayPort',
  version: () => versionOf('nginx', ['-v'], /nginx\/(\S+)/),
  launch: (place) => ({ command: 'nginx', args: ['-p', place.directory, '-e', 'errors.log', '-c', write(place.directory, 'nginx.conf', nginxConfig(place))] }),
};

function haproxyConfig({ port, gatewayPort, upstreamHost, plainPort, securePort, caFile }: Place): string {
  return `
global
  nbthread 1
  maxconn 8000
  log stdout format raw local0
defaults
  log global
  timeout connect 5s
  timeout client 600s
  timeout server 600s
listen tunnels
  mode tcp
  option tcplog
  bind 127.0.0.1:${port}
  server upstream 127.0.0.1:${plainPort}
listen gateway
  mode http
  option httplog
  http-reuse always
  bind 127.0.0.1:${gatewayPort}
  http-request replace-path /eco(/.*) \\1
  http-request set-header Host ${upstreamHost}:${securePort}
  server upstream 127.0.0.1:${securePort} ssl verify required ca-file ${caFile} sni str(${upstreamHost}) verifyhost ${upstreamHost}
`;
}

function nginxConfig({ directory, port, gatewayPort, upstreamHost, plainPort, securePort, caFile }: Place): string {
  const stream = existsSync(NGINX_STREAM);
  return `
${stream ? `load_module ${NGINX_STREAM};` : ''}
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid ${directory}/nginx.pid;
events { worker_connections 20000; }
${stream ? `stream {
  log_format tunnel '$remote_addr [$time_local] $status $bytes_sent $bytes_received $session_time';
  access_log ${directory}/access.log tunnel;
  server { listen 127.0.0.1:${port}; proxy_pass 127.0.0.1:${plainPort}; }
}` : ''}
http {
  access_log ${directory}/access.log combined;
  client_body_temp_path ${directory}/body;
  proxy_temp_path ${directory}/proxy;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  upstream partner { server 127.0.0.1:${securePort}; keepalive 64; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:${gatewayPort};
    location /eco/ {
      proxy_pass https://partner/;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_set_header Connection "";
      proxy_set_header Host ${upstreamHost}:${securePort};
      proxy_ssl_server_name on;
      proxy_ssl_name ${upstreamHost};
      proxy_ssl_verify on;
      proxy_ssl_protocols TLSv1.2 TLSv1.3;
      proxy_ssl_trusted_certificate ${caFile};
    }
  }
}
`;
}

function versionOf(command: string, args: readonly string[], pattern: RegExp): string | null {
  const { stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  return pattern.exec(`${stdout}${stderr}`)?.[1] ?? null;
}

function write(directory: string, name: string, text: string): string {
  const file = join(directory, name);
  writeFileSync(file, text);
  return file;
}

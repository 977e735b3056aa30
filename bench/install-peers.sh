#!/bin/sh
# Installs what the benchmark compares with and is built with, on Debian: as root, no service is started.
# The contenders from npm install themselves. Smokescreen is not packaged: it needs Go and its module proxy.
set -eu
if [ ! -e /usr/sbin/policy-rc.d ]; then
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
  chmod +x /usr/sbin/policy-rc.d
fi
apt-get update
apt-get install -y --no-install-recommends gcc libc6-dev libssl-dev strace wrk squid tinyproxy haproxy nginx-light libnginx-mod-stream

# The production image: Node, the production dependencies, the source, the
# shipped configuration. Nothing is compiled: Node runs the TypeScript.

# Debian slim rather than Alpine: Node's releases are built and tested against
# glibc (musl builds are experimental), and glibc's resolver is what clusters
# are debugged with. trixie is the Debian that is supported in full. A release is built
# with this tag and its digest of that day (.github/workflows/release.yml).
ARG NODE_IMAGE=docker.io/library/node:26.12.1-trixie-slim

FROM ${NODE_IMAGE} AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
COPY bin ./bin
# The optional dependencies are Node itself, which the base image brings.
RUN npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund
# What packages bring and no program reads: a third of it all. Licences stay.
RUN find node_modules -type d \( -name test -o -name tests -o -name __tests__ -o -name benchmark -o -name benchmarks -o -name example -o -name examples -o -name .github \) -prune -exec rm -rf {} + \
 && find node_modules -type f \( -name '*.map' -o -name '*.md' -o -name '*.ts' -o -name '*.mts' -o -name '*.cts' \) ! -iname 'licen*' -delete

FROM ${NODE_IMAGE}
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="eco-egress" \
      org.opencontainers.image.description="Egress proxy with one address: lets through what the allowlist permits, forwards it to the partner, says what it did" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/node:26.12.1-trixie-slim"

ENV NODE_ENV=production
ENV NODE_COMPILE_CACHE=/app/node_modules/.cache/eco-egress

# npm is not needed to run, and what is not there needs no patches. The
# directory is where docker-compose.yml shares the stand-in's CA.
RUN rm -rf /usr/local/lib/node_modules /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack /opt/yarn-* \
           /usr/local/bin/yarn /usr/local/bin/yarnpkg \
 && install -d -o 1000 -g 1000 /certificates

WORKDIR /app
COPY LICENSE package.json ./
COPY --from=dependencies /app/node_modules ./node_modules
COPY bin ./bin
COPY deploy/config ./deploy/config
COPY schemas ./schemas
COPY src ./src

# The image's own `node` user, by number so that runAsNonRoot can check it. What
# it compiles on its first run here, it need not compile at each start. The
# command is in PATH for `kubectl exec`, and `npx eco-egress`, as the log and the
# documentation have it, runs the same: npx itself is gone with npm.
RUN install -d -o 1000 -g 1000 node_modules/.cache/eco-egress \
 && ln -s /app/bin/eco-egress /usr/local/bin/eco-egress \
 && printf '#!/bin/sh\nexec "$@"\n' >/usr/local/bin/npx \
 && chmod 755 /usr/local/bin/npx
USER 1000:1000
RUN ["eco-egress", "explain", "--no-resolve", "CONNECT", "eco-sit.telus.internal:443"]

# http, http as a proxy, admin
EXPOSE 8080 3128 8443 9090

# No curl in the image: Node asks, where ECO_EGRESS_ADMIN says that the admin
# listener is. To connect to 0.0.0.0 is to connect to this host.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["node", "-e", "require('node:http').get(`http://${process.env.ECO_EGRESS_ADMIN || '0.0.0.0:9090'}/healthz`, (r) => process.exit(r.statusCode === 200 ? 0 : 1)).on('error', () => process.exit(1))"]

# Node is PID 1 without an init: the program handles SIGTERM and SIGINT itself
# and starts no children that would have to be reaped.
STOPSIGNAL SIGTERM
ENTRYPOINT ["node", "/app/src/main.ts"]
CMD ["serve"]

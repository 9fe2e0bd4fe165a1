#!/usr/bin/env bash
# A Ray cluster on machines of your own; docs/cluster.md has the steps.
#
#   deploy/own_machines.sh head [OPTIONS OF ray start]              on the first machine
#   deploy/own_machines.sh worker HEAD[:PORT] [OPTIONS OF ray start]  on each other one
#
# Each runs until it is ended (Ctrl-C, SIGTERM); then its node leaves the cluster. The nodes share a
# token, in ~/.ray/auth_token or RAY_AUTH_TOKEN_PATH. RAY_AUTH_MODE=disabled does without.
set -euo pipefail

fail() {
  echo "error: $*" >&2
  exit 2
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ -x "$root/.venv/bin/ray" ] || fail "$root/.venv: has no Ray; run make setup there"
head=
case "${1-} ${2-}" in
  head\ *) shift ;;
  worker\ [!-]*) head=$2 && shift 2 ;;
  *) fail "$0: say head, or worker HEAD[:PORT]" ;;
esac

# Ray starts a submitted job as `python`, which it looks for on this PATH: without the venv's folder
# it finds another Python, without the packages. PYTHONPATH is for jobs that bring no source along.
export PATH="$root/.venv/bin:$PATH" PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export RAY_AUTH_MODE=${RAY_AUTH_MODE:-token} RAY_USAGE_STATS_ENABLED=0

if [ -z "$head" ]; then
  if [ "$RAY_AUTH_MODE" = token ]; then
    (umask 077 && ray get-auth-token --generate >/dev/null)
  fi
  exec ray start --head --port=6379 --block "$@"
fi
[ "$RAY_AUTH_MODE" != token ] || ray get-auth-token >/dev/null 2>&1 ||
  fail "this machine has no token; copy ~/.ray/auth_token of the head to the same place here"
case $head in
  \[*\]:*) ;;
  \[*\]) head=$head:6379 ;;
  *:*:*) head="[$head]:6379" ;;  # IPv6
  *:*) ;;
  *) head=$head:6379 ;;
esac
exec ray start --address="$head" --block "$@"

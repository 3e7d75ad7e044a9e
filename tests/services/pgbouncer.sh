#!/usr/bin/env bash
# A throw-away PgBouncer, on a free port of 127.0.0.1, in front of a Postgres of postgres.sh. It pools sessions, and
# drops the options with which they start.
#
#   pgbouncer.sh start DIR  starts it with its files in DIR and prints a shell export
#   pgbouncer.sh stop DIR   ends it and removes DIR
#
# Started by root it runs as the user `postgres`, who must be able to enter the folders above DIR.
#
# Read at every start:
#   POOLED                 the URL of the Postgres
#   PACKETBOAT_TEST_OWNER  a process id; when that process is gone, the service is stopped
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"

install_pgbouncer() {
  program=$(command -v pgbouncer || ls /usr/sbin/pgbouncer 2>/dev/null || true)
  if [ -z "$program" ]; then
    # Debian's package starts a service of its own.
    local policy=/usr/sbin/policy-rc.d
    if [ "$(id -u)" = 0 ] && [ ! -e "$policy" ]; then
      printf '#!/bin/sh\nexit 101\n' >"$policy"
      chmod +x "$policy"
      trap 'rm -f "$policy"' EXIT
    fi
    install_packages pgbouncer
    program=/usr/sbin/pgbouncer
  fi
}

start() {
  local authority host_port user port as_user=()
  install_pgbouncer
  authority=${POOLED#*://}
  authority=${authority%%/*}
  user=${authority%@*} host_port=${authority#*@}
  mkdir -p "$dir"
  port=$(free_ports 1)
  printf '"%s" ""\n' "$user" >"$dir/users"
  cat >"$dir/pgbouncer.ini" <<END
[databases]
* = host=${host_port%:*} port=${host_port#*:}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = trust
auth_file = $dir/users
pool_mode = session
ignore_startup_parameters = extra_float_digits,options
logfile = $dir/log
pidfile = $dir/pid
END
  if [ "$(id -u)" = 0 ]; then
    chown -R postgres: "$dir"
    as_user=(-u postgres)
  fi
  stop_with_owner "$here/pgbouncer.sh" "$dir"
  "$program" -q -d "${as_user[@]}" "$dir/pgbouncer.ini" >&2
  echo "export PACKETBOAT_TEST_POOLER=postgres://$user@127.0.0.1:$port/postgres"
}

usage() { sed -n '5,6p' "$0" | cut -c 3- >&2; exit 2; }

[ $# = 2 ] || usage
dir=$(realpath -m "$2")
case $1 in
  start) start ;;
  stop)
    [ ! -e "$dir/pid" ] || kill_and_wait "$(cat "$dir/pid")"
    rm -rf "$dir"
    ;;
  *) usage ;;
esac

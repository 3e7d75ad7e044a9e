#!/usr/bin/env bash
# A throw-away PostgreSQL, 15 or newer, on a free port of 127.0.0.1.
#
#   postgres.sh start DIR  starts it with its data in DIR and prints a shell export when it is ready; started before in
#                          the same DIR: the same port and data
#   postgres.sh kill DIR   SIGKILL to all its processes; data and port stay
#   postgres.sh stop DIR   ends it and removes DIR
#
# The superuser `postgres` needs no password, everybody else does. PostgreSQL refuses to run as root: started by root it
# runs as the user `postgres`, who must be able to enter the folders above DIR. Nothing is synced to disk, which only
# the end of the machine would punish, not a SIGKILL.
#
# Read at every start:
#   POSTGRES_SETTINGS      further settings, such as '-c fsync=on'
#   PACKETBOAT_TEST_OWNER  a process id; when that process is gone, the service is stopped
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"

start_seconds_max=60

# The folder of the newest installed release.
find_programs() {
  programs=$( (ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null || true) | sort -V | tail -n 1)
  programs=$(dirname "${programs:-$(command -v initdb || true)}")
}

# Debian's package makes and starts a cluster of its own, unless told otherwise.
install_postgres() {
  find_programs
  if [ ! -x "$programs/initdb" ]; then
    local setting=/etc/postgresql-common/createcluster.d/packetboat-tests.conf
    if [ "$(id -u)" = 0 ]; then
      mkdir -p "$(dirname "$setting")"
      echo 'create_main_cluster = false' >"$setting"
    fi
    install_packages postgresql
    rm -f "$setting"
    find_programs
  fi
  local version
  version=$("$programs/initdb" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
  [ "$version" -ge 15 ] || die "PostgreSQL $version in $programs is too old: 15 or newer is needed"
}

as_server() {
  if [ "$(id -u)" = 0 ]; then
    (cd / && exec setpriv --reuid postgres --regid postgres --init-groups env -u HOME "$@")
  else
    "$@"
  fi
}

new_data() {
  mkdir -p "$dir"
  [ "$(id -u)" != 0 ] || chown postgres: "$dir"
  as_server test -x "$dir" || die "the user postgres cannot enter the folders above $dir"
  as_server "$programs/initdb" --pgdata "$dir/data" --username postgres --encoding UTF8 --locale C --no-sync \
    --auth trust >"$dir/initdb.log" 2>&1 || die "initdb failed: $(cat "$dir/initdb.log")"
  printf 'host all %s 127.0.0.1/32 %s\n' postgres trust all scram-sha-256 >"$dir/data/pg_hba.conf"
  free_ports 1 >"$dir/port"
}

start() {
  local settings=(-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=300
    -c fsync=off -c full_page_writes=off)
  install_postgres
  [ -e "$dir/port" ] || new_data
  stop_with_owner "$here/postgres.sh" "$dir"
  if ! alive "$(pid_of)"; then
    as_server "$programs/pg_ctl" --pgdata "$dir/data" --silent --wait --timeout "$start_seconds_max" --log "$dir/log" \
      --options "${settings[*]} -c port=$(cat "$dir/port") ${POSTGRES_SETTINGS:-}" start >&2 ||
      die "PostgreSQL did not start: $(tail -n 20 "$dir/log")"
  fi
  echo "export PACKETBOAT_TEST_POSTGRES=postgres://postgres@127.0.0.1:$(cat "$dir/port")/postgres"
}

# The server's first process, if it runs. A number in an old file may belong to something else by now.
pid_of() {
  local pid
  pid=$(head -n 1 "$dir/data/postmaster.pid" 2>/dev/null) && alive "$pid" &&
    [ "$(readlink "/proc/$pid/cwd")" = "$dir/data" ] && echo "$pid" || true
}

# The first process is halted before its children are counted: it starts new ones at any moment, and a child that
# outlived it would keep the next start from using the data.
kill_all() {
  local pid
  pid=$(pid_of)
  [ -n "$pid" ] || return 0
  kill -STOP "$pid"
  kill_and_wait "$pid" $(cat /proc/"$pid"/task/*/children)
  rm "$dir/data/postmaster.pid" # it would take a zombie for a server that runs
}

usage() { sed -n '4,7p' "$0" | cut -c 3- >&2; exit 2; }

[ $# = 2 ] || usage
dir=$(realpath -m "$2")
case $1 in
  start) start ;;
  kill | stop)
    [ -e "$dir/port" ] || die "$dir holds no PostgreSQL of this script"
    kill_all
    [ "$1" = kill ] || rm -rf "$dir"
    ;;
  *) usage ;;
esac

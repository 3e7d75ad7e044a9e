# What the scripts of the tests share; sourced, never run.

# Downloads and what is made of them: outside the tree, kept between runs.
cache=${PACKETBOAT_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/packetboat-tests}

die() { echo "$1" >&2; exit 1; }

# Installs Debian packages, or says which to install where that is not possible.
install_packages() {
  [ $# -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "missing: $*; there is no apt-get here, so install them and run this again"
  [ "$(id -u)" = 0 ] || die "missing: $*; run 'apt-get install $*' as root, then this again"
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"; } >&2
}

# Prints this many free ports. They lie below the range that the system takes the ports of outgoing connections from:
# there, while a service is down, a client that tries to reach it can be given the service's port and talk to itself.
free_ports() {
  local wanted=$1 port
  for port in $(shuf -i 10000-32000 -n $((wanted + 50))); do
    [ "$wanted" -gt 0 ] || return 0
    (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; wanted=$((wanted - 1)); }
  done
  [ "$wanted" = 0 ] || die "no free ports between 10000 and 32000 on 127.0.0.1"
}

# Whether a process runs. One that ended stays a zombie where nobody asks for its exit code.
alive() { [ -n "$1" ] && [ -e "/proc/$1" ] && ! grep -qs '^State:[[:space:]]*Z' "/proc/$1/status"; }

# Kills processes and waits until they are gone.
kill_and_wait() {
  local pid
  for pid; do kill -KILL "$pid" 2>/dev/null || true; done
  for pid; do while alive "$pid"; do sleep .02; done; done
}

# Sees to it that `SCRIPT stop DIR` runs once the process $PACKETBOAT_TEST_OWNER is gone, however it went. Without an
# owner the service runs until it is stopped. The watch ends when DIR is removed.
stop_with_owner() {
  local script=$1 dir=$2 owner=${PACKETBOAT_TEST_OWNER:-}
  [ -n "$owner" ] && ! grep -qsx "$owner" "$dir/owner" || return 0
  echo "$owner" >"$dir/owner"
  ( # a subshell, so that the caller's `wait` does not wait for it
    setsid bash -c '
      . "$1"
      while grep -qsx "$4" "$3/owner"; do
        alive "$4" || exec "$2" stop "$3"
        sleep 1
      done
    ' stop-with-owner "$here/common.sh" "$script" "$dir" "$owner" </dev/null >/dev/null 2>&1 &
  )
}

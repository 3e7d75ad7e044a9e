# What the scripts of this folder share: how servers are started, loaded and stopped; sourced, never run. The script has
# set root, the tree, and sets before it starts a server: work, a folder of this run, which is removed at the end;
# packetboat, the program that serves; generator, the one that loads it; out, only and seconds, as its flags say.

services=$root/tests/services
work='' server='' child='' starts=0
under=() # what the server is started under, a command and its arguments

die() { echo "$1" >&2; exit 2; }
step() { printf '== %s (%d s)\n' "$1" "$SECONDS" >&2; }

clean_up() {
  {
    [ -z "$child" ] || kill -KILL -- "-$child" "$child" || true
    [ -z "$server" ] || kill -KILL "$server" || true
    wait
  } 2>/dev/null
  [ -n "$work" ] || return 0
  [ ! -e "$work/kafka" ] || "$services/kafka.sh" stop "$work/kafka" || true
  [ ! -e "$work/postgres" ] || "$services/postgres.sh" stop "$work/postgres" || true
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Runs a command to its end. In the background, because bash would wait for one in the foreground before it acts
# on a signal, and as a process group, so that clean_up ends what the command has started too.
attend() {
  local status=0
  set -m
  "$@" </dev/null &
  child=$!
  set +m
  wait "$child" || status=$?
  child=''
  return "$status"
}

# Kafka and Postgres, for the whole run: one broker, and a database that is as durable as production has it. The broker
# has a collector that hardly pauses: with another, its pauses, which grow with the number of topics, are what the
# slowest publishes wait for, with any publisher.
start_services() {
  local exports
  chmod a+x "$work" # Postgres does not run as root
  exports=$(KAFKA_BROKERS=1 KAFKA_SECURE=0 KAFKA_SETTINGS='' PACKETBOAT_TEST_OWNER=$$ \
    KAFKA_JAVA_OPTIONS="${KAFKA_JAVA_OPTIONS:--Xms2g -Xmx2g -XX:+UseZGC}" "$services/kafka.sh" start "$work/kafka")
  eval "$exports"
  exports=$(POSTGRES_SETTINGS='-c fsync=on -c full_page_writes=on -c synchronous_commit=on' \
    PACKETBOAT_TEST_OWNER=$$ "$services/postgres.sh" start "$work/postgres")
  eval "$exports"
  brokers=$PACKETBOAT_TEST_KAFKA postgres=${PACKETBOAT_TEST_POSTGRES%/*}
}

# Starts a server and waits until it says where it is: sets server, pid and address.
start() {
  local line name
  rm -f "$work/ready"
  mkfifo "$work/ready"
  # Not this shell's environment: settings of the server have no place in a measurement.
  local unset=()
  for name in $(compgen -e PACKETBOAT_); do unset+=(-u "$name"); done
  env ${unset[@]+"${unset[@]}"} "$@" >"$work/ready" 2>"$work/log" &
  server=$! pid=$!
  exec {ready}<"$work/ready"
  address=''
  while [ -z "$address" ] && read -r -t 60 line <&"$ready"; do
    [[ ! $line =~ ^listening\ on\ +([^,\ ]+) ]] || address=${BASH_REMATCH[1]}
  done
  [ -n "$address" ] || { cat "$work/log" >&2; die "did not start: $*"; }
}

# Starts `packetboat serve` over a target: ephemeral, durable or kafka.
serve() {
  local serve=(${under[@]+"${under[@]}"} "$packetboat" serve --listen 127.0.0.1:0)
  case $1 in
    ephemeral) start "${serve[@]}" --ephemeral ;;
    durable) start "${serve[@]}" --data-dir "$work/data" ;;
    kafka)
      # Topics and a database of its own, as if nothing had been there before.
      starts=$((starts + 1))
      printf '[kafka]\nprefix = "bench-%d"\n' "$starts" >"$work/config.toml"
      psql -X -q -d "$postgres/postgres" -c "CREATE DATABASE bench_$starts"
      start "${serve[@]}" --log "kafka://$brokers" --store "$postgres/bench_$starts" --node-name bench \
        --config "$work/config.toml" ;;
  esac
}

# Stops it as an operator would. The echo dies of the signal, which is 143.
stop() {
  local status=0
  kill -TERM "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || status=$?
  if [ "$status" != 0 ] && [ "$status" != 143 ]; then
    cat "$work/log" >&2
    echo "the server ended with status $status" >&2
  fi
  server=''
  exec {ready}<&-
}

# Says in each JSON line of standard input whose it is, and keeps it.
record() { sed "s/^{/{\"target\":\"$1\",\"round\":$2,\"measure\":\"$3\",/" >>"$out"; }

wanted() { [ -z "$only" ] || [[ ,$only, == *,$1,* ]]; }

# run_bench TARGET ROUND NAME COMMAND [ARGUMENT]...: keeps the lines that a command prints of a load.
run_bench() {
  local target=$1 round=$2 name=$3
  shift 3
  if ! attend "$@" >"$work/lines"; then
    # A run that lost messages says so itself.
    [ -s "$work/lines" ] || echo '{"void":true,"failed":true}' >"$work/lines"
  fi
  record "$target" "$round" "$name" <"$work/lines"
}

# bench TARGET ROUND NAME LOAD [ARGUMENT]...: one load on the server at $address, whose process is $pid if known.
bench() {
  local target=$1 round=$2 name=$3
  shift 3
  printf '   %s: %s\n' "$target" "$*" >&2
  run_bench "$target" "$round" "$name" \
    "$generator" bench "$@" --addr "$address" ${pid:+--pid "$pid"} --seconds "$seconds"
}

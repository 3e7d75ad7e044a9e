#!/usr/bin/env bash
# Measures the server against what bounds it, with `packetboat bench`, and prints a table.
#
#   tests/bench/run.sh [--rounds 5] [--seconds 3] [--profile dist] [--out FILE] [--messages 1000000]
#                      [--only LOAD,...] [--targets TARGET,...] [--peer NAME=HOST:PORT[=PID]]... [--idle]
#
#   --only      publish, half-rate, latency, topics, end-to-end, fan-out, filtered, ordered, blocked-key, exactly-once,
#               exactly-once-plain, receipts, exactly-once-latency, pull, backlog, redelivery, demand, unread, cold,
#               expiry, expiry-ordered, backoff, dead-letter-cycle, holes, rest, floors; without it, all. holes and rest
#               are of the durable server only
#   --targets   echo, ephemeral, durable, kafka; without it, all. Peers are measured in any case. kafka is the server
#               over Kafka and Postgres and, after it, as rdkafka, bare clients of the same Kafka
#   --peer      another server that speaks the API and runs already; with its process id, its CPU and memory count too
#   --messages  how many the backlog has
#   --idle      instead of the rounds: 10,000 topics that idle, and 10,000 that share one rate
#
# Each target is started alone for each load; rounds are interleaved, so that a slow minute of the machine hits all.
# Leave the machine alone meanwhile. The durable server's data, the floors' files and the data of Kafka and Postgres are
# in $TMPDIR (default: /tmp), which has to be on the disk to be measured. Needs Rust, a C compiler and Python 3; for
# kafka also Java and PostgreSQL, which tests/services installs where it can, and 3 GB of memory.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$root/tests/bench/servers.sh"
rounds=5 seconds=3 profile=dist messages=1000000 out='' idle='' only='' targets=echo,ephemeral,durable,kafka
peers=()

while [ $# -gt 0 ]; do
  case $1 in
    --idle) idle=1; shift; continue ;;
    --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit ;;
  esac
  [ $# -gt 1 ] || die "unknown argument $1, or its value is missing; tests/bench/run.sh --help lists them"
  case $1 in
    --rounds) rounds=$2 ;;
    --seconds) seconds=$2 ;;
    --profile) profile=$2 ;;
    --messages) messages=$2 ;;
    --out) out=$2 ;;
    --only) only=$2 ;;
    --targets) targets=$2 ;;
    --peer)
      [[ $2 =~ ^[A-Za-z0-9._-]+=[^=]+:[0-9]+(=[0-9]+)?$ ]] ||
        die "--peer $2: write NAME=HOST:PORT or NAME=HOST:PORT=PID"
      [[ " echo ephemeral durable kafka rdkafka floors " != *" ${2%%=*} "* ]] || die "--peer $2: this name is taken"
      peers+=("$2") ;;
    *) die "unknown argument $1; tests/bench/run.sh --help lists them" ;;
  esac
  shift 2
done
for load in ${only//,/ }; do
  [[ " publish half-rate latency topics end-to-end fan-out filtered ordered blocked-key exactly-once exactly-once-plain receipts exactly-once-latency pull backlog redelivery demand unread cold expiry expiry-ordered backoff dead-letter-cycle holes rest floors " == *" $load "* ]] ||
    die "--only $load: no such load"
done
for target in ${targets//,/ }; do
  [[ " echo ephemeral durable kafka " == *" $target "* ]] || die "--targets $target: no such target"
done
for load in rest holes; do
  if [[ ,$only, == *,$load,* ]] && [[ ,$targets, != *,durable,* ]]; then
    die "--only $load measures the durable server, which is not among --targets $targets"
  fi
done
out=${out:-$(mktemp "${TMPDIR:-/tmp}/packetboat-bench.XXXXXX.jsonl")}
: >"$out"
work=$(mktemp -d "${TMPDIR:-/tmp}/packetboat-bench.XXXXXX")

build() {
  # In two commands: dependencies of tests must not add features to the server that is measured.
  cargo build --profile "$profile" --locked --bin packetboat
  cargo build --profile "$profile" --locked --example bench-echo --example bench-floors \
    --example bench-kafka --example bench-rest
  local folder=$profile
  [ "$profile" != dev ] || folder=debug
  bin=$(cargo metadata --no-deps --format-version 1 --locked |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/$folder
  packetboat=$bin/packetboat generator=$packetboat
}

start_target() {
  case $1 in
    echo) start "$bin/examples/bench-echo" 127.0.0.1:0 ;;
    echo-alone) start "$bin/examples/bench-echo" 127.0.0.1:0 --sink-waits ;;
    *) serve "$1" ;;
  esac
}

# `bench` on a server of its own, so that no load inherits the memory and files of the one before. Peers are taken
# as they are.
measure() {
  wanted "$4" || return 0
  case $1 in
    echo | ephemeral | durable | kafka)
      # This load has a stream open while it publishes, and the sink would take the machine from the echo.
      if [ "$1 $4" = 'echo latency' ]; then start_target echo-alone; else start_target "$1"; fi
      bench "$@"
      stop
      rm -rf "$work/data" ;;
    *) bench "$@" ;;
  esac
}

# All loads. What the sink sends is not what the echo was sent, so the echo gets only what needs one of them.
loads() {
  measure "$@" publish-1 publish --batch 1 --in-flight 64
  measure "$@" publish-10 publish --batch 10
  measure "$@" publish-100 publish --batch 100
  measure "$@" latency latency --batch 1 --rate 1000
  if [ "$1" != echo ]; then
    measure "$@" half-rate half-rate
    measure "$@" topics topics --rate 1000 --new-topics 1000 --in-flight 100
    measure "$@" end-to-end-1 end-to-end --streams 1
    measure "$@" end-to-end-8 end-to-end --streams 8
    measure "$@" fan-out fan-out
    measure "$@" fan-out-silent fan-out --silent 1
    measure "$@" filtered filtered
    measure "$@" filtered-100 filtered-fan-out --subscriptions 100
    measure "$@" end-to-end-8x10 end-to-end --streams 8 --outstanding 10
    measure "$@" ordered ordered --streams 8 --outstanding 1000
    measure "$@" ordered-8x10 ordered --streams 8 --outstanding 10
    measure "$@" ordered-blocked blocked-key --streams 8 --outstanding 1000 --messages "$messages"
    measure "$@" exactly-once exactly-once --streams 8
    measure "$@" exactly-once-plain exactly-once-plain --streams 8
    measure "$@" receipts receipts --streams 8
    measure "$@" exactly-once-latency exactly-once-latency --rate 1000
    measure "$@" pull pull
  fi
  measure "$@" backlog backlog --messages "$messages"
  if [ "$1" != echo ]; then
    measure "$@" redelivery redelivery --messages 6000
    measure "$@" demand demand --messages 100000 --subscriptions 300
    measure "$@" unread unread --messages 800 --size 1000000 --batch 4 --subscriptions 1 --streams 100 \
      --connections 100
    measure "$@" cold cold --new-topics 2000
    measure "$@" expiry expiry --messages 100000
    measure "$@" expiry-ordered expiry-ordered --messages 100000
    seconds=10 measure "$@" backoff backoff --messages 100000 --size 100
    measure "$@" dead-letter-cycle dead-letter-cycle --messages 1000
  fi
  if [ "$1" = durable ]; then
    seconds=30 measure "$@" holes holes --holes 100000 --rate 8000 --size 1000 --in-flight 64 --data-dir "$work/data"
  fi
}

# What goes over REST is held against what goes over gRPC in the same round.
rest_loads() {
  local load
  wanted rest || return 0
  for load in publish call; do
    printf '   durable: rest %s\n' "$load" >&2
    start_target durable
    run_bench durable "$1" "rest-$load" \
      "$bin/examples/bench-rest" "$load" --addr "$address" --pid "$pid" --seconds "$seconds"
    stop
    rm -rf "$work/data"
  done
}

# What a bare client of Kafka can be compared in.
bare_loads() {
  local name
  for name in publish-1 publish-100 latency topics; do
    wanted "${name%-*}" || continue
    printf '   rdkafka: %s\n' "$name" >&2
    run_bench rdkafka "$1" "$name" "$bin/examples/bench-kafka" "$name" --brokers "$brokers" --seconds "$seconds"
  done
}

run_round() {
  local round=$1 target peer
  for target in ${targets//,/ }; do
    step "round $round of $rounds: $target"
    loads "$target" "$round"
    if [ "$target" = durable ]; then rest_loads "$round"; fi
    if [ "$target" = kafka ]; then bare_loads "$round"; fi
  done
  for peer in ${peers[@]+"${peers[@]}"}; do
    step "round $round of $rounds: $peer"
    IFS== read -r target address pid <<<"$peer"
    loads "$target" "$round"
  done
  if wanted floors; then
    step "round $round of $rounds: floors"
    "$bin/examples/bench-floors" --dir "$work" --seconds "$seconds" | record floors "$round" floor
  fi
}

resident_mb() { awk '/^VmRSS:/ { printf "%.1f", $2 * 1024 / 1e6 }' "/proc/$server/status"; }

# What many topics cost that do nothing, how long a start with them takes, and what they cost if they share one rate.
run_idle() {
  local topics began ended
  only='' seconds=10
  step '10,000 topics with 10,000 subscriptions'
  start_target durable
  bench durable 1 idle idle --topics 10000 --keep
  stop
  began=$(date +%s%N)
  start_target durable
  ended=$(date +%s%N)
  printf '{"restart_seconds":%s,"server_rss_mb":%s}\n' \
    "$(awk "BEGIN { print ($ended - $began) / 1e9 }")" "$(resident_mb)" | record durable 1 restart
  stop
  rm -rf "$work/data"
  for topics in 10 10000; do
    step "$topics topics sharing one rate"
    measure durable 1 "shared-rate-$topics" latency --topics "$topics" --rate 2000
  done
}

cd "$root"
step 'build'
build
if [ -n "$idle" ]; then
  run_idle
else
  if [[ ,$targets, == *,kafka,* ]]; then
    step 'Kafka and Postgres'
    start_services
    # Java compiles what it runs often; that is no one's to pay who is measured.
    step 'warming Kafka up'
    for load in topics publish-1 latency publish-100; do
      "$bin/examples/bench-kafka" "$load" --brokers "$brokers" --seconds 10 >"$work/lines"
    done
  fi
  for round in $(seq "$rounds"); do
    run_round "$round"
  done
fi
step "figures are in $out"
python3 tests/bench/table.py "$out"

#!/usr/bin/env bash
# Compares the speed of two revisions: instructions per message, rates, and CPU per message. Prints a table and fails
# when the change is slower than the bounds allow, which tests/bench/compare.py has.
#
#   tests/bench/compare.sh [--instructions] [--rates] [--pairs 15] [--seconds 2] [--messages 500000] [--only LOAD,...]
#                          [--targets TARGET,...] [--profile dist] [--out FILE] BASE [CHANGE]
#
#   BASE, CHANGE    revisions as git names them; without CHANGE, the working tree with all that is not committed
#   --instructions  only the instructions per message: the scenarios of tests/allocations are played on a server under
#                   valgrind. Other work on the machine hardly changes them
#   --rates         only the rates and the CPU. Leave the machine alone meanwhile
#   --pairs         how many pairs of BASE and CHANGE are measured, and as many of BASE and BASE, whose differences are
#                   the machine's. The three runs of a round take turns in every order
#   --seconds       of each measurement
#   --messages      how many the backlog has
#   --only          publish, end-to-end, pull, backlog; without it, all
#   --targets       ephemeral, durable, kafka; without it, ephemeral and durable. kafka is as in tests/bench/run.sh
#   --out           keeps the figures, a JSON object a line
#
# One generator, CHANGE's, loads all servers, and a server is started for every load. All of it takes about 40 minutes
# and the builds. Those are kept outside the tree, in $PACKETBOAT_TEST_CACHE (default: ~/.cache/packetboat-tests), for a
# month after their last use. Data is in $TMPDIR (default: /tmp), which has to be on the disk to be measured. Needs git,
# Rust, a C compiler and Python 3; valgrind, a Debian package, is installed if this is run as root; for kafka see
# tests/bench/run.sh.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$root/tests/services/common.sh"
. "$root/tests/bench/servers.sh"
pairs=15 seconds=2 messages=500000 profile=dist only='' targets=ephemeral,durable out='' instructions='' rates=''
revisions=()

while [ $# -gt 0 ]; do
  case $1 in
    --instructions) instructions=1; shift; continue ;;
    --rates) rates=1; shift; continue ;;
    --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit ;;
    -*) [ $# -gt 1 ] || die "unknown argument $1, or its value is missing; tests/bench/compare.sh --help lists them" ;;
    *) revisions+=("$1"); shift; continue ;;
  esac
  case $1 in
    --pairs | --seconds | --messages)
      [[ $2 =~ ^[1-9][0-9]{0,8}$ ]] || die "$1 $2: write a number above 0"
      printf -v "${1#--}" %s "$2" ;;
    --only) only=$2 ;;
    --targets) targets=$2 ;;
    --profile) profile=$2 ;;
    --out) out=$2 ;;
    *) die "unknown argument $1; tests/bench/compare.sh --help lists them" ;;
  esac
  shift 2
done
case ${#revisions[@]} in
  1 | 2) ;;
  *) die "name one or two revisions: tests/bench/compare.sh BASE [CHANGE]; tests/bench/compare.sh --help says more" ;;
esac
for load in ${only//,/ }; do
  [[ " publish end-to-end pull backlog " == *" $load "* ]] || die "--only $load: no such load"
done
for target in ${targets//,/ }; do
  [[ " ephemeral durable kafka " == *" $target "* ]] || die "--targets $target: no such target"
done
[ -n "$instructions$rates" ] || instructions=1 rates=1

# Prints the tree, as git names it, of a revision or, without one, of the working tree.
tree_of() {
  if [ -n "$1" ]; then
    git rev-parse --quiet --verify "$1^{tree}" || die "$1: git knows no such revision"
  else
    export GIT_INDEX_FILE=$work/index
    git read-tree HEAD && git add --all && git write-tree
  fi
}

# build TREE PROGRAM: makes a tree's `packetboat`, or as `scenarios` its tests/allocations, unless it was made before,
# and sets built to its path. Cargo takes sources for unchanged that are older than what it built last, even if they
# are another folder's: so it gets new files every time, and a target folder that nothing else uses.
build() {
  local tree=$1 program=$2 key
  key=$( { echo "$tree $profile"; rustc -vV; env | sort | sed -n '/^CARGO_PROFILE_/p;/^[A-Z_]*RUSTFLAGS=/p'; } |
    sha256sum)
  built=$folder/built/${key:0:16}/$program
  [ ! -e "$built" ] || { touch "${built%/*}"; return 0; }
  step "build of $program of tree ${tree:0:8}"
  rm -rf "$folder/source"
  mkdir -p "$folder/source" "${built%/*}"
  git archive "$tree" | tar -x -m -C "$folder/source"
  cd "$folder/source"
  if [ "$program" = packetboat ]; then
    attend cargo build --profile "$profile" --locked --bin packetboat
    cp "$CARGO_TARGET_DIR/${profile/#dev/debug}/packetboat" "$built.new"
  else
    # The client's speed does not count, so this takes the profile that builds sooner.
    attend cargo test --profile gate --locked --no-run --test allocations --message-format json >"$work/lines"
    cp "$(sed -n '/"name":"allocations"/s/.*"executable":"\([^"]*\)".*/\1/p' "$work/lines")" "$built.new"
  fi
  mv "$built.new" "$built"
  cd "$root"
}

# count REVISION ROUND SCENARIO TARGET: plays all rounds of a scenario and, to be subtracted, none. The server has one
# worker: who wakes whom is then the same in every run.
count() {
  local rounds played
  packetboat=${programs[$1]}
  under=(env TOKIO_WORKER_THREADS=1 valgrind --tool=callgrind "--callgrind-out-file=$work/callgrind")
  for rounds in 0 5; do
    serve "$4"
    attend "$scenarios" play "$3" "$address" "$rounds" >"$work/lines"
    played=$(<"$work/lines")
    stop
    rm -rf "$work/data"
    sed -n "s/^totals: \([0-9]*\)$/{\"instructions\":\1,\"messages\":$played}/p" "$work/callgrind" |
      record "$1 $3" "$2" instructions
  done
  under=()
}

count_instructions() {
  local round revision
  for round in 1 2 3; do
    for revision in base change; do
      step "instructions, round $round of 3: $revision"
      count "$revision" "$round" publish ephemeral
      count "$revision" "$round" delivery ephemeral
      count "$revision" "$round" durable durable
    done
  done
}

# measure ROUND TARGET NAME LOAD [ARGUMENT]...: a load on each server of a round.
measure() {
  local round=$1 target=$2 name=$3 revision
  shift 3
  wanted "$1" || return 0
  for revision in ${orders[round % ${#orders[@]}]}; do
    packetboat=${programs[$revision]}
    serve "$target"
    bench "$revision $target" "$round" "$name" "$@"
    stop
    rm -rf "$work/data"
  done
}

measure_rates() {
  local round target
  for round in $(seq "$pairs"); do
    for target in ${targets//,/ }; do
      step "rates, round $round of $pairs: $target"
      measure "$round" "$target" publish-1 publish --batch 1 --in-flight 64
      measure "$round" "$target" publish-100 publish --batch 100
      measure "$round" "$target" end-to-end-8 end-to-end --streams 8
      measure "$round" "$target" pull pull
      measure "$round" "$target" backlog backlog --messages "$messages"
    done
  done
}

cd "$root"
work=$(mktemp -d "${TMPDIR:-/tmp}/packetboat-compare.XXXXXX")
out=${out:-$work/figures}
: >"$out"
folder=$cache/compare
export CARGO_TARGET_DIR=$folder/target
mkdir -p "$folder/built"
exec {lock}>"$folder/lock"
flock --nonblock "$lock" || die 'another comparison runs'
find "$folder/built" -mindepth 1 -maxdepth 1 -mtime +30 -exec rm -r {} +
[ -z "$instructions" ] || command -v valgrind >/dev/null || install_packages valgrind

declare -A programs
base=$(tree_of "${revisions[0]}")
change=$(tree_of "${revisions[1]:-}")
build "$base" packetboat
programs[base]=$built programs[again]=$built
build "$change" packetboat
programs[change]=$built generator=$built
if [ -n "$instructions" ]; then
  build "$change" scenarios
  scenarios=$built
fi
# Each is as often before each other, and as far from it.
orders=('base change again' 'change base again' 'again base change' 'change again base' 'base again change'
  'again change base')

[ -z "$instructions" ] || count_instructions
if [ -n "$rates" ]; then
  if [[ ,$targets, == *,kafka,* ]]; then
    step 'Kafka and Postgres'
    start_services
  fi
  measure_rates
fi
step 'done'
python3 tests/bench/compare.py "$out"

#!/usr/bin/env bash
# Runs every test: cargo's, with a Kafka and a Postgres that are started for them, then the official clients against the
# built server. Ends with what failed, `cargo: N passed, N failed` and `clients: N passed, N failed`.
#
#   tests/run.sh [--long]      --long: more messages, more kills (twenty to sixty a test, not one to three), longer attacks,
#                              more simulated runs, an older Kafka, one of three brokers and a failing Postgres too
#
# Needs Rust, C and C++ compilers, make and perl. What else is missing or too old is installed: Debian packages if run
# as root, the rest into a cache outside the tree, $PACKETBOAT_TEST_CACHE (default: ~/.cache/packetboat-tests).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
clients=$root/tests/clients
services=$root/tests/services
grpcurl_version=v1.9.4
older_kafka_version=3.9.2
. "$services/common.sh"
. "$services/maven.sh"

case ${1:-} in
  '') ;;
  --long) export PACKETBOAT_LONG=1 ;;
  *) echo "unknown argument $1; usage: tests/run.sh [--long]" >&2; exit 2 ;;
esac

# Runs `cargo test` with these arguments, and keeps what it says for the end under the name $1.
cargo_test() {
  local name=$1
  shift
  cargo test --profile gate --locked --no-fail-fast "$@" 2>&1 | python3 "$clients/tally.py" cargo "$scratch/cargo-$name.txt"
}

step() { printf '\n== %s (%d s)\n' "$1" "$SECONDS"; }

install_debian_packages() {
  local missing=()
  command -v strace >/dev/null || missing+=(strace)
  command -v curl >/dev/null || missing+=(curl)
  command -v python3 >/dev/null || missing+=(python3)
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
  install_packages "${missing[@]}"
}

# Makes a virtual environment named after what is in it, so that a changed pin makes a new one. Prints its path.
python_environment() {
  local name=$1 requirements=$2 tag folder
  tag=$( (python3 --version; command -v python3; cat "$requirements") | cksum | cut -d' ' -f1)
  folder=$cache/$name-$tag
  if [ ! -e "$folder/complete" ]; then
    rm -rf "$folder"
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$requirements" >&2
    touch "$folder/complete"
  fi
  echo "$folder"
}

# Whether version $1 is older than $2.
older() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -1)" != "$2" ]; }

install_go() {
  # The caller's settings must not change what is tested, nor another toolchain be fetched on the way.
  export GOTOOLCHAIN=local GOFLAGS=-buildvcs=false GO111MODULE=on GOWORK=off
  export GOMODCACHE=$cache/go/mod GOCACHE=$cache/go/build GOBIN=$cache/bin
  local wanted found
  wanted=$(sed -n 's/^go //p' "$clients/go/go.mod")
  found=$( (go env GOVERSION 2>/dev/null || true) | sed -n 's/^go\([0-9.]*\).*/\1/p')
  if older "${found:-0}" "$wanted"; then
    echo "Go ${found:-is missing}; $wanted is needed: installing it into the cache"
    local folder
    folder=$(python_environment go "$clients/go/toolchain.txt")
    PATH=$(echo "$folder"/lib/python3*/site-packages/go/bin):$PATH
  fi
  go version
  export GRPCURL=$GOBIN/grpcurl
  if [ "$("$GRPCURL" -version 2>&1 || true)" != "grpcurl $grpcurl_version" ]; then
    go install -ldflags "-X main.version=$grpcurl_version" "github.com/fullstorydev/grpcurl/cmd/grpcurl@$grpcurl_version"
  fi
}

# Sets node and npm.
install_node() {
  local wanted found folder
  node=node npm=npm
  wanted=$(sed -n 's/.*"node": ">=\([0-9.]*\)".*/\1/p' "$clients/browser/package.json")
  found=$( (command -v npm >/dev/null && node --version 2>/dev/null || true) | sed -n 's/^v//p')
  if older "${found:-0}" "$wanted"; then
    echo "Node ${found:-is missing}; $wanted is needed: installing it into the cache"
    folder=$(python_environment nodejs "$clients/node/toolchain.txt")
    node=$folder/bin/node npm=$folder/bin/npm
  fi
  "$node" --version
}

# Installs the packages of a folder of tests into one named after what is in it: nothing is put into the tree. Prints
# where `require` finds them.
node_modules() {
  local name=$1 folder
  folder=$cache/$name-$(cat "$clients/$name"/package*.json | cksum | cut -d' ' -f1)
  if [ ! -e "$folder/complete" ]; then
    rm -rf "$folder"
    mkdir "$folder"
    cp "$clients/$name"/package*.json "$folder"
    (cd "$folder" && "$npm" ci --ignore-scripts --no-audit --no-fund) >&2
    touch "$folder/complete"
  fi
  echo "$folder/node_modules"
}

# Sets $java_classes: where Java finds the compiled tests and what they use.
compile_java_tests() {
  install_java compiler
  fetch_class_path "$clients/java/pom.xml" "$cache/java-$(cksum <"$clients/java/pom.xml" | cut -d' ' -f1)"
  javac --release 17 -proc:none -cp "$class_path" -d "$scratch/java" "$clients"/java/*.java
  java_classes=$scratch/java:$clients/java:$class_path
}

# Exports where they are: PACKETBOAT_TEST_KAFKA and PACKETBOAT_TEST_POSTGRES. Sets older_kafka if --long.
# They are stopped when this ends, by the trap below or, after a SIGKILL, by themselves.
start_services() {
  local exports
  export PACKETBOAT_TEST_CACHE=$cache PACKETBOAT_TEST_SERVICES=$services PACKETBOAT_TEST_OWNER=$$
  exports=$("$services/postgres.sh" start "$scratch/postgres")
  eval "$exports"
  if [ -n "${PACKETBOAT_LONG:-}" ]; then
    exports=$(KAFKA_VERSION=$older_kafka_version "$services/kafka.sh" start "$scratch/kafka-older")
    eval "$exports"
    older_kafka=$PACKETBOAT_TEST_KAFKA
  fi
  exports=$("$services/kafka.sh" start "$scratch/kafka")
  eval "$exports"
  env | grep '^PACKETBOAT_TEST_'
}

clean_up() {
  local folder
  for folder in "$scratch"/kafka*; do [ ! -e "$folder/settings" ] || "$services/kafka.sh" stop "$folder"; done
  [ ! -e "$scratch/postgres/port" ] || "$services/postgres.sh" stop "$scratch/postgres"
  rm -rf "$scratch"
}

mkdir -p "$cache"
cd "$root"
scratch=$(mktemp -d)
chmod 711 "$scratch" # Postgres runs as another user when this runs as root
trap clean_up EXIT

step 'tools'
install_debian_packages
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
  die "$(python3 --version) is too old: the Python client needs 3.10 or later; put a newer python3 first in PATH"
install_go
python=$(python_environment python "$clients/python/requirements.txt")/bin/python
openapi=$(python_environment openapi "$clients/openapi/requirements.txt")/bin/python
install_node
node_client=$(node_modules node)
browser=$(node_modules browser)
compile_java_tests

step 'build'
cargo build --profile gate --locked
target=$(cargo metadata --no-deps --format-version 1 --locked |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
export PACKETBOAT_BIN=$target/gate/packetboat

step 'services'
start_services

failed=0
step 'cargo test'
cargo_test all || failed=1
step 'cargo test of the numbered cases over REST'
PACKETBOAT_TEST_TRANSPORT=rest cargo_test rest --test it -- case_ || failed=1
if [ -n "${PACKETBOAT_LONG:-}" ]; then
  step 'cargo test of what needs a Kafka to itself'
  cargo_test alone --lib --test it -- --ignored kafka || failed=1
  step "cargo test of what talks to Kafka, with Kafka $older_kafka_version"
  KAFKA_VERSION=$older_kafka_version PACKETBOAT_TEST_KAFKA=$older_kafka \
    cargo_test older-kafka --lib --test it -- kafka || failed=1
fi

# The official clients on each kind of storage.
for pair in embedded kafka+postgres; do
  export PACKETBOAT_TEST_PAIR=$pair
  step "Python client, $pair"
  (cd "$clients/python" && PYTHONDONTWRITEBYTECODE=1 "$python" -m pytest -v --tb=short --durations=0 --durations-min=10 \
    -n 6 --dist worksteal --junitxml "$scratch/python-$pair.xml") || failed=1

  step "Go client and grpcurl, $pair"
  (cd "$clients/go" && go vet ./... && go test -json -count=1 -parallel 12 -timeout 60m ./...) |
    python3 "$clients/tally.py" go "$scratch/go-$pair.txt" || failed=1

  step "Node client, $pair"
  (cd "$clients/node" && NODE_PATH=$node_client "$node" --test --test-concurrency=4 --test-reporter=spec \
    --test-reporter-destination=stdout --test-reporter=junit --test-reporter-destination="$scratch/node-$pair.xml") ||
    failed=1

  step "Java client, $pair"
  (cd "$clients/java" && java -Xmx512m -cp "$java_classes" org.junit.platform.console.ConsoleLauncher execute \
    --scan-classpath="$scratch/java" --fail-if-no-tests --disable-banner --disable-ansi-colors --details=tree \
    --reports-dir="$scratch/java-$pair") || failed=1

  step "Rust client, $pair"
  (cd "$clients/rust" && cargo test --profile gate --locked --target-dir "$target") |
    python3 "$clients/tally.py" cargo "$scratch/rust-$pair.txt" || failed=1
done

step 'generated requests of every call'
(export PACKETBOAT_TEST_PAIR=embedded
  cd "$clients/openapi" && PYTHONDONTWRITEBYTECODE=1 "$openapi" -m pytest -v --tb=short --junitxml "$scratch/openapi.xml") ||
  failed=1

step 'pages in a browser'
(export PACKETBOAT_TEST_PAIR=embedded NODE_PATH=$browser
  cd "$clients/browser" && "$node" --test --test-reporter=spec --test-reporter-destination=stdout \
    --test-reporter=junit --test-reporter-destination="$scratch/browser.xml") || failed=1

step 'done'
python3 "$clients/tally.py" sum cargo "$scratch"/cargo-*.txt || failed=1
python3 "$clients/tally.py" sum clients "$scratch"/{python,node}-*.xml "$scratch"/java-*/TEST-junit-jupiter.xml \
  "$scratch"/{go,rust}-*.txt "$scratch/openapi.xml" "$scratch/browser.xml" ||
  failed=1
exit $failed

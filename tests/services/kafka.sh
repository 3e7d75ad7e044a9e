#!/usr/bin/env bash
# A throw-away Apache Kafka (KRaft) on free ports of 127.0.0.1.
#
#   kafka.sh start DIR [NODE] starts it with its data in DIR and prints shell exports when it is ready; started before in
#                             the same DIR: the same ports and data, and only what does not run is started, or one
#   kafka.sh kill DIR [NODE]  SIGKILL to the brokers, or to one; data and ports stay
#   kafka.sh stop DIR         ends it and removes DIR
#
# Read when a DIR is new:
#   KAFKA_VERSION   a release of Apache Kafka (kafka-jars.sh has the default)
#   KAFKA_BROKERS   1 (default) or 3
#   KAFKA_SECURE    1: also SASL_PLAINTEXT and SASL_SSL, with PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512, and ACLs: the user
#                   `packetboat` and clients of the plain listener may do everything, the user `stranger` nothing
#   KAFKA_SETTINGS  further lines of server.properties
# Read at every start:
#   PACKETBOAT_TEST_OWNER  a process id; when that process is gone, the service is stopped
#   KAFKA_JAVA_OPTIONS     heap and garbage collector, instead of a small heap
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"
. "$here/kafka-jars.sh"

start_seconds_max=90
password=packetboat-secret

# DIR/settings keeps what was asked for at the first start, so that later calls need only the DIR.
load_settings() {
  [ -e "$dir/settings" ] || new_settings
  . "$dir/settings"
}

new_settings() {
  local brokers=${KAFKA_BROKERS:-1}
  case $brokers in 1 | 3) ;; *) die "KAFKA_BROKERS is $brokers; it can be 1 or 3" ;; esac
  mkdir -p "$dir"
  {
    echo "KAFKA_VERSION=$KAFKA_VERSION brokers=$brokers secure=${KAFKA_SECURE:-0}"
    echo "cluster=$(head -c 16 /dev/urandom | base64 | tr '+/' 'xy' | cut -c-22)"
    echo "ports=($(free_ports $((brokers * 4)) | tr '\n' ' '))"
    printf 'more=%q\n' "${KAFKA_SETTINGS:-}"
  } >"$dir/settings"
}

# Of a node, and of what: 0 plain, 1 controller, 2 SASL_PLAINTEXT, 3 SASL_SSL.
address() { echo "127.0.0.1:${ports[($1 - 1) * 4 + $2]}"; }

addresses() {
  local node all=()
  for node in $(seq "$brokers"); do all+=("$(address "$node" "$1")"); done
  (IFS=,; echo "${all[*]}")
}

# The process of a node, if it runs. A number in an old file may belong to something else by now.
pid_of() {
  local pid
  pid=$(cat "$dir/$1/pid" 2>/dev/null) && alive "$pid" &&
    grep -qsaF "$dir/$1/server.properties" "/proc/$pid/cmdline" && echo "$pid"
}

make_certificates() {
  local tls=$dir/tls
  [ ! -e "$tls/server.pem" ] || return 0
  command -v openssl >/dev/null || install_packages openssl
  mkdir -p "$tls"
  {
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj '/CN=Packetboat test CA' \
      -keyout "$tls/ca.key" -out "$tls/ca.crt"
    openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout "$tls/server.key" -out "$tls/server.csr"
    openssl x509 -req -in "$tls/server.csr" -CA "$tls/ca.crt" -CAkey "$tls/ca.key" -CAcreateserial -days 30 \
      -extfile <(echo 'subjectAltName=DNS:localhost,IP:127.0.0.1') -out "$tls/server.crt"
  } >"$tls/log" 2>&1 || die "openssl failed: $(cat "$tls/log")"
  cat "$tls/server.key" "$tls/server.crt" "$tls/ca.crt" >"$tls/server.pem"
}

server_properties() {
  local node=$1 copies=$((brokers < 3 ? 1 : 3)) in_sync=$((brokers < 3 ? 1 : 2)) voters=() listeners name each
  for each in $(seq "$brokers"); do voters+=("$each@$(address "$each" 1)"); done
  listeners=PLAINTEXT://$(address "$node" 0)
  [ "$secure" != 1 ] ||
    listeners+=,SASL_PLAINTEXT://$(address "$node" 2),SASL_SSL://$(address "$node" 3)
  cat <<P
process.roles=broker,controller
node.id=$node
controller.quorum.voters=$(IFS=,; echo "${voters[*]}")
controller.listener.names=CONTROLLER
listeners=$listeners,CONTROLLER://$(address "$node" 1)
advertised.listeners=$listeners
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SASL_PLAINTEXT:SASL_PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=$dir/$node/data
auto.create.topics.enable=false
default.replication.factor=$copies
min.insync.replicas=$in_sync
# Internal topics as small as they can be.
offsets.topic.num.partitions=1
offsets.topic.replication.factor=$copies
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=$copies
transaction.state.log.min.isr=$in_sync
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=$copies
share.coordinator.state.topic.min.isr=$in_sync
# Quick to answer, to notice a dead broker, and to delete.
group.initial.rebalance.delay.ms=0
controller.quorum.append.linger.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
log.initial.task.delay.ms=500
log.retention.check.interval.ms=1000
log.cleaner.backoff.ms=500
# Little memory.
log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=16777216
P
  if [ "$secure" = 1 ]; then
    cat <<P
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:packetboat
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.ssl.keystore.type=PEM
listener.name.sasl_ssl.ssl.keystore.location=$dir/tls/server.pem
P
    local modules=org.apache.kafka.common.security
    for name in sasl_plaintext sasl_ssl; do
      cat <<P
listener.name.$name.plain.sasl.jaas.config=$modules.plain.PlainLoginModule required user_packetboat="$password" user_stranger="$password";
listener.name.$name.scram-sha-256.sasl.jaas.config=$modules.scram.ScramLoginModule required;
listener.name.$name.scram-sha-512.sasl.jaas.config=$modules.scram.ScramLoginModule required;
P
    done
  fi
  printf '%s\n' "$more"
}

format() {
  local node=$1 users=() user mechanism
  [ ! -e "$dir/$node/data/meta.properties" ] || return 0
  if [ "$secure" = 1 ]; then
    for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
      for user in packetboat stranger; do users+=(--add-scram "$mechanism=[name=$user,password=$password]"); done
    done
  fi
  tool_command
  "${java[@]}" kafka.tools.StorageTool format --cluster-id "$cluster" \
    --config "$dir/$node/server.properties" "${users[@]}" >"$dir/$node/format.log" 2>&1 ||
    die "cannot format the data of node $node: $(cat "$dir/$node/format.log")"
}

launch() { # node, further options of Java
  local node=$1
  shift
  pid_of "$node" >/dev/null && return 0
  mkdir -p "$dir/$node"
  server_properties "$node" >"$dir/$node/server.properties"
  format "$node"
  [ ! -e "$dir/$node/log" ] || cat "$dir/$node/log" >>"$dir/$node/log.before"
  java_command
  local log=-Dorg.slf4j.simpleLogger memory
  read -ra memory <<<"${KAFKA_JAVA_OPTIONS:--Xms64m -Xmx384m -XX:+UseG1GC}"
  setsid "${java[@]}" "${memory[@]}" "$@" "$log.showDateTime=true" "$log.dateTimeFormat=HH:mm:ss.SSS" \
    "$log.log.org.apache.kafka.common.config=warn" kafka.Kafka "$dir/$node/server.properties" \
    </dev/null >"$dir/$node/log" 2>&1 &
  echo $! >"$dir/$node/pid"
}

# A broker says so when it is registered with the controllers, its logs are recovered and its listeners are open.
wait_until_ready() { # all or one
  local node end=$((SECONDS + start_seconds_max))
  for node in ${1:-$(seq "$brokers")}; do
    until grep -qs 'Kafka Server started' "$dir/$node/log"; do
      alive "$(cat "$dir/$node/pid")" || die "Kafka's node $node ended: $(tail -n 20 "$dir/$node/log")"
      [ "$SECONDS" -lt "$end" ] ||
        die "Kafka's node $node is not ready after $start_seconds_max s: $(tail -n 20 "$dir/$node/log")"
      sleep .05
    done
  done
}

# Java shares loaded classes by an archive, which halves the time of a start. The archive is what one broker, started for
# this alone, leaves behind when it ends.
archive_classes() {
  (
    flock 9
    [ ! -e "$class_archive" ] || exit 0
    dir=$(mktemp -d)
    trap '"$here/kafka.sh" stop "$dir"' EXIT
    KAFKA_BROKERS=1 KAFKA_SECURE=0 KAFKA_SETTINGS='' load_settings
    launch 1 -XX:ArchiveClassesAtExit="$class_archive.new"
    wait_until_ready
    pid=$(pid_of 1)
    kill "$pid"
    while alive "$pid"; do sleep .05; done
    mv "$class_archive.new" "$class_archive"
  ) 9>"$class_archive.lock" || die "cannot make the archive of Kafka's classes"
}

start() { # all or one
  local node nodes
  install_java
  load_settings
  fetch_jars
  archive_classes
  stop_with_owner "$here/kafka.sh" "$dir"
  [ "$secure" != 1 ] || make_certificates
  nodes=${1:-$(seq "$brokers")}
  for node in $nodes; do launch "$node" & done
  wait
  wait_until_ready "$nodes"
  print_exports
}

print_exports() {
  echo "export PACKETBOAT_TEST_KAFKA=$(addresses 0)"
  [ "$secure" = 1 ] || return 0
  echo "export PACKETBOAT_TEST_KAFKA_SASL_PLAINTEXT=$(addresses 2)"
  echo "export PACKETBOAT_TEST_KAFKA_SASL_SSL=$(addresses 3)"
  printf 'export PACKETBOAT_TEST_KAFKA_CA=%q\n' "$dir/tls/ca.crt"
  echo "export PACKETBOAT_TEST_KAFKA_PASSWORD=$password"
}

kill_brokers() { # all or one
  local node pids=()
  for node in ${1:-$(seq "$brokers")}; do pids+=($(pid_of "$node" || true)); done
  kill_and_wait "${pids[@]}"
}

usage() { sed -n '4,7p' "$0" | cut -c 3- >&2; exit 2; }

[ $# -ge 2 ] || usage
dir=$(realpath -m "$2")
case $1 in
  start) start "${3:-}" ;;
  kill | stop)
    [ -e "$dir/settings" ] || die "$dir holds no Kafka of this script"
    load_settings
    kill_brokers "${3:-}"
    [ "$1" = kill ] || rm -rf "$dir"
    ;;
  *) usage ;;
esac

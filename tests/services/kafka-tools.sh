#!/usr/bin/env bash
# Runs one of Kafka's own console tools, of the release $KAFKA_VERSION:
#
#   kafka-tools.sh kafka-topics --bootstrap-server "$PACKETBOAT_TEST_KAFKA" --list
#
# Tools: kafka-acls, kafka-configs, kafka-console-consumer, kafka-console-producer, kafka-topics, kafka-transactions
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"
. "$here/kafka-jars.sh"

case $KAFKA_VERSION in
  3.*) acls=kafka.admin.AclCommand producer=kafka.tools.ConsoleProducer ;;
  *) acls=org.apache.kafka.tools.AclCommand producer=org.apache.kafka.tools.ConsoleProducer ;;
esac
case ${1:-} in
  kafka-acls) class=$acls ;;
  kafka-configs) class=kafka.admin.ConfigCommand ;;
  kafka-console-consumer) class=org.apache.kafka.tools.consumer.ConsoleConsumer ;;
  kafka-console-producer) class=$producer ;;
  kafka-topics) class=org.apache.kafka.tools.TopicCommand ;;
  kafka-transactions) class=org.apache.kafka.tools.TransactionsCommand ;;
  *) sed -n '2,6p' "$0" | cut -c 3- >&2; exit 2 ;;
esac
shift

# Named so since Kafka 4.2, and not known before.
case $KAFKA_VERSION in
  3.*)
    for argument; do
      shift
      case $argument in --formatter-property | --reader-property) argument=--property ;; esac
      set -- "$@" "$argument"
    done ;;
esac

install_java
fetch_jars
tool_command
exec "${java[@]}" -Dorg.slf4j.simpleLogger.defaultLogLevel=warn "$class" "$@"

# Kafka's jars, and how they are run; sourced by kafka.sh and kafka-tools.sh, never run.

# A release of Apache Kafka, 3.9 or newer.
KAFKA_VERSION=${KAFKA_VERSION:-4.3.1}

. "$here/maven.sh"

# Sets $class_path, and $class_archive: where kafka.sh keeps Java's archive of loaded classes.
fetch_jars() {
  local folder=$cache/kafka-$KAFKA_VERSION
  fetch_class_path "$here/kafka-jars.xml" "$folder" -Dkafka.version="$KAFKA_VERSION"
  class_archive=$folder/java-$java_version.jsa
}

# Sets $java: the command that runs a class of Kafka's. Warnings of Java itself stay out of standard output.
java_command() {
  java=(java -cp "$class_path" -Xlog:disable -Xlog:all=error:stderr)
  [ ! -e "$class_archive" ] || java+=(-XX:SharedArchiveFile="$class_archive" -Xshare:auto)
}

# The same for what runs briefly: most of its time is Java's start, so no optimising compiler and no threads for memory.
tool_command() {
  java_command
  java+=(-Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1)
}

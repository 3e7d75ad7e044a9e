# Kafka's jars, from Maven into the cache, and how they are run; sourced by kafka.sh and kafka-tools.sh, never run.

# A release of Apache Kafka, 3.9 or newer.
KAFKA_VERSION=${KAFKA_VERSION:-4.3.1}

# Sets $java_version.
install_java() {
  local missing=()
  command -v java >/dev/null || missing+=(default-jre-headless)
  command -v mvn >/dev/null || missing+=(maven)
  install_packages "${missing[@]}"
  java_version=$(java -version 2>&1 | sed -n 's/.* version "\([^"]*\)".*/\1/p')
  [ "${java_version%%[.-]*}" -ge 17 ] ||
    die "Java $java_version is too old: Kafka needs 17 or newer; put a newer java first in PATH"
}

# Sets $class_path, and $class_archive: where kafka.sh keeps Java's archive of loaded classes.
fetch_jars() {
  local folder=$cache/kafka-$KAFKA_VERSION
  mkdir -p "$folder"
  (
    flock 9 # two Mavens at a time would spoil their folder
    [ ! -s "$folder/class-path" ] || exit 0
    mvn --batch-mode --quiet --strict-checksums -f "$here/kafka-jars.xml" \
      -Dmaven.repo.local="$cache/maven" -Dkafka.version="$KAFKA_VERSION" \
      dependency:build-classpath -Dmdep.outputFile="$folder/class-path.new" >"$folder/maven.log" 2>&1 ||
      die "Maven cannot fetch Kafka $KAFKA_VERSION: $(cat "$folder/maven.log")"
    mv "$folder/class-path.new" "$folder/class-path"
  ) 9>"$cache/maven.lock" || exit 1
  class_path=$(cat "$folder/class-path")
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

# Java, and jars from Maven into the cache; sourced, never run.

# Sets $java_version. With the argument `compiler` there is a javac too.
install_java() {
  local missing=()
  if [ "${1:-}" = compiler ]; then
    command -v javac >/dev/null || missing+=(default-jdk-headless)
  else
    command -v java >/dev/null || missing+=(default-jre-headless)
  fi
  command -v mvn >/dev/null || missing+=(maven)
  install_packages "${missing[@]}"
  java_version=$(java -version 2>&1 | sed -n 's/.* version "\([^"]*\)".*/\1/p')
  [ "${java_version%%[.-]*}" -ge 17 ] ||
    die "Java $java_version is too old: 17 or newer is needed; put a newer java first in PATH"
}

# fetch_class_path POM FOLDER [MAVEN'S ARGUMENT...] - sets $class_path: the jars that the POM depends on. They are listed
# in FOLDER; each set of jars has its own.
fetch_class_path() {
  local pom=$1 folder=$2
  shift 2
  mkdir -p "$folder"
  (
    flock 9 # two Mavens at a time would spoil their folder
    [ ! -s "$folder/class-path" ] || exit 0
    mvn --batch-mode --quiet --strict-checksums -f "$pom" -Dmaven.repo.local="$cache/maven" "$@" \
      dependency:build-classpath -Dmdep.outputFile="$folder/class-path.new" >"$folder/maven.log" 2>&1 ||
      die "Maven cannot fetch what $pom names ($*): $(cat "$folder/maven.log")"
    mv "$folder/class-path.new" "$folder/class-path"
  ) 9>"$cache/maven.lock" || exit 1
  class_path=$(cat "$folder/class-path")
}

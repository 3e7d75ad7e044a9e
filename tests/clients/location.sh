#!/usr/bin/env bash
# location.sh DIRECTORY - makes a location for the data of a new server, and prints its flags, one on a line.
#
# $PACKETBOAT_TEST_PAIR says what it is made of: embedded (in DIRECTORY), or kafka+postgres, which are those of
# $PACKETBOAT_TEST_KAFKA and $PACKETBOAT_TEST_POSTGRES (tests/services starts them).
set -euo pipefail

directory=$1
case ${PACKETBOAT_TEST_PAIR:-embedded} in
  embedded)
    printf '%s\n' --data-dir "$directory/data" ;;
  kafka+postgres)
    name=clients_$(od -An -N8 -tx8 /dev/urandom | tr -d ' ')
    psql -qAt "$PACKETBOAT_TEST_POSTGRES" -c "create database $name"
    printf '[kafka]\nprefix = "%s"\n' "$name" >"$directory/packetboat.toml"
    printf '%s\n' --config "$directory/packetboat.toml" --log "kafka://$PACKETBOAT_TEST_KAFKA" \
      --store "${PACKETBOAT_TEST_POSTGRES%/*}/$name" ;;
  *)
    echo "PACKETBOAT_TEST_PAIR=$PACKETBOAT_TEST_PAIR is neither embedded nor kafka+postgres" >&2
    exit 2 ;;
esac

#!/usr/bin/env bash
# What ends a run behind a checkpoint with status 75, and the same command goes on to the end: SIGUSR1 on one rank that
# hears of it, and through mpirun, which tells all; the file `stop` in the run directory, which is removed.
# Usage: stop_test.sh PROGRAM
set -uo pipefail
program=$1
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
scratch=$(mktemp -d)
steps=300
failures=0 job=
finish() {
  [ -n "$job" ] && kill -KILL "$job" 2>/dev/null
  rm -rf "$scratch"
}
trap finish EXIT

cat >"$scratch/deck.ini" <<INI
[model]
init = $source_dir/tests/golden/qwen3_moe
[data]
format = synthetic
sequence = 64
[train]
steps = $steps
global_batch = 4
[optimizer]
lr = 1e-3
INI

fail() {
  failures=$((failures + 1))
  echo "FAILED $scenario: $*"
  tail -n 20 "$scratch/out"
}

launch() {
  exec mpirun -q --oversubscribe --bind-to none -n 2 "$program" train "$scratch/deck.ini" run.directory="$directory" \
    >"$scratch/out" 2>&1 </dev/null
}

lines() { wc -l 2>/dev/null <"$directory/metrics.jsonl" || echo 0; }

# Waits for a third step, two minutes at most.
wait_for_steps() {
  for ((tries = 0; tries < 2400; ++tries)); do
    [ "$(lines)" -ge 3 ] && return 0
    kill -0 "$job" 2>/dev/null || return 1
    sleep 0.05
  done
  return 1
}

# stops_and_goes_on NAME EVENT COMMAND...: COMMAND asks the run to stop; its last argument is the process of mpirun.
stops_and_goes_on() {
  local scenario=$1 event=$2 directory=$scratch/$1 status step
  shift 2
  launch &
  job=$!
  wait_for_steps || fail "no third step"
  "$@" "$job"
  wait "$job"
  status=$?
  job=
  step=$(sed -n 's/^stopped //p' "$directory/status")
  [ "$status" -eq 75 ] || fail "status $status, not 75"
  [ "$(lines)" = "$step" ] || fail "$(lines) lines of metrics, stopped at step '$step'"
  [ "${step:-$steps}" -lt "$steps" ] || fail "stopped at '$step' of $steps"
  [ -s "$directory/checkpoints/$(printf 'step-%08d.h5' "$step")" ] || fail "no checkpoint of step $step"
  grep -q "\"event\":\"$event\",\"step\":$step}" "$directory/events.jsonl" || fail "no $event in events.jsonl"
  [ ! -e "$directory/stop" ] || fail "the file stop is still there"

  (launch)
  status=$?
  [ "$status" -eq 0 ] || fail "status $status of the same command run again"
  [ "$(cat "$directory/status")" = "complete $steps" ] || fail "status file: $(cat "$directory/status")"
  grep -q "continuing from .* (step $step)" "$scratch/out" || fail "it did not go on from step $step"
  sed -E 's/^\{"step": ([0-9]+),.*/\1/' "$directory/metrics.jsonl" | diff -q - <(seq "$steps") >/dev/null ||
    fail "the steps of metrics.jsonl are not 1 to $steps"
}

all_ranks() { kill -USR1 "$1"; }
one_rank() { kill -USR1 "$(pgrep -P "$1" | tail -n 1)"; }
stop_file() { touch "$directory/stop"; }

stops_and_goes_on all-ranks signal all_ranks
stops_and_goes_on one-rank signal one_rank
stops_and_goes_on stop-file stop_file stop_file
[ "$failures" -eq 0 ] && echo "stopped and completed three times"

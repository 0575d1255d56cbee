#!/usr/bin/env bash
# A rank that is killed, stopped or throws ends the job: within run.watchdog, with a table that names it, a status other
# than 0 and no process left. Usage: watchdog_test.sh PROGRAM
set -uo pipefail
program=$1
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
limit=10 # seconds
ranks=3
failures=0

cat >"$scratch/deck.ini" <<INI
[run]
directory = $scratch/run
watchdog = $limit
[model]
init = $source_dir/tests/golden/qwen3_moe
[data]
path = $scratch/text
format = text
sequence = 64
[train]
steps = 1000000
global_batch = $ranks
[optimizer]
lr = 1e-3
INI

# Every rank reads a text of its own, so that one of them can be cut off.
start() { # -> launcher
  local arguments=() rank
  for ((rank = 0; rank < ranks; rank++)); do
    head -c 200000 /dev/zero | tr '\0' 'a' >"$scratch/text$rank"
    arguments+=(-n 1 "$program" train "$scratch/deck.ini" "data.path=$scratch/text$rank" :)
  done
  unset 'arguments[-1]'
  rm -rf "$scratch/run"
  mpirun -q --oversubscribe --bind-to none "${arguments[@]}" >"$scratch/out" 2>&1 </dev/null &
  launcher=$!
}

# Rank 1 looks for its tokens in a pipe that nobody writes to: it stands still before any step.
start_stuck() { # -> launcher
  rm -rf "$scratch/run" "$scratch/pipe"
  mkfifo "$scratch/pipe"
  head -c 200000 /dev/zero | tr '\0' 'a' >"$scratch/text0"
  mpirun -q --oversubscribe --bind-to none -n 1 "$program" train "$scratch/deck.ini" "data.path=$scratch/text0" : \
    -n 1 "$program" train "$scratch/deck.ini" "data.path=$scratch/pipe" >"$scratch/out" 2>&1 </dev/null &
  launcher=$!
}

wait_for_two_steps() {
  until [ "$(grep -c . "$scratch/run/metrics.jsonl" 2>/dev/null)" -ge 2 ] 2>/dev/null; do
    kill -0 "$launcher" 2>/dev/null || return 1
    sleep 0.1
  done
}

find_processes() { # -> processes: that of each rank
  local pid rank
  processes=()
  for pid in $(pgrep -P "$launcher"); do
    rank=$(tr '\0' '\n' <"/proc/$pid/environ" | sed -n 's/^OMPI_COMM_WORLD_RANK=//p')
    [ -n "$rank" ] && processes[rank]=$pid
  done
}

harm() { # HOW RANK
  case $1 in
    kill) kill -KILL "${processes[$2]}" ;;
    stop) kill -STOP "${processes[$2]}" ;;
    throw) : >"$scratch/text$2" ;;
  esac
}

complain() {
  failures=$((failures + 1))
  echo "FAILED $*; said:"
  sed 's/^/  /' "$scratch/out"
}

# Waits for the launcher's end, which is forced after three times the limit.
wait_for_end() { # -> status, seconds
  local began=$SECONDS
  while kill -0 "$launcher" 2>/dev/null && [ $((SECONDS - began)) -lt $((3 * limit)) ]; do sleep 0.1; done
  seconds=$((SECONDS - began))
  kill -0 "$launcher" 2>/dev/null && kill -KILL "$launcher" "${processes[@]}"
  wait "$launcher"
  status=$?
}

# A process that has ended may still be listed, as a zombie, until its new parent looks at it.
runs() { # PID
  [ -e "/proc/$1/status" ] && ! grep -q '^State:[[:space:]]*[ZX]' "/proc/$1/status" 2>/dev/null
}

is_left() { # PID, which gets two seconds to end
  local try
  for ((try = 0; try < 20; try++)); do
    runs "$1" || return 1
    sleep 0.1
  done
}

check() { # HOW RANK STATE: the sentence and the table's first line name the rank
  local how=$1 rank=$2 state=$3 pid
  start
  wait_for_two_steps || { complain "$how of rank $rank: the run did not start" && return; }
  find_processes
  harm "$how" "$rank"
  wait_for_end
  echo "$how of rank $rank: status $status after $seconds s"
  [ "$status" -ne 0 ] || complain "$how of rank $rank: status 0"
  [ "$seconds" -le "$limit" ] || complain "$how of rank $rank: ended after $seconds s"
  grep -qE "watchdog: rank $rank (is )?$state.*, in step [0-9]+, [a-z]+" "$scratch/out" ||
    complain "$how of rank $rank: it is not named"
  [ "$(grep -cE '^ +[0-9]+  .*<-$' "$scratch/out")" -eq 1 ] || complain "$how of rank $rank: not one table"
  grep -qE "^ +$rank  .* [0-9]+  [a-z]+ .*  $state  <-$" "$scratch/out" || complain "$how of rank $rank: not in the table"
  for pid in "${processes[@]}"; do
    is_left "$pid" && complain "$how of rank $rank: process $pid is left" && kill -KILL "$pid"
  done
}

check_start() {
  local pid
  start_stuck
  until find_processes && [ "${#processes[@]}" -eq 2 ]; do sleep 0.1; done
  wait_for_end
  echo "stuck before the first step: status $status after $seconds s"
  [ "$status" -ne 0 ] || complain "stuck before the first step: status 0"
  [ "$seconds" -le "$limit" ] || complain "stuck before the first step: ended after $seconds s"
  grep -qE 'watchdog: .*, in step 0, start' "$scratch/out" || complain "stuck before the first step: no table"
  for pid in "${processes[@]}"; do
    is_left "$pid" && complain "stuck before the first step: process $pid is left" && kill -KILL "$pid"
  done
}

check_all() {
  local rank
  for rank in 0 1 2; do
    check kill "$rank" gone
    check stop "$rank" silent
    check throw "$rank" failed
  done
}

check_all
check_start
echo "$failures failed"
[ "$failures" -eq 0 ]

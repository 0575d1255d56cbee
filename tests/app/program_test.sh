#!/usr/bin/env bash
# What the program prints, writes and returns when all is well. Usage: program_test.sh PROGRAM
set -uo pipefail
. "$(dirname "$0")/common.sh"
deck=$scratch/deck.ini

# does NAME RANKS STATUS PATTERN ARGUMENT...: that exit status, a line of output that matches PATTERN, no error.
does() {
  local name=$1 ranks=$2 wanted=$3 pattern=$4 status
  shift 4
  checks=$((checks + 1))
  launch "$ranks" "$@"
  status=$?
  if [ "$status" -ne "$wanted" ] || ! grep -qE -- "$pattern" "$scratch/out" || grep -q 'error:' "$scratch/err"; then
    fail "$name: status $status, wanted $wanted and /$pattern/"
  fi
}

# holds NAME CONDITION...: a condition of `test`.
holds() {
  local name=$1
  shift
  checks=$((checks + 1))
  test "$@" || fail "$name: not [ $* ]"
}

does 'help' 0 0 '^  moesaic train DECK' --help
holds 'help is at most 100 columns wide' "$(awk 'length > 100' "$scratch/out" | wc -l)" -eq 0
holds 'help names all sections' "$(grep -c '^\[' "$scratch/out")" -eq 9
does 'no words' 0 0 '^  moesaic train DECK'
does 'help on a section' 0 0 '^  global_batch ' --help train
holds 'one section only' "$(grep -c '^\[' "$scratch/out")" -eq 1
does 'help is said once' 3 0 '^\[log\]' --help log
holds 'once' "$(grep -c 'every' "$scratch/out")" -eq 1
does 'version' 0 0 '^moesaic [0-9]+\.[0-9]+\.[0-9]+$' --version
does 'configuration' 0 0 '^mpi ' --config

does 'check' 3 0 'is ready to run on 3 ranks' train "$deck" --check
does 'check without mpirun' 0 0 'is ready to run on 1 rank$' train "$deck" --check
holds 'check writes nothing' ! -e "$scratch/run"
does 'dump' 3 0 '^global_batch = 4$' train "$deck" --dump-deck optimizer.clip=0.5
holds 'dump writes nothing' ! -e "$scratch/run"
tr -d '\r' <"$scratch/out" >"$scratch/dumped.ini"
holds 'dump has what the command line said' "$(grep -cx 'clip = 0.5' "$scratch/dumped.ini")" -eq 1
does 'dump of the dump' 0 0 '^clip = 0.5$' train "$scratch/dumped.ini" --dump-deck
holds 'a dumped deck dumps itself' "$(cmp "$scratch/out" "$scratch/dumped.ini" >/dev/null && echo same)" = same

does 'evaluate before training' 0 0 "\"rows\":256,\"tokens\":16384,\"weights\":\"$golden\"" evaluate "$deck" data.validation=1
holds 'one JSON line' "$(grep -c . "$scratch/out")" -eq 1
holds 'evaluate writes nothing' ! -e "$scratch/run"
before=$(cat "$scratch/out")
does 'train without mpirun' 0 0 'training loss' train "$scratch/dumped.ini"
holds 'status' "$(cat "$scratch/run/status")" = 'complete 2'
holds 'two steps' "$(wc -l <"$scratch/run/metrics.jsonl")" -eq 2
holds 'checkpoints are a phase of their own' "$(grep -c '^checkpoint  *[0-9]' "$scratch/out")" -eq 1
holds 'a link to the newest checkpoint' "$(readlink "$scratch/run/checkpoints/latest")" = step-00000002.h5
does 'train again' 3 0 'is complete at step 2' train "$scratch/dumped.ini"
launch 3 train "$deck" train.steps=3
holds 'another deck is refused' "$?:$(grep -c 'optimizer.clip was 0.5 and is 1' "$scratch/err")" = 2:1
does 'train on' 3 0 'continuing from .*step-00000002.h5' train "$scratch/dumped.ini" train.steps=3
does 'how it is computed may change, and is told' 3 0 \
  '^changed since step-00000003.h5: train.deterministic = false \(was true\)$' \
  train "$scratch/dumped.ini" train.steps=3 train.deterministic=false
cp "$golden/config.json" "$scratch/moved.json"
does 'the config may have moved' 0 0 '^changed since .*: model.config = .*/moved.json ' train "$scratch/dumped.ini" \
  train.steps=3 model.config="$scratch/moved.json"
sed -i 's/"rms_norm_eps": 1e-06/"rms_norm_eps": 1e-05/' "$scratch/moved.json"
launch 0 train "$scratch/dumped.ini" train.steps=3 model.config="$scratch/moved.json"
holds 'but not changed' "$?:$(grep -c 'model.config was left out and is .*/moved.json' "$scratch/err")" = 2:1
holds 'three steps' "$(wc -l <"$scratch/run/metrics.jsonl")" -eq 3
does 'evaluate after training' 3 0 '^\{"loss":[0-9.]+,"rows":256,.*/step-00000003.h5"\}' evaluate "$deck" data.validation=1
holds 'one JSON line from 3 ranks' "$(grep -c . "$scratch/out")" -eq 1
holds 'training changed the loss' "$(cat "$scratch/out")" != "$before"
does 'evaluate the beginning again' 0 0 "\"weights\":\"$golden\"" evaluate "$deck" data.validation=1 checkpoint.resume=never
holds 'the same as before training' "$(cat "$scratch/out")" = "$before"
does 'stop at the wall limit' 3 75 'run the same command again' train "$deck" run.directory="$scratch/stopped" \
  run.wall_limit=0.000001
holds 'stopped behind a checkpoint' -e "$scratch/stopped/checkpoints/step-00000001.h5"

does 'inspect' 0 0 '^step 3, ' inspect "$scratch/run/checkpoints/latest"
holds 'arrays are listed' "$(grep -c '^/parameters/blocks/0/attention/.* F32 ' "$scratch/out")" -gt 0
holds 'so is the deck' "$(grep -cx 'global_batch = 4' "$scratch/out")" -eq 1
does 'verify a checkpoint' 0 0 ' blocks: all as written' verify "$scratch/run/checkpoints/latest"
does 'verify a checkpoint on all ranks' 3 0 ' blocks: all as written' verify "$scratch/run/checkpoints/latest"
does 'a checkpoint as weights' 3 0 'training loss' train "$deck" run.directory="$scratch/next" \
  model.init="$scratch/run/checkpoints/step-00000003.h5"

finish

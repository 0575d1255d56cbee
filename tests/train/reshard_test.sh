#!/usr/bin/env bash
# A run that goes on with another number of ranks: 3 steps on 2 ranks, then on 3 and on 1 to step 8, against a run on 2
# ranks that never stopped. Losses within 5e-6, no step missing, none twice. Usage: reshard_test.sh PROGRAM
set -uo pipefail
program=$1
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0

cat >"$scratch/deck.ini" <<INI
[run]
seed = 5
[model]
init = $source_dir/tests/golden/qwen3_moe
[data]
format = synthetic
sequence = 32
[train]
global_batch = 7
micro_batch = 2
[optimizer]
lr = 1e-3
clip = 1
[moe]
balance = bias
[checkpoint]
every = 3
keep = 9
INI

train() { # RANKS DIRECTORY STEPS [KEY=VALUE ...]
  local ranks=$1 directory=$2 steps=$3
  shift 3
  if ! mpirun -q --oversubscribe --bind-to none -n "$ranks" "$program" train "$scratch/deck.ini" \
    run.directory="$scratch/$directory" train.steps="$steps" "$@" >"$scratch/out" 2>&1 </dev/null; then
    echo "FAILED to train $directory to step $steps on $ranks ranks:"
    cat "$scratch/out"
    failures=$((failures + 1))
  fi
}

# losses DIRECTORY: "step loss" a line.
losses() { sed -E 's/^\{"step": ([0-9]+), "loss": ([^,]+),.*/\1 \2/' "$scratch/$1/metrics.jsonl"; }

# same_losses DIRECTORY FIRST: its lines are those of `straight` from step FIRST to 8.
same_losses() {
  if ! paste -d ' ' <(losses straight | awk -v first="$2" '$1 >= first') <(losses "$1") |
    awk -v first="$2" '
      { error = $4 / $2 - 1 }
      NF != 4 || $1 != NR + first - 1 || $3 != $1 || error > 5e-6 || error < -5e-6 { print "  " $0; bad = 1 }
      END { exit bad || NR != 9 - first }'; then
    echo "FAILED: $1 is not the run that never stopped"
    failures=$((failures + 1))
  fi
}

train 2 straight 8 grid.expert=2
train 2 moved 3 grid.expert=2
cp -r "$scratch/moved" "$scratch/alone"
train 3 moved 6
train 1 moved 8
train 1 alone 8
train 3 branch 8 grid.replicate=3 checkpoint.resume="$scratch/straight/checkpoints/step-00000003.h5"
train 4 last 8 grid.expert=4 checkpoint.resume="$scratch/straight/checkpoints/step-00000006.h5"
same_losses straight 1
same_losses moved 1
same_losses alone 1
same_losses branch 4
same_losses last 7

[ "$failures" -eq 0 ] && echo "all losses agree"

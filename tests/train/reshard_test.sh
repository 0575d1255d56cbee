#!/usr/bin/env bash
# A checkpoint goes on on any grid. Each grid of `sources` trains 14 steps and saves after step 4. From there the same grid
# goes on to the same bits, and each grid of `targets` to losses within 5e-6: 20 pairs on 1 to 8 ranks, all axes changing,
# odd counts among them. Usage: reshard_test.sh PROGRAM
set -uo pipefail
program=$1
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0 pairs=0

cat >"$scratch/deck.ini" <<INI
[run]
seed = 5
[model]
init = $source_dir/tests/golden/qwen3_moe
[data]
format = synthetic
sequence = 48
[train]
steps = 14
global_batch = 7
micro_batch = 2
[optimizer]
lr = 1e-3
clip = 1
[moe]
balance = bias
[checkpoint]
every = 4
keep = 9
INI

# "RANKS [key=value ...]", and the grids that go on from each.
sources=(
  '2 grid.expert=2'
  '3 grid.pipeline=3'
  '4 grid.context=2 grid.expert=2'
  '5'
  '8 grid.pipeline=2 grid.replicate=2 grid.expert=4'
)
targets=(
  '1|3 grid.replicate=3|4 grid.pipeline=4|8 grid.pipeline=2 grid.context=2 grid.expert=2'
  '1|2 grid.context=2|7|6 grid.pipeline=2 grid.context=3'
  '5 grid.pipeline=5|2 grid.pipeline=2 grid.schedule=interleaved grid.chunks=2|6 grid.replicate=3 grid.expert=2|4 grid.expert=4'
  '1|3 grid.context=3|2 grid.replicate=2 grid.expert=2|8 grid.replicate=2 grid.context=4'
  '1|7 grid.replicate=7|4 grid.pipeline=2 grid.schedule=zero_bubble|6 grid.pipeline=3 grid.expert=2'
)

# train DIRECTORY RANKS [KEY=VALUE ...]
train() {
  local directory=$1 ranks=$2
  shift 2
  mpirun -q --oversubscribe --bind-to none -n "$ranks" "$program" train "$scratch/deck.ini" \
    run.directory="$scratch/$directory" "$@" >"$scratch/out" 2>&1 </dev/null && return
  echo "FAILED to train $directory on $ranks ranks ($*):"
  tail -n 20 "$scratch/out"
  failures=$((failures + 1))
}

losses() { sed -E 's/^\{"step": ([0-9]+), "loss": ([^,]+),.*/\1 \2/' "$scratch/$1/metrics.jsonl"; }
# All that must not change by a bit: everything but times and memory.
bits() {
  sed -E 's/"seconds".*"expert_load"/"expert_load"/; s/, "memory_peak_bytes".*//' "$scratch/$1/metrics.jsonl" | tail -n 10
}

# same_losses SOURCE MOVED: the ten steps behind the checkpoint.
same_losses() {
  paste -d ' ' <(losses "$1" | tail -n 10) <(losses "$2") | awk '
    { error = $4 / $2 - 1 }
    NF != 4 || $1 != NR + 4 || $3 != $1 || error > 5e-6 || error < -5e-6 { print "  " $0; bad = 1 }
    END { exit bad || NR != 10 }' && return
  echo "FAILED: $3 is not the run that never stopped"
  failures=$((failures + 1))
}

for i in "${!sources[@]}"; do
  read -ra grid <<<"${sources[i]}"
  train "source$i" "${grid[@]}"
  from=$scratch/source$i/checkpoints/step-00000004.h5
  train "same$i" "${grid[@]}" checkpoint.resume="$from" checkpoint.every=0
  if ! diff <(bits "source$i") <(bits "same$i"); then
    echo "FAILED: ${sources[i]} goes on to other bits than the run that never stopped"
    failures=$((failures + 1))
  fi
  IFS='|' read -ra others <<<"${targets[i]}"
  for other in "${others[@]}"; do
    read -ra grid <<<"$other"
    rm -rf "$scratch/moved"
    train moved "${grid[@]}" checkpoint.resume="$from" checkpoint.every=0
    same_losses "source$i" moved "'${sources[i]}' to '$other'"
    pairs=$((pairs + 1))
  done
done

# One run directory, from grid to grid: no step is missing, none is twice.
train chain 2 train.steps=4
train chain 3 train.steps=8 checkpoint.every=3
train chain 1
if ! diff <(losses chain | cut -d ' ' -f 1) <(seq 14); then
  echo "FAILED: steps of the chain"
  failures=$((failures + 1))
fi
echo "$pairs pairs, $failures failures"
[ "$failures" -eq 0 ]

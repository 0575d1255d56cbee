#!/usr/bin/env bash
# A checkpoint of the first version of the program (format 1: no hashes, a deck with fewer keys) goes on in its own run
# directory by the same command, on any grid, to the losses that the first version went on to. Usage: first_form_test.sh PROGRAM
set -uo pipefail
. "$(dirname "$0")/../app/common.sh"
first=$source_dir/tests/golden/first_form
program=$(realpath "$program")

# goes_on RANKS KEY=VALUE...: from step 8 to step 12.
goes_on() {
  local ranks=$1
  shift
  checks=$((checks + 1))
  rm -rf "$scratch/begun"
  mkdir -p "$scratch/begun/run/checkpoints"
  cp "$first/config.json" "$first/deck.ini" "$scratch/begun"
  cp "$first/step-00000008.h5" "$scratch/begun/run/checkpoints"
  cd "$scratch/begun" || exit 1
  launch "$ranks" train deck.ini run.directory=run "$@" || fail "it does not go on with $*"
  grep -q '^continuing from .* (step 8)$' "$scratch/out" || fail "not from step 8"
  grep -q 'of format 1, without hashes' "$scratch/out" || fail 'it does not say that nothing was verified'
  join <(figures "$first/metrics.jsonl") <(figures run/metrics.jsonl) | awk '
    { error = $3 / $2 - 1; if ($1 < 9 || error > 5e-6 || error < -5e-6) { print; bad = 1 } }
    END { exit bad || NR != 4 }' >"$scratch/err" || fail 'other losses'
  "$program" verify run/checkpoints/step-00000012.h5 >"$scratch/out" || fail 'the next checkpoint is not whole'
  grep -q 'without hashes' "$scratch/out" && fail 'the next checkpoint has no hashes'
}

# Step and loss, sorted for `join`.
figures() { sed -E 's/^\{"step": ([0-9]+), "loss": ([^,]+),.*/\1 \2/' "$1" | sort; }

goes_on 1
goes_on 2
goes_on 3 grid.pipeline=3
goes_on 4 grid.context=2 grid.expert=4
finish

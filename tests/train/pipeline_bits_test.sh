#!/usr/bin/env bash
# Cutting the layers changes no bit: with shard 2 and expert 2, on 2 ranks, with pipeline 2 on 4 and with pipeline 3 on 6,
# under each schedule, loss and gradient norm are the same text. For the golden weights, for a tied head across the
# first and the last stage, and with multi-token prediction, whose table is shared like that. Usage: pipeline_bits_test.sh PROGRAM
set -uo pipefail
. "$(dirname "$0")/../app/common.sh"

sed -e 's/"tie_word_embeddings": false/"tie_word_embeddings": true/' -e 's/"num_hidden_layers": 3/"num_hidden_layers": 5/' \
  "$golden/config.json" >"$scratch/tied.json"
if [ "$(grep -cE '"tie_word_embeddings": true|"num_hidden_layers": 5' "$scratch/tied.json")" -ne 2 ]; then
  fail "to write a config with a tied head"
fi

# columns NAME: step, loss and grad_norm of each line, as they were written.
columns() { sed -E 's/^\{("step": [0-9]+, "loss": [^,]+),.*("grad_norm": [^,]+),.*/\1 \2/' "$scratch/$1/metrics.jsonl"; }

# train NAME RANKS KEY=VALUE...: four steps of seven sequences in NAME.
train() {
  local name=$1 ranks=$2
  shift 2
  launch "$ranks" train "$scratch/deck.ini" run.directory="$scratch/$name" train.steps=4 train.global_batch=7 \
    grid.expert=2 "$@" || fail "$name does not train"
}

# same_bits NAME RANKS KEY=VALUE...: the figures of `one_stage`.
same_bits() {
  checks=$((checks + 1))
  train "$@"
  diff <(columns one_stage) <(columns "$1") >"$scratch/out" || fail "$1 differs from one stage"
}

# every_cut KEY=VALUE...: of one model and way to reduce.
every_cut() {
  rm -rf "$scratch/one_stage" "$scratch"/stages_*
  train one_stage 2 "$@"
  [ "$(columns one_stage | grep -c '^"step": [0-9]*, "loss": [0-9.]* "grad_norm": [0-9.]*$')" -eq 4 ] || fail "no four steps"
  same_bits stages_2 4 grid.pipeline=2 "$@"
  same_bits stages_2_zero_bubble 4 grid.pipeline=2 grid.schedule=zero_bubble "$@"
  same_bits stages_2_interleaved 4 grid.pipeline=2 grid.schedule=interleaved grid.chunks=2 "$@"
  same_bits stages_3 6 grid.pipeline=3 "$@"
  same_bits stages_3_zero_bubble 6 grid.pipeline=3 grid.schedule=zero_bubble "$@"
}

every_cut
every_cut train.reduce=step train.micro_batch=3
every_cut model.init=random model.config="$scratch/tied.json"
every_cut model.init="$(dirname "$golden")/multi_token_prediction" model.multi_token_prediction=true
finish

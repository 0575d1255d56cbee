#!/usr/bin/env bash
# Hugging Face folders in and out through the program, with and without mpirun. Usage: exchange_test.sh PROGRAM
set -uo pipefail
. "$(dirname "$0")/../app/common.sh"

# runs NAME RANKS ARGUMENT...: exit status 0 and no error.
runs() {
  local name=$1 ranks=$2
  shift 2
  checks=$((checks + 1))
  if ! launch "$ranks" "$@" || grep -q 'error:' "$scratch/err"; then fail "$name"; fi
}

# holds NAME CONDITION...: a condition of `test`.
holds() {
  local name=$1
  shift
  checks=$((checks + 1))
  test "$@" || fail "$name: not [ $* ]"
}

# same NAME FILE FILE
same() {
  checks=$((checks + 1))
  cmp -s "$2" "$3" || fail "$1: $2 and $3 differ"
}

# With files beside the weights.
mkdir "$scratch/folder"
cp "$golden/config.json" "$golden/model.safetensors" "$scratch/folder/"
echo '{"tokens": 256}' >"$scratch/folder/tokenizer.json"
cd "$scratch" || exit 1
runs 'import on 3 ranks' 3 import folder three.h5
runs 'import without mpirun' 0 import folder one.h5
runs 'export without mpirun' 0 export three.h5 back
same 'config.json' folder/config.json back/config.json
same 'tokenizer' folder/tokenizer.json back/tokenizer.json
runs 'export on 3 ranks' 3 export one.h5 again/
same 'any number of ranks writes the same file' back/model.safetensors again/model.safetensors
runs 'import of the export' 2 import back second.h5
runs 'its export' 2 export second.h5 third
same 'the same again' back/model.safetensors third/model.safetensors
runs 'as bf16' 2 export one.h5 half dtype=bf16
holds 'half the size' "$(stat -c %s half/model.safetensors)" -lt "$(($(stat -c %s back/model.safetensors) * 6 / 10))"
holds 'and said' "$(grep -c '"dtype": "bfloat16"' half/config.json)" -eq 1

runs 'train from a folder' 2 train deck.ini model.init=folder
runs 'export what was trained' 2 export run/checkpoints/latest trained
same 'the tokenizer came along' folder/tokenizer.json trained/tokenizer.json
holds 'other weights' "$(cmp -s back/model.safetensors trained/model.safetensors || echo other)" = other
runs 'train from an import' 2 train deck.ini run.directory=run2 model.init=three.h5
runs 'export that' 2 export run2/checkpoints/latest trained2
same 'both ways the same' trained/model.safetensors trained2/model.safetensors
same 'tokenizer both ways' folder/tokenizer.json trained2/tokenizer.json

runs 'train from random weights' 2 train deck.ini run.directory=run3 model.init=random model.config=folder/config.json
runs 'export those' 2 export run3/checkpoints/latest random
holds 'in fp32' "$(stat -c %s random/model.safetensors)" -eq "$(stat -c %s back/model.safetensors)"

runs 'train a slice' 2 train deck.ini run.directory=run4 model.init=folder model.layers=2 model.vocabulary=100 \
  model.experts=4 model.dense_layers=0
runs 'export the slice' 2 export run4/checkpoints/latest slice
holds 'its layers' "$(grep -cE '"(num_hidden_layers": 2|vocab_size": 100|num_local_experts": 4),?$' slice/config.json)" -eq 3
runs 'the slice is a model of its own' 2 train deck.ini run.directory=run5 model.init=slice --check

finish

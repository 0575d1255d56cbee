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

# Multi-token prediction: carried along unless it is asked for, then trained.
mtp=$(dirname "$golden")/multi_token_prediction mtp_on=model.multi_token_prediction=true
# refused NAME TEXT ARGUMENT...: exit status 2 and a message with the text.
refused() {
  local name=$1 text=$2 status=0
  shift 2
  checks=$((checks + 1))
  launch 2 "$@" || status=$?
  if [ "$status" -ne 2 ] || ! grep -q "$text" "$scratch/err"; then fail "$name: status $status"; fi
}
runs 'import it along' 2 import "$mtp" along.h5
runs 'import it as a part' 3 import "$mtp" part.h5 "$mtp_on"
runs 'export what came along' 1 export along.h5 along
runs 'export the part' 2 export part.h5 part
holds 'as many bytes' "$(stat -c %s along/model.safetensors)" -eq "$(stat -c %s part/model.safetensors)"
runs 'train it' 2 train deck.ini run.directory=mtp1 model.init="$mtp" "$mtp_on"
holds 'its loss' "$(grep -c '"prediction_loss": [0-9]' mtp1/metrics.jsonl)" -eq 2
runs 'export what was trained' 2 export mtp1/checkpoints/latest mtp1-out
runs 'train it from the import' 2 train deck.ini run.directory=mtp2 model.init=part.h5 "$mtp_on"
runs 'export that' 2 export mtp2/checkpoints/latest mtp2-out
same 'both ways the same' mtp1-out/model.safetensors mtp2-out/model.safetensors
holds 'with the copies' "$(stat -c %s mtp2-out/model.safetensors)" -eq "$(stat -c %s part/model.safetensors)"
runs 'leave it out' 2 train deck.ini run.directory=mtp3 model.init="$mtp"
holds 'and say so once' "$(grep -c 'multi-token prediction (1 of .*) is left out of training' out)" -eq 1
runs 'check without it' 2 train deck.ini run.directory=mtp5 model.init="$mtp" --check
holds 'which says the same' "$(grep -c 'multi-token prediction (1 of .*) is left out of training' out)" -eq 1
runs 'check with it' 2 train deck.ini run.directory=mtp5 model.init="$mtp" "$mtp_on" --check
holds 'which says nothing of that' "$(grep -c 'left out' out)" -eq 0
holds 'without its loss' "$(grep -c prediction_loss mtp3/metrics.jsonl)" -eq 0
refused 'an import without it' 'has no weights of multi-token prediction' train deck.ini run.directory=mtp4 \
  model.init=along.h5 "$mtp_on"
refused 'to drop it' 'would drop them' train deck.ini run.directory=mtp4 model.init=part.h5
refused 'a slice of its layers' 'model.layers = 1 with' train deck.ini run.directory=mtp4 model.init="$mtp" model.layers=1 \
  "$mtp_on"
refused 'other families' "model_type 'qwen3_moe'" train deck.ini run.directory=mtp4 "$mtp_on"
refused 'other words' 'no option of import' import "$mtp" other.h5 dtype=bf16

finish

#!/usr/bin/env bash
# What a user can get wrong, on 1 and 3 ranks: one line on standard error that says what to do, exit status 2, nothing
# written. Usage: refusals_test.sh PROGRAM
set -uo pipefail
program=$1
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
golden=$source_dir/tests/golden/qwen3_moe
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0 checks=0

cat >"$scratch/deck.ini" <<INI
[run]
directory = $scratch/run
[model]
init = $golden
[data]
format = synthetic
sequence = 64
[train]
steps = 2
global_batch = 4
[optimizer]
lr = 1e-3
INI

launch() { # RANKS ARGUMENT... -> status; output in $scratch/out and $scratch/err
  local ranks=$1
  shift
  mpirun -q --oversubscribe --bind-to none -n "$ranks" "$program" "$@" >"$scratch/out" 2>"$scratch/err" </dev/null
}

# refuses NAME PATTERN ARGUMENT...: exit status 2 and exactly one line of error, matching PATTERN.
refuses() {
  local name=$1 pattern=$2 ranks status lines
  shift 2
  for ranks in 1 3; do
    checks=$((checks + 1))
    launch "$ranks" "$@"
    status=$?
    lines=$(grep -c 'error:' "$scratch/err")
    if [ "$status" -ne 2 ] || [ "$lines" -ne 1 ] || ! grep -qE -- "$pattern" "$scratch/err"; then
      failures=$((failures + 1))
      echo "FAILED $name on $ranks ranks: status $status, $lines lines of error, wanted /$pattern/; said:"
      sed 's/^/  /' "$scratch/err"
    fi
    if [ -e "$scratch/run/metrics.jsonl" ]; then
      failures=$((failures + 1))
      echo "FAILED $name: something was written"
      rm -rf "$scratch/run"
    fi
  done
}

train() { refuses "$1" "$2" train "$scratch/deck.ini" "${@:3}"; }

refuses 'no deck' 'needs a deck' train
refuses 'missing deck' 'nothing.ini cannot be read' train "$scratch/nothing.ini"
train 'unknown key' 'did you mean train.steps' train.stesp=3
train 'unknown key with dashes' 'did you mean train.steps' --train.stesp=3
train 'word without value' 'write key=value' steps
train 'repeated key' 'train.steps is given twice' train.steps=3 train.steps=4
train 'bad integer' 'train.steps = soon is not an integer' train.steps=soon
train 'bad number' 'optimizer.lr = fast is not a number' optimizer.lr=fast
train 'bad choice' 'moe.balance = tight is not one of' moe.balance=tight
train 'not a flag' 'data.shuffle = maybe is not a flag' data.shuffle=maybe
train 'zero batch' 'train.global_batch = 0 is too small' train.global_batch=0
train 'odd sequence' 'does not divide by 2 x grid.context' data.sequence=63
train 'a grid that does not factor' 'grid' grid.replicate=5
train 'an expert axis that does not divide' 'grid.expert = 7' grid.expert=7
train 'not built: pipeline' 'grid.pipeline' grid.pipeline=3 grid.shard=1
train 'not built: recompute' 'train.recompute = block is not built yet' train.recompute=block
train 'bf16 on the CPU' 'needs a GPU' run.device=cpu train.precision=bf16
train 'cuda' 'run.device = cuda' run.device=cuda
train 'missing weights' 'does not exist' model.init=/nowhere/model
train 'empty data' 'tokens.h5' data.format=rows data.path="$scratch/tokens.h5"
train 'no data path' 'data.path is missing' data.format=rows
train 'validation without data' 'data.validate_every' data.validate_every=1

mkdir -p "$scratch/family" "$scratch/truncated" "$scratch/shapes" "$scratch/lost"
sed 's/"qwen3_moe"/"qwen9_moe"/' "$golden/config.json" >"$scratch/family/config.json"
train 'unknown family' 'qwen9_moe' model.init=random model.config="$scratch/family/config.json"
cp "$golden/config.json" "$scratch/truncated/"
head -c 500000 "$golden/model.safetensors" >"$scratch/truncated/model.safetensors"
train 'truncated weights' 'model.safetensors' model.init="$scratch/truncated"
cp "$golden/config.json" "$scratch/lost/"
train 'folder without weights' 'safetensors' model.init="$scratch/lost"
sed 's/"hidden_size": 64/"hidden_size": 128/' "$golden/config.json" >"$scratch/shapes/config.json"
cp "$golden/model.safetensors" "$scratch/shapes/"
train 'wrong shapes' 'shape' model.init="$scratch/shapes"
head -c 5000 /dev/urandom >"$scratch/bytes.txt"
train 'ids beyond the vocabulary' 'vocabulary' data.format=text data.path="$scratch/bytes.txt" model.vocabulary=100
: >"$scratch/empty.txt"
train 'empty text' 'empty.txt' data.format=text data.path="$scratch/empty.txt"
echo plain >"$scratch/file"
train 'a directory that cannot be made' 'run.directory' run.directory="$scratch/file/run"
refuses 'unknown command' 'did you mean train' trian
refuses 'not built: export' 'not built yet' export a b
refuses 'inspect of nothing' 'nothing.h5' inspect "$scratch/nothing.h5"

echo "$((checks - failures)) passed, $failures failed"
[ "$failures" -eq 0 ]

#!/usr/bin/env bash
# What a user can get wrong, on 1 and 3 ranks: one line on standard error that says what to do, exit status 2, nothing
# written. Usage: refusals_test.sh PROGRAM
set -uo pipefail
. "$(dirname "$0")/common.sh"

# refuses NAME PATTERN ARGUMENT...: exit status 2 and exactly one line of error, matching PATTERN.
refuses() {
  local name=$1 pattern=$2 ranks status lines
  shift 2
  for ranks in 1 3; do
    checks=$((checks + 1))
    launch "$ranks" "$@"
    status=$?
    lines=$(wc -l <"$scratch/err")
    if [ "$status" -ne 2 ] || [ "$lines" -ne 1 ] || ! grep -qE -- "^error: .*$pattern" "$scratch/err"; then
      fail "$name on $ranks ranks: status $status, $lines lines of error, wanted /$pattern/"
    elif [ -e "$scratch/run" ]; then
      fail "$name on $ranks ranks: something was written"
    fi
    rm -rf "$scratch/run"
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
train 'more stages than blocks' 'stages' grid.pipeline=1 grid.schedule=interleaved grid.chunks=9
train 'chunks without a schedule for them' 'grid.chunks = 2 needs grid.schedule = interleaved' grid.chunks=2
train 'a layout of the wrong length' 'layout' grid.layout=3,1
train 'unknown recompute' 'train.recompute = all is not one of: none | block | selective' train.recompute=all
train 'no steps to profile' 'train.profile_steps = 6:4 names no steps' train.profile_steps=6:4
train 'steps to profile after the last' 'begins at step 900' train.profile_steps=900:901
train 'a receive bound below the mean load' 'moe.receive_bound = 0.5 is out of range' moe.receive_bound=0.5
train 'bf16 on the CPU' 'needs a GPU' run.device=cpu train.precision=bf16
train 'cuda' 'run.device = cuda' run.device=cuda
train 'missing weights' 'does not exist' model.init=/nowhere/model
train 'empty data' 'tokens.h5' data.format=rows data.path="$scratch/tokens.h5"
train 'no data path' 'data.path is missing' data.format=rows
train 'validation without data' 'data.validate_every' data.validate_every=1
train 'validation taken back' 'data.validate_every' data.validate_every=1 data.validation=
train 'empty required key' 'train.steps is missing' train.steps=
train 'key without its section' 'did you mean train.steps' steps=3

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
train 'a number sign' 'holds a #' run.name=a#b
refuses 'help on nothing' 'there is no section' --help optimiser
refuses 'unknown command' 'did you mean train' trian
refuses 'export of nothing' 'nothing.h5: no such file' export "$scratch/nothing.h5" "$scratch/folder"
refuses 'inspect of nothing' 'nothing.h5' inspect "$scratch/nothing.h5"


# Checkpoints that cannot be read, found before the run begins.
launch 1 train "$scratch/deck.ini" run.directory="$scratch/other" || fail 'making a checkpoint'
saved=$scratch/other/checkpoints/step-00000002.h5
head -c 20000 "$saved" >"$scratch/short.h5"
echo text >"$scratch/text.h5"
train 'missing checkpoint to resume' 'nowhere.h5: no such file' checkpoint.resume="$scratch/nowhere.h5"
train 'truncated checkpoint to resume' 'short.h5: ' checkpoint.resume="$scratch/short.h5"
train 'text to resume' 'text.h5: not an HDF5 file' checkpoint.resume="$scratch/text.h5"
train 'another model to resume' 'has shape' checkpoint.resume="$saved" model.vocabulary=128
train 'another balancing as weights' 'holds no ' model.init="$saved" model.config="$golden/config.json" moe.balance=bias
train 'other moments to resume' 'set optimizer.moments' checkpoint.resume="$saved" optimizer.moments=bf16
train 'truncated checkpoint as weights' 'short.h5: ' model.init="$scratch/short.h5"
train 'text as weights' 'text.h5: not an HDF5 file' model.init="$scratch/text.h5"
train 'never in a folder with checkpoints' 'holds checkpoints' run.directory="$scratch/other" checkpoint.resume=never
refuses 'evaluate without end' 'set data.validation' evaluate "$scratch/deck.ini"
refuses 'evaluate a missing checkpoint' 'no such file' evaluate "$scratch/deck.ini" data.validation=1 \
  checkpoint.resume="$scratch/nowhere.h5"
refuses 'inspect of text' 'not an HDF5 file' inspect "$scratch/text.h5"

finish

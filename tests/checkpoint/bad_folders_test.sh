#!/usr/bin/env bash
# Hugging Face folders that are damaged or of another model: import and train refuse each in one line, with exit status 2, and
# write nothing. Usage: bad_folders_test.sh PROGRAM
set -uo pipefail
. "$(dirname "$0")/../app/common.sh"
export LC_ALL=C

# refused NAME RANKS PATTERN ARGUMENT...
refused() {
  local name=$1 ranks=$2 pattern=$3 status lines
  shift 3
  checks=$((checks + 1))
  launch "$ranks" "$@"
  status=$?
  lines=$(wc -l <"$scratch/err")
  if [ "$status" -ne 2 ] || [ "$lines" -ne 1 ] || ! grep -qE -- "^error: .*$pattern" "$scratch/err"; then
    fail "$name on $ranks ranks: status $status, $lines lines of error, wanted /$pattern/"
  elif [ -e "$scratch/run" ] || [ -e "$scratch/x.h5" ] || [ -e "$scratch/x.h5.partial" ]; then
    fail "$name on $ranks ranks: something was written"
    rm -rf "$scratch/run" "$scratch"/x.h5*
  fi
}

# bad NAME PATTERN: the folder $bad.
bad() {
  refused "import: $1" 3 "$2" import "$bad" "$scratch/x.h5"
  refused "train: $1" 1 "$2" train "$scratch/deck.ini" model.init="$bad"
}

# fresh: $bad is a folder with the config alone. whole: the weights, too.
fresh() {
  bad=$scratch/bad
  rm -rf "$bad"
  mkdir "$bad"
  cp "$golden/config.json" "$bad/"
}
whole() {
  fresh
  cp "$golden/model.safetensors" "$bad/"
}

# safetensors FILE HEADER BYTES: a file by hand.
safetensors() {
  local length=${#2} bytes=''
  for _ in 1 2 3 4 5 6 7 8; do
    bytes+=$(printf '\\x%02x' $((length & 255)))
    length=$((length >> 8))
  done
  { printf '%b' "$bytes" && printf '%s' "$2" && head -c "$3" /dev/zero; } >"$1"
}

fresh
bad 'no weights' 'neither model.safetensors nor model.safetensors.index.json'
rm "$bad/config.json"
bad 'no config' 'config.json'
whole
head -c 300 "$golden/config.json" >"$bad/config.json"
bad 'config that is no JSON' 'config.json: not valid JSON'
printf '\0 and more' | cat "$golden/config.json" - >"$bad/config.json"
bad 'config with bytes behind a NUL' 'config.json: not valid JSON .a NUL byte'
echo '[1]' >"$bad/config.json"
bad 'config that is no object' 'config.json: the JSON is not an object'

fresh
cp "$golden/model.safetensors" "$bad/model-1.safetensors"
echo '{"weight_map": {"model.norm.weight": "model-1.safetensors", "lm_head.weight": "model-2.safetensors"}}' >"$bad/model.safetensors.index.json"
bad 'missing shard' 'names model-2.safetensors, which is not there'
echo '{"weight_map": {"model.no.weight": "model-1.safetensors"}}' >"$bad/model.safetensors.index.json"
bad 'index with an absent tensor' "says that 'model.no.weight' is in model-1.safetensors, but it is not"
echo '{"weight_map": {"model.norm.weight": "../model-1.safetensors"}}' >"$bad/model.safetensors.index.json"
bad 'index that leaves the folder' 'is no plain file name'
echo '{"weight_map": {' >"$bad/model.safetensors.index.json"
bad 'index that is no JSON' 'index.json: not valid JSON'
echo '{}' >"$bad/model.safetensors.index.json"
bad 'index without a map' 'no object weight_map'

whole
sed -i '1s/"dtype":"F32"/"dtype":"I32"/' "$bad/model.safetensors"
bad 'wrong dtype' 'is stored as I32'
whole
sed -i '1s/"shape":\[256,64\]/"shape":[64,256]/g' "$bad/model.safetensors"
bad 'wrong shape' 'has shape \[64, 256\] where the model of this deck has \[256, 64\]'
whole
sed -i '1s/model\.norm\.weight/model.norm.wright/' "$bad/model.safetensors"
bad 'missing tensor' 'has no tensor model.norm.weight'
whole
head -c 500000 "$golden/model.safetensors" >"$bad/model.safetensors"
bad 'truncated file' 'truncated'
head -c 5 "$golden/model.safetensors" >"$bad/model.safetensors"
bad 'truncated length' '5 bytes hold no header length'
: >"$bad/model.safetensors"
bad 'empty file' '0 bytes hold no header length'
cp "$golden/model.safetensors" "$bad/model.safetensors"
printf '\xff\xff\xff\xff\xff\xff\xff\x7f' | dd of="$bad/model.safetensors" conv=notrunc status=none
bad 'header length beyond the file' 'the header length 9223372036854775807 exceeds'
tensor='"dtype":"U8","shape":[4],"data_offsets"'
safetensors "$bad/model.safetensors" "{\"a\":{$tensor:[0,4]},\"b\":{$tensor:[2,6]}}" 6
bad 'overlapping offsets' "tensor 'b' begins at byte 2 of the data, overlapping"
safetensors "$bad/model.safetensors" "{\"a\":{$tensor:[0,4]},\"b\":{$tensor:[6,10]}}" 10
bad 'a hole' 'behind a hole'
safetensors "$bad/model.safetensors" "{\"a\":{$tensor:[0,4]}" 4
bad 'header that is no JSON' 'the header is not valid JSON'
safetensors "$bad/model.safetensors" '{"a":{"dtype":"Q7","shape":[4],"data_offsets":[0,4]}}' 4
bad 'unknown dtype' "unknown dtype 'Q7'"

refused 'import without a file' 0 'moesaic import HF_DIR CHECKPOINT.h5' import "$golden"
refused 'import of nothing' 0 'config.json' import "$scratch/nothing" "$scratch/x.h5"
refused 'export of nothing' 3 'nothing.h5: no such file' export "$scratch/nothing.h5" "$scratch/x"
refused 'export as integers' 0 'dtype=int8 is no option of export' export "$scratch/nothing.h5" "$scratch/x" dtype=int8

finish

#!/usr/bin/env bash
# A model of every family is imported, trained and exported; Transformers loads the folder and computes the logits that the
# checkpoint's model computes here, within 1e-5. Usage: transformers_test.sh PROGRAM
# Needs a Python with torch, transformers and safetensors, about a gigabyte; PYTHON names it, else build/python is looked at:
#     python3 -m venv build/python && build/python/bin/pip install torch transformers safetensors
set -uo pipefail
. "$(dirname "$0")/../app/common.sh"
logits=$(dirname "$program")/tests/checkpoint_logits
python=${PYTHON:-$source_dir/build/python/bin/python}
command -v "$python" >/dev/null || python=python3
if ! "$python" -c 'import torch, transformers, safetensors' 2>"$scratch/err"; then
  echo "skipped: $python has no torch, transformers and safetensors ($(tail -1 "$scratch/err")); name one in PYTHON"
  exit 77
fi

cat >"$scratch/compare.py" <<'PY'
import sys, torch, safetensors.torch, transformers
folder, reference, ours = sys.argv[1:]
torch.set_num_threads(1)
model, info = transformers.AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager", output_loading_info=True)
depth = f"model.layers.{model.config.num_hidden_layers}."  # multi-token prediction, which Transformers leaves alone
unexpected = [key for key in info["unexpected_keys"] if not key.startswith(depth)]
assert not (info["missing_keys"] or info["mismatched_keys"] or unexpected), info
original = safetensors.torch.load_file(reference)
ours = safetensors.torch.load_file(ours)["logits"].double()
with torch.no_grad():
    theirs = model.double().eval()(original["input_ids"]).logits
apart = ((ours - theirs).norm() / theirs.norm()).item()
moved = ((theirs - original["logits"]).norm() / theirs.norm()).item()
print(f"{folder.split('/')[-1]}: logits {apart:.1e} apart, {moved:.1e} from those before training")
assert apart < 1e-5 and moved > 1e-3
PY

# expect NAME COMMAND...: that it succeeds.
expect() {
  local name=$1
  shift
  checks=$((checks + 1))
  "$@" >"$scratch/out" 2>"$scratch/err" && return
  fail "$name"
  return 1
}

for folder in "$source_dir"/tests/golden/*/; do
  [ -f "$folder/grads/model.safetensors" ] || continue
  family=$(basename "$folder") more=()
  [ "$family" = glm4_moe ] && continue # no family of the program: tests/models/next_family_test.cpp
  [ "$family" = multi_token_prediction ] && more=(model.multi_token_prediction=true)
  expect "import $family" launch 1 import "$folder" "$scratch/$family.h5" "${more[@]}" &&
    expect "train $family" launch 2 train "$scratch/deck.ini" run.directory="$scratch/run-$family" grid.expert=2 \
      model.init="$scratch/$family.h5" train.steps=3 "${more[@]}" &&
    expect "export $family" launch 2 export "$scratch/run-$family/checkpoints/latest" "$scratch/$family" &&
    expect "our logits of $family" "$logits" "$scratch/run-$family/checkpoints/latest" "$folder/reference.safetensors" \
      "$scratch/$family.logits" &&
    expect "Transformers on $family" "$python" "$scratch/compare.py" "$scratch/$family" "$folder/reference.safetensors" \
      "$scratch/$family.logits" && cat "$scratch/out"
done

finish

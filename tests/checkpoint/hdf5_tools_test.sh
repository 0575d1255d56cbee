#!/usr/bin/env bash
# What other programs see of a checkpoint: h5dump and h5py read it, names and shapes are those of the model, arrays are
# contiguous, allocated early and without fill values, those of 8 MiB and more begin at whole MiB. Usage: hdf5_tools_test.sh PROGRAM
set -uo pipefail
. "$(dirname "$0")/../app/common.sh"

# holds NAME COMMAND...
holds() {
  checks=$((checks + 1))
  "${@:2}" >"$scratch/out" 2>"$scratch/err" || fail "$1"
}

sed 's/"vocab_size": 256/"vocab_size": 40000/' "$golden/config.json" >"$scratch/config.json"
checks=$((checks + 1))
launch 3 train "$scratch/deck.ini" model.init=random model.config="$scratch/config.json" optimizer.moments=bf16 moe.balance=bias ||
  fail 'making a checkpoint'
file=$scratch/run/checkpoints/step-00000002.h5

# says PATTERN H5DUMP_ARGUMENT...
says() { h5dump "${@:2}" "$file" | tr -s ' \n' ' ' | grep -qE -- "$1"; }
holds 'h5dump reads its structure' h5dump -H "$file"
holds 'and values' says '\(0\): ' -d /router/selection_bias/1
embedding=(-H -p -d /parameters/embedding/weight)
holds 'the shape' says 'H5T_IEEE_F32LE .*SIMPLE \{ \( 40000, 64 \)' "${embedding[@]}"
holds 'contiguous' says 'STORAGE_LAYOUT \{ CONTIGUOUS SIZE 10240000 ' "${embedding[@]}"
holds 'no fill, early allocation' says 'FILL_TIME H5D_FILL_TIME_NEVER.*ALLOCATION_TIME \{ H5D_ALLOC_TIME_EARLY' "${embedding[@]}"
holds 'the step' says '\(0\): 2 ' -a /step
offset=$(h5dump "${embedding[@]}" "$file" | sed -nE 's/.*OFFSET ([0-9]+).*/\1/p')
holds 'aligned' test "$((${offset:-1} % 1048576))" -eq 0

cat >"$scratch/read.py" <<'PY'
import h5py, numpy, sys
with h5py.File(sys.argv[1], "r") as file:
    assert file.attrs["step"] == 2 and file.attrs["samples"] == 8 and file.attrs["tokens"] == 512, dict(file.attrs)
    parameters, moments = file["parameters"], file["optimizer/first_moment"]
    names = []
    parameters.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    assert len(names) > 20
    for name in names:
        assert moments[name].shape == parameters[name].shape == file["optimizer/second_moment"][name].shape, name
        assert numpy.isfinite(parameters[name][...]).all(), name
    assert b"global_batch = 4" in file["deck"][...].tobytes() and b"qwen3_moe" in file["config"][...].tobytes()
    assert len(file["router/selection_bias"]) == 3
PY
python=${PYTHON:-/usr/bin/python3}
if "$python" -c 'import h5py' 2>"$scratch/err"; then
  holds 'h5py reads it' "$python" "$scratch/read.py" "$file"
else
  echo "without h5py: $(tail -n 1 "$scratch/err")"
fi
finish

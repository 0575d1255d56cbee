# shellcheck shell=bash
# Shared by the scripts that run the program, whose path is their argument: a deck in a folder of its own, and `launch`.
program=$1
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
golden=$source_dir/tests/golden/qwen3_moe
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0 checks=0
# mpirun of Open MPI waits for this many seconds, and twice, before it ends when a process returned a status other than 0.
export OMPI_MCA_odls_base_sigkill_timeout=0

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

# launch RANKS ARGUMENT...: the program's exit status; its output in $scratch/out and $scratch/err. RANKS 0: without mpirun.
launch() {
  local ranks=$1 status
  shift
  if [ "$ranks" -eq 0 ]; then
    "$program" "$@" >"$scratch/out" 2>"$scratch/err" </dev/null
  else
    mpirun -q --oversubscribe --bind-to none -n "$ranks" "$program" "$@" >"$scratch/out" 2>"$scratch/err" </dev/null
    status=$?
    # At times mpirun's own libevent remarks that a rank's pipe is closed already.
    sed -i '/^\[warn\] Epoll /d' "$scratch/err"
    return "$status"
  fi
}

# fail MESSAGE: counts a failure and shows what the program said.
fail() {
  failures=$((failures + 1))
  echo "FAILED $1; said:"
  sed 's/^/  /' "$scratch/out" "$scratch/err" | tail -20
}

finish() {
  echo "$((checks - failures)) passed, $failures failed"
  [ "$failures" -eq 0 ]
}

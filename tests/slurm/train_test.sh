#!/usr/bin/env bash
# slurm/train.sbatch on two nodes: a signal to the batch shell ends the run behind a checkpoint, the job goes back into
# the queue by itself and trains to the end, under mpirun and, where Slurm has PMIx, under srun. A cancelled job does not
# come back. Usage: train_test.sh PROGRAM
set -uo pipefail
program=$(realpath "$1")
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
. "$source_dir/tests/slurm/lab.sh"
missing=$(lab_missing)
if [ -n "$missing" ]; then
  echo "skipped: $missing"
  exit 77
fi

scratch=$(mktemp -d)
trap 'lab_down; rm -rf "$scratch"' EXIT
chmod 755 "$scratch"   # munged, which is not root, keeps its socket below
cd "$source_dir" || exit 1
steps=400
failures=0

cat >"$scratch/deck.ini" <<INI
[run]
device = cpu
[model]
init = $source_dir/tests/golden/qwen3_moe
[data]
format = synthetic
sequence = 64
[train]
global_batch = 4
[optimizer]
lr = 1e-3
INI

fail() {
  failures=$((failures + 1))
  echo "FAILED $name: $*"
  grep -v '^step ' "$scratch/$name.out" | tail -n 40
}

# submit NAME LAUNCHER STEPS: prints the job's number.
submit() {
  LAUNCH=$2 MOESAIC=$program sbatch --parsable --nodes=2 --ntasks-per-node=2 --time=60 --output="$scratch/$1.out" \
    slurm/train.sbatch "$scratch/deck.ini" run.directory="$scratch/$1" train.steps="$3"
}

# until_true SECONDS COMMAND...: polls.
until_true() {
  local tries
  for ((tries = $1 * 5; tries > 0; --tries)); do
    "${@:2}" && return 0
    sleep 0.2
  done
  return 1
}

lines() { wc -l 2>/dev/null <"$scratch/$1/metrics.jsonl" || echo 0; }
has_steps() { [ "$(lines "$1")" -ge 3 ]; }
job_field() { scontrol show job "$1" | tr ' ' '\n' | sed -n "s/^$2=//p"; }
ended() { [[ $(job_field "$1" JobState) =~ ^(COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL)$ ]]; }

# signal_when_training NAME JOB SCANCEL_OPTION...
signal_when_training() {
  local name=$1
  until_true 60 has_steps "$name" || fail "no third step"
  scancel "${@:3}" "$2"
}

# came_back NAME JOB: the job stopped behind a checkpoint, was queued again, and all steps are there, once.
came_back() {
  local name=$1 step
  until_true 120 ended "$2" || fail "it did not end"
  step=$(sed -nE 's/.*"event":"signal","step":([0-9]+).*/\1/p' "$scratch/$name/events.jsonl")
  [ "${step:-$steps}" -lt "$steps" ] || fail "stopped at step '$step' of $steps"
  [ -s "$scratch/$name/checkpoints/$(printf 'step-%08d.h5' "${step:-0}")" ] || fail "no checkpoint of step $step"
  [ "$(job_field "$2" JobState) $(job_field "$2" ExitCode) $(job_field "$2" Restarts)" = 'COMPLETED 0:0 1' ] ||
    fail "not completed after one restart: $(scontrol show job "$2")"
  grep -q "continuing from .* (step $step)" "$scratch/$name.out" || fail "it did not go on from step $step"
  [ "$(cat "$scratch/$name/status")" = "complete $steps" ] || fail "status file: $(cat "$scratch/$name/status")"
  sed -E 's/^\{"step": ([0-9]+),.*/\1/' "$scratch/$name/metrics.jsonl" | diff -q - <(seq "$steps") >/dev/null ||
    fail "the steps of metrics.jsonl are not 1 to $steps"
}

# stays_cancelled NAME JOB
stays_cancelled() {
  local name=$1
  until_true 30 ended "$2" || fail "it did not end"
  [ "$(job_field "$2" JobState) $(job_field "$2" Restarts)" = 'CANCELLED 0' ] ||
    fail "not cancelled: $(scontrol show job "$2")"
}

name=lab
lab_up "$scratch/lab" >"$scratch/lab.out" 2>&1 || { fail "Slurm did not start"; exit 1; }
launchers=(mpirun)
if srun --mpi=list 2>&1 | grep -q pmix; then launchers+=(srun); fi

# Both wait in the queue at the same time.
declare -A job
for launcher in "${launchers[@]}"; do
  job[$launcher]=$(submit "$launcher" "$launcher" "$steps")
  signal_when_training "$launcher" "${job[$launcher]}" --signal=USR1 --batch
done
job[cancelled]=$(submit cancelled "${launchers[-1]}" 1000000)
signal_when_training cancelled "${job[cancelled]}"
for launcher in "${launchers[@]}"; do
  came_back "$launcher" "${job[$launcher]}"
done
stays_cancelled cancelled "${job[cancelled]}"
[ "$failures" -eq 0 ] && echo "stopped, queued again and completed under ${launchers[*]}"

# shellcheck shell=bash
# Sourced by the scenarios with the path of the program: what they share. Starts the Slurm of lab.sh, or skips the scenario
# where there can be none, and goes to the root of the repository. Jobs are two ranks on two nodes, on the deck
# $scratch/deck.ini, whose train.steps a scenario may still change while the run is stopped.
#     scratch    a folder of this scenario; a run NAME is in $scratch/NAME and prints to $scratch/NAME.out
set -uo pipefail
program=$(realpath "$1")
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/slurm/lab.sh
source "$source_dir/tests/slurm/lab.sh"
missing=$(lab_missing)
if [ -n "$missing" ]; then
  echo "skipped: $missing"
  exit 77
fi

scratch=$(mktemp -d)
failures=0 reference=
# shellcheck disable=SC2317  # called by the trap
leave() {
  [ -n "$reference" ] && kill -TERM "$reference" 2>/dev/null && wait "$reference"
  lab_down
  rm -rf "$scratch"
}
trap leave EXIT
chmod 755 "$scratch"   # munged, which is not root, keeps its socket below
cd "$source_dir" || exit 1

cat >"$scratch/deck.ini" <<INI
[run]
device = cpu
[model]
init = $source_dir/tests/golden/qwen3_moe
[data]
format = synthetic
sequence = 64
[optimizer]
lr = 1e-3
[train]
global_batch = 4
steps = 1000000
INI

# train_until STEPS: what the next start of a run will read.
train_until() { sed -i "s/^steps = .*/steps = $1/" "$scratch/deck.ini"; }

# fail NAME WORDS...: with the end of what the run NAME printed.
fail() {
  failures=$((failures + 1))
  echo "FAILED $1: ${*:2}"
  grep -v '^step ' "$scratch/$1.out" | tail -n 40
}

# submit NAME SBATCH_OPTION... TEMPLATE ARGUMENT...: prints the job's number.
submit() {
  MOESAIC=${MOESAIC:-$program} sbatch --parsable --nodes=2 --ntasks-per-node=1 --time=60 --output="$scratch/$1.out" \
    "${@:2}"
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

# job_field JOB FIELD: as scontrol shows it.
job_field() { scontrol show job "$1" 2>/dev/null | tr ' ' '\n' | sed -n "s/^$2=//p"; }
# job_result JOB: state, exit status and restarts.
job_result() { echo "$(job_field "$1" JobState) $(job_field "$1" ExitCode) $(job_field "$1" Restarts)"; }
ended() { [[ $(job_field "$1" JobState) =~ ^(COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL)$ ]]; }

# steps_of NAME: how many its metrics hold.
steps_of() { wc -l 2>/dev/null <"$scratch/$1/metrics.jsonl" || echo 0; }
has_steps() { [ "$(steps_of "$1")" -ge "$2" ]; }
# stopped_at NAME [EVENT]: the steps at which signals (or EVENT) ended the run.
stopped_at() { sed -nE 's/.*"event":"'"${2:-signal}"'","step":([0-9]+).*/\1/p' "$scratch/$1/events.jsonl" 2>/dev/null; }

# signal_when_training NAME STEP JOB SCANCEL_OPTION...: once step STEP is done.
signal_when_training() {
  until_true 60 has_steps "$1" "$2" || fail "$1" "no step $2"
  scancel "${@:4}" "$3"
}

# went_on_from NAME STEP: a restart began with the checkpoint of STEP.
went_on_from() {
  grep -q "continuing from .* (step $2)" "$scratch/$1.out" || fail "$1" "it did not go on from step '$2'"
}

# completed NAME STEPS: the run is complete, and every step is there once.
completed() {
  [ "$(cat "$scratch/$1/status" 2>/dev/null)" = "complete $2" ] || fail "$1" "not complete at step $2"
  sed -E 's/^\{"step": ([0-9]+),.*/\1/' "$scratch/$1/metrics.jsonl" | diff -q - <(seq "$2") >/dev/null ||
    fail "$1" "the steps of metrics.jsonl are not 1 to $2"
}

# begin_reference: a run of the same deck and grid that is never stopped, beside Slurm.
begin_reference() {
  mpirun -q --oversubscribe --bind-to none -n 2 "$program" train "$scratch/deck.ini" run.directory="$scratch/reference" \
    >"$scratch/reference.out" 2>&1 </dev/null &
  reference=$!
}

# curve NAME STEPS: step, loss and gradient norm.
curve() {
  head -n "$2" "$scratch/$1/metrics.jsonl" |
    sed -E 's/^\{"step": ([0-9]+), "loss": ([^,]+),.*"grad_norm": ([^,]+),.*/\1 \2 \3/'
}

# same_bits NAME STEPS: loss and gradient norm are those of the reference, bit for bit: metrics round-trip.
same_bits() {
  until_true 120 has_steps reference "$2" || fail reference "no step $2"
  diff <(curve reference "$2") <(curve "$1" "$2") >"$scratch/$1.diff" ||
    fail "$1" "other bits than the run that was never stopped: $(head -n 5 "$scratch/$1.diff")"
}

if ! lab_up "$scratch/lab" >"$scratch/lab.out" 2>&1; then
  fail lab "Slurm did not start"
  exit 1
fi

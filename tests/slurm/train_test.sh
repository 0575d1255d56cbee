#!/usr/bin/env bash
# slurm/train.sbatch on two nodes: a signal to the batch shell ends the run behind a checkpoint, the job goes back into
# the queue by itself and trains to the end, under mpirun and, where Slurm has PMIx, under srun. A cancelled job does not
# come back. Usage: train_test.sh PROGRAM
source "$(dirname "$0")/scenario.sh" "$1"
steps=400

# train NAME LAUNCHER STEPS: prints the job's number.
train() {
  LAUNCH=$2 submit "$1" --ntasks-per-node=2 slurm/train.sbatch "$scratch/deck.ini" run.directory="$scratch/$1" \
    train.steps="$3"
}

# came_back NAME JOB: the job stopped behind a checkpoint, was queued again, and all steps are there, once.
came_back() {
  local step
  until_true 120 ended "$2" || fail "$1" "it did not end"
  step=$(stopped_at "$1")
  [ "${step:-$steps}" -lt "$steps" ] || fail "$1" "stopped at step '$step' of $steps"
  [ -s "$scratch/$1/checkpoints/$(printf 'step-%08d.h5' "${step:-0}")" ] || fail "$1" "no checkpoint of step $step"
  [ "$(job_result "$2")" = 'COMPLETED 0:0 1' ] || fail "$1" "not completed after one restart: $(scontrol show job "$2")"
  went_on_from "$1" "$step"
  completed "$1" "$steps"
}

launchers=(mpirun)
if srun --mpi=list 2>&1 | grep -q pmix; then launchers+=(srun); fi

# All wait in the queue at the same time.
declare -A job
for launcher in "${launchers[@]}"; do
  job[$launcher]=$(train "$launcher" "$launcher" "$steps")
  signal_when_training "$launcher" 3 "${job[$launcher]}" --signal=USR1 --batch
done
job[cancelled]=$(train cancelled "${launchers[-1]}" 1000000)
signal_when_training cancelled 3 "${job[cancelled]}"
for launcher in "${launchers[@]}"; do
  came_back "$launcher" "${job[$launcher]}"
done
until_true 30 ended "${job[cancelled]}" || fail cancelled "it did not end"
[ "$(job_field "${job[cancelled]}" JobState) $(job_field "${job[cancelled]}" Restarts)" = 'CANCELLED 0' ] ||
  fail cancelled "$(scontrol show job "${job[cancelled]}")"
[ "$failures" -eq 0 ] && echo "stopped, queued again and completed under ${launchers[*]}"

#!/usr/bin/env bash
# The signal before the time limit ends a run behind a checkpoint, the job goes back into the queue by itself, and loss and
# gradient norm of all steps are those of a run that was never stopped, bit for bit. A run that gets no signal sees the end
# of its allocation come and does the same. Usage: time_limit_test.sh PROGRAM
source "$(dirname "$0")/scenario.sh" "$1"

# Slurm looks every 30 s for limits that come near.
job=$(submit run --time=2 --signal=B:USR1@100 slurm/train.sbatch "$scratch/deck.ini" run.directory="$scratch/run")
# SIGCONT tells a running shell nothing.
end=$(submit end --time=1 --signal=B:CONT@1 slurm/train.sbatch "$scratch/deck.ini" run.directory="$scratch/end")
begin_reference
was_signalled() { [ -n "$(stopped_at run)" ]; }
until_true 90 was_signalled || fail run "no signal before the time limit"
step=$(stopped_at run | head -n 1)
steps=$((step + 50))
train_until "$steps"
until_true 120 ended "$job" || fail run "it did not end"

[[ $(job_result "$job") =~ ^COMPLETED\ 0:0\ [1-9] ]] || fail run "not completed after a restart: $(scontrol show job "$job")"
went_on_from run "$step"
completed run "$steps"
same_bits run "$steps"

was_queued_again() { [ "$(job_field "$end" Restarts)" = 1 ]; }
until_true 90 was_queued_again || fail end "not queued again: $(scontrol show job "$end")"
[ -n "$(stopped_at end end_of_allocation)" ] || fail end "not stopped by the end of its allocation"
[ "$failures" -eq 0 ] && echo "signalled at step $step, completed at $steps with the bits of a run that was never stopped"

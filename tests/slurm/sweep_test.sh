#!/usr/bin/env bash
# slurm/sweep.sbatch: a run for each line of overrides; one that is stopped goes back into the queue alone.
# Usage: sweep_test.sh PROGRAM
source "$(dirname "$0")/scenario.sh" "$1"

# The first is still at work when the second stops.
steps=(0 1500 300)
printf '%s\n' "optimizer.lr=1e-3 train.steps=${steps[1]}" "optimizer.lr=2e-3 train.steps=${steps[2]}" >"$scratch/overrides"
sed -i '/^steps = /d' "$scratch/deck.ini"
job=$(submit sweep-%a --array=1-2 slurm/sweep.sbatch "$scratch/deck.ini" "$scratch/overrides" \
  run.directory="$scratch" train.micro_batch=2)
# The number of this task is that of the whole array.
signal_when_training sweep-2 3 "${job}_2" --signal=USR1 --batch
for task in 1 2; do
  until_true 120 ended "${job}_$task" || fail "sweep-$task" "it did not end"
  [ "$(job_result "${job}_$task")" = "COMPLETED 0:0 $((task - 1))" ] ||
    fail "sweep-$task" "$(scontrol show job "${job}_$task")"
  completed "sweep-$task" "${steps[$task]}"
  grep -q "\"lr\": 0.00$task," "$scratch/sweep-$task/metrics.jsonl" || fail "sweep-$task" "not the rate of line $task"
done
went_on_from sweep-2 "$(stopped_at sweep-2)"
[ "$failures" -eq 0 ] && echo "two runs, the second stopped once"

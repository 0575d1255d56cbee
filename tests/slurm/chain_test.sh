#!/usr/bin/env bash
# slurm/chain.sbatch: the first two links are stopped, the third completes the run and cancels those that are left; loss and
# gradient norm are those of a run that was never stopped, bit for bit. Usage: chain_test.sh PROGRAM
source "$(dirname "$0")/scenario.sh" "$1"

steps=600
train_until "$steps"
job=$(submit run --array=1-5%1 slurm/chain.sbatch "$scratch/deck.ini" run.directory="$scratch/run")
begin_reference
signal_when_training run 3 "${job}_1" --signal=USR1 --batch
until_true 60 ended "${job}_1" || fail run "link 1 did not end"
first=$(stopped_at run)
signal_when_training run "$((first + 3))" "${job}_2" --signal=USR1 --batch
until_true 120 ended "${job}_3" || fail run "link 3 did not end"
second=$(stopped_at run | tail -n 1)

went_on_from run "$first"
went_on_from run "$second"
[ "${first:-0}" -lt "${second:-0}" ] || fail run "stopped at '$first', then at '$second'"
for link in 1 2; do
  [ "$(job_result "${job}_$link")" = 'FAILED 75:0 0' ] || fail run "link $link: $(scontrol show job "${job}_$link")"
done
[ "$(job_result "${job}_3")" = 'COMPLETED 0:0 0' ] || fail run "link 3: $(scontrol show job "${job}_3")"
is_empty() { [ -z "$(squeue --noheader --array)" ]; }
until_true 30 is_empty || fail run "links are left in the queue: $(squeue)"
[ "$(grep -c '^== .* restart 0: ' "$scratch/run.out")" = 3 ] || fail run "other than three links ran"
completed run "$steps"
same_bits run "$steps"
[ "$failures" -eq 0 ] && echo "stopped at steps $first and $second, completed by the third link"

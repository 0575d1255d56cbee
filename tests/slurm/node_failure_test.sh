#!/usr/bin/env bash
# A node fails under the job: Slurm queues the job again, which goes on from its last checkpoint on other nodes, to the bits
# of a run that nothing happened to. Usage: node_failure_test.sh PROGRAM
source "$(dirname "$0")/scenario.sh" "$1"

job=$(submit run slurm/train.sbatch "$scratch/deck.ini" run.directory="$scratch/run" checkpoint.every=20)
begin_reference
until_true 60 test -e "$scratch/run/checkpoints/latest" || fail run "no checkpoint"
[ "$(job_field "$job" NodeList)" = 'n[1-2]' ] || fail run "not on nodes 1 and 2: $(scontrol show job "$job")"
scontrol update nodename=n2 state=down reason=test
was_queued_again() { [ "$(job_field "$job" Restarts)" = 1 ]; }
until_true 60 was_queued_again || fail run "not queued again: $(scontrol show job "$job")"
steps=$(($(steps_of run) + 100))
train_until "$steps"
until_true 120 ended "$job" || fail run "it did not end"

[ "$(job_result "$job")" = 'COMPLETED 0:0 1' ] || fail run "$(scontrol show job "$job")"
if scontrol show hostnames "$(job_field "$job" NodeList)" | grep -qx n2; then fail run "still on n2"; fi
[[ $(sinfo --noheader --nodes=n2 --format=%T) = down* ]] || fail run "n2 is $(sinfo --noheader --nodes=n2 --format=%T)"
saved=$(sed -nE '$s/.* step-0*([0-9]+)\.h5$/\1/p' "$scratch/run/attempts")
went_on_from run "${saved:-none}"
completed run "$steps"
same_bits run "$steps"
[ "$failures" -eq 0 ] && echo "went on from step $saved without n2"

#!/usr/bin/env bash
# slurm/import.sbatch: a Hugging Face folder becomes a checkpoint on two ranks, whose hashes are right, and comes back.
# Usage: import_test.sh PROGRAM
source "$(dirname "$0")/scenario.sh" "$1"

folder=$source_dir/tests/golden/qwen3_moe
job=$(submit import slurm/import.sbatch "$folder" "$scratch/model.h5")
until_true 60 ended "$job" || fail import "it did not end"
[ "$(job_result "$job")" = 'COMPLETED 0:0 0' ] || fail import "$(scontrol show job "$job")"
"$program" verify "$scratch/model.h5" >"$scratch/verify.out" 2>&1 || fail verify "the checkpoint is damaged"

job=$(submit export slurm/import.sbatch --export "$scratch/model.h5" "$scratch/folder")
until_true 60 ended "$job" || fail export "it did not end"
[ "$(job_result "$job")" = 'COMPLETED 0:0 0' ] || fail export "$(scontrol show job "$job")"
[ -s "$scratch/folder/config.json" ] || fail export "no folder"
again=$(submit again slurm/import.sbatch "$scratch/folder" "$scratch/again.h5")
until_true 60 ended "$again" || fail again "it did not end"
h5diff "$scratch/model.h5" "$scratch/again.h5" /parameters >"$scratch/again.out" 2>&1 || fail again "other weights came back"
[ "$failures" -eq 0 ] && echo "imported, verified, exported and imported again"

#!/usr/bin/env bash
# An mpirun that locks itself up behind a dead rank is ended, the job goes back into the queue and completes.
# Usage: stuck_launcher_test.sh PROGRAM
source "$(dirname "$0")/scenario.sh" "$1"

mkdir "$scratch/bin"
cat >"$scratch/bin/mpirun" <<SCRIPT
#!/usr/bin/env bash
[ -e '$scratch/was-stuck' ] && exec '$(command -v mpirun)' "\$@"
touch '$scratch/was-stuck'
sleep 0.5 & # nobody reaps it
exec sleep 600
SCRIPT
chmod +x "$scratch/bin/mpirun"

steps=50
train_until "$steps"
job=$(PATH=$scratch/bin:$PATH LAUNCHER_LOOKS=1 submit run slurm/train.sbatch "$scratch/deck.ini" run.directory="$scratch/run")
until_true 120 ended "$job" || fail run "it did not end"
[ "$(job_result "$job")" = 'COMPLETED 0:0 1' ] || fail run "$(scontrol show job "$job")"
grep -q 'mpirun hangs behind a dead process; ending it' "$scratch/run.out" || fail run "it does not say what happened"
grep -q 'the run ended with status 137' "$scratch/run.out" || fail run "not killed"
completed run "$steps"
[ "$failures" -eq 0 ] && echo "ended, queued again, completed"

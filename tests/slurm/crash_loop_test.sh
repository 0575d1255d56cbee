#!/usr/bin/env bash
# A run that dies at once is tried again MAX_STALLS times, and no more; a deck with a mistake is not tried again.
# Usage: crash_loop_test.sh PROGRAM
source "$(dirname "$0")/scenario.sh" "$1"

cat >"$scratch/dies" <<SCRIPT
#!/usr/bin/env bash
[[ " \$* " = *' --dump-deck '* ]] && exec '$program' "\$@"
kill -KILL \$\$
SCRIPT
chmod +x "$scratch/dies"

# The attempts of an earlier job must not count.
mkdir "$scratch/run"
printf '4711 none\n%.0s' 1 2 3 4 5 >"$scratch/run/attempts"
job=$(MAX_STALLS=2 MOESAIC=$scratch/dies submit run slurm/train.sbatch "$scratch/deck.ini" run.directory="$scratch/run")
wrong=$(submit wrong slurm/train.sbatch "$scratch/deck.ini" run.directory="$scratch/wrong" train.stepz=3)

until_true 60 ended "$wrong" || fail wrong "it did not end"
[ "$(job_result "$wrong")" = 'FAILED 2:0 0' ] || fail wrong "$(scontrol show job "$wrong")"
grep -q 'unknown key train.stepz' "$scratch/wrong.out" || fail wrong "it does not say what is wrong"

until_true 120 ended "$job" || fail run "it did not end"
[[ $(job_result "$job") =~ ^FAILED\ [0-9]+:0\ 2$ ]] || fail run "$(scontrol show job "$job")"
grep -qF "2 restarts in a row made no new checkpoint in $scratch/run; mend the cause" "$scratch/run.out" ||
  fail run "it does not say why it ends"
[ "$(grep -c '^== .* restart [0-9]*: ' "$scratch/run.out")" = 3 ] || fail run "not three attempts"
[ "$failures" -eq 0 ] && echo "three attempts, then the end"

# shellcheck shell=bash
# Sourced by the templates beside it: what they share. Reads from the environment of sbatch
#     MOESAIC=path         the executable; else build/hopper/moesaic, build/reference/moesaic, moesaic on the PATH
#     LAUNCH=mpirun|srun   the launcher; srun needs Slurm's plugin for PMIx
#     SITE=file            modules and MPI settings of this site, see sites/example.env
# and sets job (a task of an array has the number of the whole array in SLURM_JOB_ID, if it is the last), program and
# launch. run COMMAND... starts `program COMMAND...` on all ranks, passes signals on, and returns its
# status.

say() { printf '== %s %s\n' "$(date +%FT%T)" "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 2; }

[ -n "${SLURM_JOB_ID:-}" ] || fail "not in a job of Slurm; start it with sbatch"
job=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}

MPIRUN_OPTIONS=(--bind-to none)
SRUN_OPTIONS=(--mpi=pmix)
if [ -n "${SITE:-}" ]; then
  # shellcheck source=slurm/sites/example.env
  source "$SITE" || fail "cannot read the site settings SITE=$SITE"
fi
set -u

find_program() {
  local path
  for path in build/hopper/moesaic build/reference/moesaic; do
    [ -x "$path" ] && realpath "$path" && return
  done
  command -v moesaic
}
program=${MOESAIC:-$(find_program)}
[ -x "$program" ] || fail "no executable '${program:-moesaic}'; name it by MOESAIC=path"

# The program stops in time when it knows the end of the allocation; not every Slurm tells.
if [ -z "${SLURM_JOB_END_TIME:-}" ]; then
  ends=$(SLURM_TIME_FORMAT=standard squeue --noheader --jobs="$job" --format=%e)
  if [[ $ends = [0-9]* ]]; then
    SLURM_JOB_END_TIME=$(date -d "$ends" +%s)
    export SLURM_JOB_END_TIME
  fi
fi

export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
case ${LAUNCH:-mpirun} in
  mpirun) launch=(mpirun "${MPIRUN_OPTIONS[@]}") ;;
  srun)
    # Since Slurm 22.05 srun does not take over sbatch's --cpus-per-task. No --kill-on-bad-exit: the first rank that ends
    # with 75 would have the others killed, and srun would return their status.
    export SRUN_CPUS_PER_TASK=$OMP_NUM_THREADS
    launch=(srun --kill-on-bad-exit=0 --wait=10 "${SRUN_OPTIONS[@]}")
    ;;
  *) fail "LAUNCH=$LAUNCH is no launcher; mpirun or srun" ;;
esac

# Both launchers pass USR1 on to all ranks; TERM would make mpirun kill them.
# shellcheck disable=SC2317  # called by the traps
forward() {
  say "$1: asking the run to save and stop"
  kill -USR1 "$launcher" 2>/dev/null
}

# mpirun of Open MPI 4.1.4 may lock itself up when a rank dies: it then never reaps its dead children, and would keep the
# allocation until its end. A dead child that is there in three looks on end tells. Its ranks end with it.
watch_launcher() {
  local looks=0
  while sleep "${LAUNCHER_LOOKS:-20}" && kill -0 "$1" 2>/dev/null; do
    if pgrep -r Z -P "$1" >/dev/null; then looks=$((looks + 1)); else looks=0; fi
    [ "$looks" -lt 3 ] && continue
    say "${launch[0]} hangs behind a dead process; ending it"
    kill -KILL "$1"
    return
  done
}

run() {
  local status watch
  say "job $SLURM_JOB_ID, restart ${SLURM_RESTART_COUNT:-0}: ${launch[*]} $program $*"
  "${launch[@]}" "$program" "$@" &
  launcher=$!
  [ "${launch[0]}" = srun ] || watch_launcher "$launcher" &
  watch=$!
  trap 'forward USR1' USR1
  trap 'forward TERM' TERM
  # A trapped signal ends `wait` early, so only a wait after the end tells the launcher's status.
  while kill -0 "$launcher" 2>/dev/null; do wait "$launcher"; done
  wait "$launcher"
  status=$?
  kill "$watch" 2>/dev/null
  say "the run ended with status $status"
  return "$status"
}

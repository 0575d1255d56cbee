# shellcheck shell=bash
# Sourced by the Slurm scenarios: a Slurm of four nodes on this machine, loopback only, as root.
#     lab_missing          prints why there can be none here, nothing if there can
#     lab_up FOLDER        starts it (about 3 s); state, logs and sockets are in FOLDER; exports SLURM_CONF
#     lab_down             cancels its jobs and stops it
# Afterwards sbatch, squeue and srun work as on a cluster.
lab_nodes=(n1 n2 n3 n4)

lab_missing() {
  local tool
  [ "$(id -u)" = 0 ] || { echo "not root (the daemons of Slurm need it)"; return; }
  for tool in slurmctld slurmd munged sbatch scontrol mpirun; do
    command -v "$tool" >/dev/null || { echo "no $tool (Debian: slurm-wlm, munge, openmpi-bin)"; return; }
  done
  [ -n "$(ls -A /sys/fs/cgroup 2>/dev/null)" ] || { echo "nothing is mounted on /sys/fs/cgroup (slurmd wants it)"; return; }
  unshare --uts --ipc --mount true 2>/dev/null || echo "no namespaces (a container without CAP_SYS_ADMIN?)"
}

# No cgroups, hence linuxproc and task/none. cred_expire is how long a requeued job waits. TmpFS differs by node, or the
# PMIx servers of two nodes take the same files.
lab_configuration() {
  cat <<CONF
ClusterName=lab
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=16817
SlurmctldPidFile=$lab/run/slurmctld.pid
SlurmctldLogFile=$lab/log/slurmctld.log
SlurmdPidFile=$lab/run/slurmd.%n.pid
SlurmdLogFile=$lab/log/slurmd.%n.log
StateSaveLocation=$lab/state
SlurmdSpoolDir=$lab/spool/%n
TmpFS=$lab/tmp/%n
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$lab/run/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmdParameters=config_overrides
ReturnToService=1
KillWait=5
MessageTimeout=60
NodeName=n[1-4] NodeAddr=127.0.0.1 Port=[17001-17004] CPUs=64 CoresPerSocket=64 RealMemory=4000
PartitionName=main Nodes=ALL Default=YES MaxTime=120
CONF
}

lab_start_munged() {
  dd if=/dev/urandom of="$lab/run/munge.key" bs=128 count=1 status=none
  chown -R munge:munge "$lab/run" "$lab/munge"
  chmod 400 "$lab/run/munge.key"
  setpriv --reuid=munge --regid=munge --clear-groups munged --key-file="$lab/run/munge.key" \
    --socket="$lab/run/munge.socket" --pid-file="$lab/run/munged.pid" --log-file="$lab/munge/munged.log" \
    --seed-file="$lab/munge/munged.seed"
}

# Each node has a host name, a /dev/shm and an IPC space of its own: else Open MPI takes all for one host, and its
# shared-memory segments collide.
lab_start_node() {
  unshare --uts --ipc --mount bash -c "hostname $1 && mount --bind '$lab/hosts' /etc/hosts &&
    mount -t tmpfs -o size=1g tmpfs /dev/shm && exec slurmd -f '$SLURM_CONF' -N $1"
}

lab_up() {
  lab=$1
  local node tries
  export SLURM_CONF=$lab/slurm.conf
  mkdir -p "$lab"/{log,state,run,munge} "${lab_nodes[@]/#/$lab/spool/}" "${lab_nodes[@]/#/$lab/tmp/}"
  chmod 755 "$lab" "$lab/run"
  chmod 700 "$lab/munge"
  echo "127.0.0.1 localhost $(hostname) ${lab_nodes[*]}" >"$lab/hosts"
  lab_configuration >"$SLURM_CONF"
  lab_start_munged && slurmctld -f "$SLURM_CONF" || return 1
  for node in "${lab_nodes[@]}"; do
    lab_start_node "$node" || return 1
  done
  for ((tries = 0; tries < 150; ++tries)); do
    [ "$(sinfo --noheader --states=idle --format=%D 2>/dev/null)" = "${#lab_nodes[@]}" ] && return 0
    sleep 0.2
  done
  return 1
}

# Signals all daemons and waits until they are gone.
lab_stop_daemons() {
  local pid pids tries
  mapfile -t pids < <(cat "$lab"/run/*.pid 2>/dev/null)
  [ "${#pids[@]}" -gt 0 ] && kill "${pids[@]}" 2>/dev/null
  for pid in "${pids[@]}"; do
    for ((tries = 0; tries < 100; ++tries)); do
      kill -0 "$pid" 2>/dev/null || continue 2
      sleep 0.1
    done
    kill -KILL "$pid"
  done
}

lab_down() {
  local tries
  [ -n "${lab:-}" ] || return 0
  if [ -s "$lab/run/slurmctld.pid" ]; then
    squeue --noheader --format=%i | xargs --no-run-if-empty scancel
    for ((tries = 0; tries < 100; ++tries)); do
      [ -z "$(squeue --noheader)" ] && break
      sleep 0.1
    done
  fi
  lab_stop_daemons
}

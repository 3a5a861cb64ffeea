#!/usr/bin/env bash
# Runs a command with a Slurm cluster of its own: munged, slurmctld and slurmd on this machine's loopback address, one
# node, this user. Ends what it started, whatever becomes of the command, and exits with the command's status.
#   bash tools/slurm_loopback.sh COMMAND [ARGUMENT ...]
# Needs Debian's slurmctld, slurmd, slurm-client and munge, and root: slurmd starts jobs for any user. Nothing of it is
# installed or started as a service. Exit status 77: a program is not here, or this user is not root. Daemons that are here
# and do not come up are a break: exit status 1, with what their logs say.
set -euo pipefail

for program in munged slurmctld slurmd sbatch; do
    PATH=$PATH:/usr/sbin command -v "$program" >/dev/null || {
        echo "Slurm is not here ($program is missing); apt-get install slurmctld slurmd slurm-client munge" >&2
        exit 77
    }
done
[[ $(id -u) == 0 ]] || { echo "slurmd needs root to start jobs" >&2 && exit 77; }
PATH=$PATH:/usr/sbin

folder=$(mktemp -d)
started=()
# shellcheck disable=SC2329  # invoked by the trap
end_all() {
    # Jobs outlive the daemons: they go first.
    if ((${#started[@]} == 3)) && [[ -n $(squeue --noheader 2>/dev/null) ]]; then
        scancel --full --signal=KILL --user root 2>/dev/null || true
        scancel --user root 2>/dev/null || true
        for ((second = 0; second < 40; second++)); do
            [[ -n $(squeue --noheader 2>/dev/null) ]] || break
            sleep 0.5
        done
    fi
    for ((i = ${#started[@]} - 1; i >= 0; i--)); do
        kill "${started[i]}" 2>/dev/null || true
        wait "${started[i]}" 2>/dev/null || true
    done
    rm -rf "$folder"
}
command=
trap end_all EXIT
trap '[[ -z $command ]] || kill -INT "$command"; exit 130' INT
trap '[[ -z $command ]] || kill "$command"; exit 143' TERM HUP

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

begin() { # begin NAME COMMAND ...: a daemon in the foreground of its own log
    local name=$1
    shift
    "$@" >"$folder/$name.log" 2>&1 &
    started+=($!)
}

await() { # await SECONDS COMMAND ...: until it succeeds, while the daemon begun last is alive
    local seconds=$1
    shift
    for ((second = 0; second < seconds * 2; second++)); do
        "$@" >/dev/null 2>&1 && return
        kill -0 "${started[-1]}" 2>/dev/null || break
        sleep 0.5
    done
    echo "Slurm did not come up ($*):" >&2
    tail -n 20 "$folder"/*.log >&2
    exit 1
}

chmod 755 "$folder"
mkdir -m 755 "$folder/munge" "$folder/spool" "$folder/state"
head -c 1024 /dev/urandom >"$folder/munge.key"
chmod 400 "$folder/munge.key"
cat >"$folder/slurm.conf" <<CONF
ClusterName=loopback
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
AuthType=auth/munge
# A job that is queued again waits as long as a credential lasts.
AuthInfo=socket=$folder/munge/socket,cred_expire=20
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2
RebootProgram=/bin/false
ReturnToService=2
KillWait=60
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$folder/slurm.conf

begin munged munged --foreground --force --num-threads 1 --key-file "$folder/munge.key" --socket "$folder/munge/socket" \
    --pid-file "$folder/munge/pid" --log-file "$folder/munge/log" --seed-file "$folder/munge/seed"
await 20 munge --no-input --socket "$folder/munge/socket"
begin slurmctld slurmctld -D
await 20 scontrol ping
begin slurmd slurmd -D
await 30 sh -c "sinfo --noheader --format %t | grep -q idle"
code=0
"$@" &
command=$!
wait "$command" || code=$?
exit "$code"

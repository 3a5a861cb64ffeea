#!/usr/bin/env bash
# What happens on every host of a run, asked for through ssh by launch.sh: one folder, ~/jaxchat/NAME, one run in it.
#   worker.sh NAME install EXTRAS          a virtual environment that holds the code's packages (resumed when torn)
#   worker.sh NAME mount BUCKET            a Cloud Storage bucket as the folder `bucket`
#   worker.sh NAME stage SOURCE FOLDER     gs:// or s3:// data onto the local disk, as data/FOLDER
#   worker.sh NAME start N TAKE ARG ...    `jaxchat train ARG ...`, detached, restarted at most N times; TAKE=take-over
#                                          ends whatever else holds the accelerators
#   worker.sh NAME status                  one line: jaxchat-status HOST none|running|lost|ended [CODE|CHECKSUM]
#   worker.sh NAME log FROM                the run's log from byte FROM on
#   worker.sh NAME stop                    ends the run; it saves first, for up to two minutes
# Input it cannot use is one sentence and exit status 2.
set -euo pipefail

name=$1 verb=$2
shift 2
base=$HOME/jaxchat/$name
code=$base/code
host=$(hostname)

fail() {
    echo "$host: $*" >&2
    exit 2
}

# Images of TPU VMs come with Python 3.10; uv brings a newer one without touching the system's.
usable_python() {
    local candidate
    for candidate in python3.12 python3.11 python3.13 python3; do
        if "$candidate" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    PATH=$HOME/.local/bin:$PATH
    command -v uv >/dev/null || python3 -m pip install --user --quiet uv >&2 ||
        fail "it has no Python 3.11 and pip could not install uv to fetch one; give its network a way to the package index (Cloud NAT for a slice without public addresses)"
    uv python install --quiet 3.11 >&2 || fail "uv could not fetch Python 3.11; see the lines above"
    uv python find 3.11
}

install() {
    cd "$code"
    PYTHON=$(usable_python)
    export PYTHON JAXCHAT_VENV=$base/venv
    if [[ -d $JAXCHAT_VENV ]] && ! "$JAXCHAT_VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        rm -rf "$JAXCHAT_VENV" # torn while it was made
    fi
    # shellcheck source=tools/environment.sh
    source tools/environment.sh
    use_environment "$1"
    python -c 'import jax, jaxchat' || fail "jaxchat was installed and cannot be imported; see the lines above"
}

mount() {
    mkdir -p "$base/bucket"
    mountpoint -q "$base/bucket" && return
    if ! command -v gcsfuse >/dev/null; then
        local keys=/usr/share/keyrings/gcsfuse.asc packages=https://packages.cloud.google.com/apt
        curl -fsS "$packages/doc/apt-key.gpg" | sudo -n tee "$keys" >/dev/null
        echo "deb [signed-by=$keys] $packages gcsfuse-$(lsb_release -cs) main" | sudo -n tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
        # A machine that has just started is updating itself: wait for its lock.
        sudo -n apt-get -qq -o DPkg::Lock::Timeout=600 update
        sudo -n apt-get -qq -y -o DPkg::Lock::Timeout=600 install gcsfuse >/dev/null ||
            fail "gcsfuse could not be installed, without which the bucket is no folder; see the lines above"
    fi
    gcsfuse "$1" "$base/bucket" >&2 || fail "gs://$1 could not be mounted; give this machine's service account roles/storage.objectUser on it"
}

stage() {
    local source=$1 target=$base/data/$2 need free
    mkdir -p "$target"
    case $source in
        gs://*)
            need=$(gcloud storage du --summarize "$source" | awk '{print $1; exit}')
            free=$(df --output=avail -B1 "$target" | tail -n 1)
            ((${need:-0} < free)) || fail "$source is $((need / 1000000000)) GB and its disk has $((free / 1000000000)) GB free; give launch.sh a --disk, or less data"
            gcloud storage rsync --recursive "$source" "$target" || fail "$source could not be copied; see the lines above"
            ;;
        s3://*) aws s3 sync --only-show-errors "$source" "$target" || fail "$source could not be copied; see the lines above" ;;
    esac
}

# Process ids that have an accelerator open. Chips are /dev/accel* on v2 to v4, /dev/vfio/* later.
holders() {
    sudo -n lsof -t /dev/accel* /dev/vfio/* /dev/nvidia[0-9]* 2>/dev/null | sort -u || true
}

# After a reboot the number may be another process's.
alive() {
    [[ -f $base/pid ]] && tr '\0' ' ' 2>/dev/null <"/proc/$(<"$base/pid")/cmdline" | grep -qF " run $base "
}

# Ends the run's processes: the supervisor passes SIGTERM on, the run saves; what is left after two minutes is killed.
stop() {
    local leader
    alive || return 0
    leader=$(<"$base/pid")
    kill -TERM "$leader" 2>/dev/null || true
    for ((second = 0; second < ${JAXCHAT_STOP_SECONDS:-120}; second++)); do
        alive || break
        sleep 1
    done
    kill -KILL -- "-$leader" 2>/dev/null || true
}

start() {
    local restarts=$1 take=$2 process
    shift 2
    alive && fail "a run named $name is under way here already"
    # What a run of this folder left behind: its supervisor was killed, the training was not.
    [[ ! -f $base/pid ]] || kill -KILL -- "-$(<"$base/pid")" 2>/dev/null || true
    for process in $(holders); do
        [[ $take == take-over ]] ||
            fail "process $process ($(ps -o args= -p "$process" | cut -c -80)) holds the accelerators; end it, or pass --take-over"
        sudo -n kill -KILL "$process"
    done
    sudo -n rm -f /tmp/libtpu_lockfile # no process holds it any more
    rm -f "$base/ended"
    printf '%s\n' "$*" | cksum | cut -d ' ' -f 1 >"$base/command"
    cd "$code"
    # A session of its own outlives ssh, and can be ended whole.
    # shellcheck disable=SC2016
    PATH=$base/venv/bin:$PATH PYTHONUNBUFFERED=1 setsid nohup bash -c '
        trap : TERM INT
        base=$1
        shift
        "$@" &
        child=$!
        trap "kill -TERM $child 2>/dev/null" TERM INT
        while wait "$child"; code=$?; kill -0 "$child" 2>/dev/null; do :; done
        echo "$code" >"$base/ended"
    ' run "$base" bash cloud/supervise.sh --restarts "$restarts" jaxchat train "$@" >>"$base/log" 2>&1 </dev/null &
    echo $! >"$base/pid"
}

status() {
    if alive; then
        echo "jaxchat-status $host running $(<"$base/command")"
    elif [[ -f $base/ended ]]; then
        echo "jaxchat-status $host ended $(<"$base/ended")"
    elif [[ -f $base/pid ]]; then
        echo "jaxchat-status $host lost"
    else
        echo "jaxchat-status $host none"
    fi
}

log() {
    [[ ! -f $base/log ]] || tail -c "+$(($1 + 1))" "$base/log"
}

case $verb in
    install | mount | stage | start | status | log | stop) "$verb" "$@" ;;
    *) fail "worker.sh has no $verb" ;;
esac

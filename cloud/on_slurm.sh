# A Slurm cluster: run where sbatch is, from a checkout that the nodes see as well.
# shellcheck shell=bash disable=SC2034,SC2154  # the variables are launch.sh's

target_check() {
    need_program sbatch "run launch.sh on the cluster's login node"
    nodes=${nodes_wanted:-1}
    machine="a job on $nodes node(s)" cost="what the cluster charges for it"
    [[ -z $bucket ]] || refuse "--bucket is for clouds; the run's folder is $out, on the cluster's own disk"
    for source in "${data[@]}"; do
        [[ $source != *://* ]] || refuse "--data $source is not on the cluster's disk; copy it there first, since nodes often have no way out"
    done
    job=$([[ ! -f $state/job ]] || cat "$state/job")
}

# The state of the job into $state_word, empty when the queue does not know it, and why it waits into $waiting.
look() {
    state_word='' waiting=''
    [[ -n $job ]] || return 0
    read -r state_word waiting < <(squeue --noheader --jobs "$job" --format '%T %r' 2>"$errors") || true
}

target_up() {
    [[ -n $dry_run ]] || look
    if [[ -n $state_word ]]; then
        say "job $job is $state_word: following it"
        attached=1 holding=1
    fi
}

target_send() {
    local field lines=() options train
    [[ -z $attached ]] || return 0
    [[ -z $gpus ]] || lines+=("#SBATCH --gres=gpu:$gpus")
    for field in partition time account; do
        [[ -z ${!field} ]] || lines+=("#SBATCH --$field=${!field}")
    done
    options=$(printf '%s\n' "${lines[@]}")
    if [[ -z $venv && -z $dry_run ]]; then
        cd "$root" || exit
        # shellcheck source=tools/environment.sh
        source tools/environment.sh
        use_environment "$extras"
        venv=$VIRTUAL_ENV
    fi
    venv=$(realpath -m "${venv:-$root/.venv}")
    train=("$(realpath "$config")" --run "$(realpath -m "$out")")
    ((${#data[@]} == 0)) || train+=(--sources "${data[@]}")
    words=$(typed "${train[@]}" "${fields[@]}")
    render "$here/train.sbatch" name nodes tasks state options root venv restarts words >"$state/train.sbatch"
    [[ -z $dry_run ]] || cat "$state/train.sbatch"
}

target_start() {
    [[ -z $attached ]] || return 0
    rm -f "$state/log" "$state/result"
    if [[ -n $dry_run ]]; then
        typed sbatch --parsable "$state/train.sbatch"
        return
    fi
    job=$(sbatch --parsable "$state/train.sbatch" 2>"$errors") || refuse "Slurm refused the job: $(last_error)"
    job=${job%%;*}
    echo "$job" >"$state/job"
    holding=1
    say "job $job is in the queue"
}

show_log() {
    [[ -f $state/log ]] || return 0
    tail -c "+$((shown + 1))" "$state/log" >"$state/part"
    cat "$state/part"
    shown=$((shown + $(wc -c <"$state/part")))
}

target_watch() {
    local said='' absent=0
    if [[ -n $dry_run ]]; then
        typed squeue --noheader --jobs JOB --format '%T %r'
        verdict='done'
        return
    fi
    while :; do
        look
        show_log
        if [[ -f $state/result ]]; then
            verdict_of "$(<"$state/result")"
            [[ -n $state_word && $state_word != COMPLETING ]] || holding=
            show_log
            return
        fi
        if [[ -n $state_word ]]; then
            absent=0
            [[ $state_word == "$said" ]] || say "job $job is $state_word$([[ $state_word != PENDING ]] || echo " ($waiting)")"
            said=$state_word
        else # the queue may be slow to answer, and the disk to show
            absent=$((absent + 1))
            if ((absent >= 3)); then
                holding='' verdict=failed reason="job $job is no longer in the queue and left no result: it was cancelled, or its node failed"
                return
            fi
        fi
        pause
    done
}

verdict_of() { # verdict_of EXIT_CODE
    case $1 in
        0) verdict='done' ;;
        2) verdict=bad reason="the run refused its input (exit code 2); the last lines of its log say why" ;;
        130) verdict=interrupted reason="the run was interrupted" ;;
        *) verdict=failed reason="the run ended with exit code $1 after all its restarts" ;;
    esac
}

target_status() {
    look
    echo "$name: job ${job:-(none)} ${state_word:-is not in the queue}"
}

target_logs() {
    while :; do
        show_log
        look
        [[ -n $state_word ]] || return 0
        pause
    done
}

target_fetch() { say "the run's folder is $out, its log $state/log"; }

target_stop() { target_down; }

target_down() {
    if [[ -n $job || -n $dry_run ]]; then
        call scancel "${job:-JOB}" 2>"$errors" || true # a job that has ended is no longer known
        look
        if [[ -n $state_word && $state_word != COMPLETING && $state_word != CANCELLED && -z $dry_run ]]; then
            say "job $job could not be cancelled: $(last_error)"
            return 1
        fi
    fi
    holding=
}

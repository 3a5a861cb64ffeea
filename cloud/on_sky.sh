# AWS and other clouds through SkyPilot: a managed job, which SkyPilot itself recovers and takes down.
# shellcheck shell=bash disable=SC2034,SC2154  # the variables are launch.sh's

target_check() {
    need gpus "$gpus" "accelerators of a node, e.g. H100:8; \`sky gpus list\` names them"
    need bucket "$bucket" "s3://BUCKET or gs://BUCKET for the run's folder, which outlives the machines"
    need_program sky "install it with \`pip install 'skypilot[aws]'\` in an environment of its own, and run \`sky check\`"
    [[ $gpus =~ ^[A-Za-z0-9-]+:[1-9][0-9]*$ ]] || refuse "--gpus $gpus is not NAME:COUNT, e.g. H100:8"
    nodes=${nodes_wanted:-1} infra=${infra:-aws} spot=false
    [[ $capacity != spot ]] || spot=true
    machine="managed job $name on $nodes x $gpus ($infra, $capacity)"
    price "${gpus%:*}" "$((nodes * ${gpus#*:}))" "$capacity"
    for source in "${data[@]}"; do
        [[ $source == *://* || $source == /* ]] || refuse "--data $source: give SkyPilot an address (s3://, gs://) or a path from /"
    done
}

# The job's state into $state_word, empty when the queue does not know it.
look() {
    state_word=$(sky jobs queue --skip-finished 2>"$errors" | awk -v name="$name" '{ for (i = 1; i <= NF; i++) if ($i == name) found = $0 } END { print found }' |
        grep -Eo 'PENDING|STARTING|RUNNING|RECOVERING|CANCELLING|SUBMITTED' | tail -n 1) || state_word=
}

target_up() {
    if [[ -z $dry_run ]]; then
        look
        if [[ -n $state_word ]]; then
            say "job $name is $state_word: following it"
            attached=1 holding=1
            return
        fi
    fi
    confirm "$machine"
}

target_send() {
    local source train lines=()
    [[ -z $attached ]] || return 0
    cp "$config" "$root/.cache/launched-$name.py" 2>/dev/null || { mkdir -p "$root/.cache" && cp "$config" "$root/.cache/launched-$name.py"; }
    train=(jaxchat train ".cache/launched-$name.py" --run "/bucket/$name")
    if ((${#data[@]})); then
        train+=(--sources)
        for source in "${data[@]}"; do
            lines+=("  /data/$(basename "$source"): $(string "$source")")
            train+=("/data/$(basename "$source")")
        done
    fi
    staging=$(printf '%s\n' "${lines[@]}") words=$(typed "${train[@]}" "${fields[@]}")
    render "$here/skypilot.yaml" name nodes infra gpus spot restarts root bucket staging extras words >"$state/skypilot.yaml"
    [[ -z $dry_run ]] || cat "$state/skypilot.yaml"
}

target_start() {
    [[ -z $attached ]] || return 0
    holding=1
    call sky jobs launch --yes --detach-run --name "$name" "$state/skypilot.yaml" 2>"$errors" || give_up "SkyPilot could not start the job: $(last_error)"
}

# sky's own exit code says how the job ended.
target_watch() {
    local code=0
    call sky jobs logs --name "$name" --follow || code=$?
    if [[ -n $dry_run ]]; then
        verdict='done'
        return
    fi
    look
    if [[ -n $state_word ]]; then
        give_up "following the log of $name ended, the job did not ($state_word)"
    fi
    holding=
    if ((code)); then
        verdict=failed reason="the job failed; \`sky jobs logs --name $name\` has its log"
    else
        verdict='done'
    fi
}

target_recover() { give_up "$reason"; }
target_status() { sky jobs queue; }
target_logs() { sky jobs logs --name "$name" --follow; }
target_stop() { target_down; }
target_fetch() { say "the run's folder is $bucket/$name"; }

target_down() {
    call sky jobs cancel --yes --name "$name" 2>"$errors" || {
        look
        [[ -z $state_word ]] || { say "job $name could not be cancelled: $(last_error)" && return 1; }
    }
    holding=
    say "no job $name runs; SkyPilot's controller may still be up: \`sky status\` shows it, \`sky down -a\` takes all down"
}

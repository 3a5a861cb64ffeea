# Cloud TPU: slices made by `gcloud compute tpus`, at once (tpu-vm) or when there are any (queued-resources).
# shellcheck shell=bash disable=SC2034,SC2154  # the variables are launch.sh's

target_check() {
    need type "$type" "the slice, e.g. v5litepod-16"
    need zone "$zone" "e.g. us-west4-a; \`gcloud compute tpus accelerator-types list --zone ZONE\` says what a zone has"
    need project "$project" "the Google Cloud project that pays"
    need_program gcloud "install the Google Cloud CLI and run \`gcloud auth login\`"
    shape
    ((slices == 1)) || queue=1
    nodes=("$name")
    if ((slices > 1)); then
        nodes=()
        for ((slice = 0; slice < slices; slice++)); do nodes+=("$name-$slice"); done
    fi
    hosts=$((hosts_each * slices))
    machine="$([[ $slices == 1 ]] || echo "$slices x ")$type ($capacity, $zone)"
    price "${type%-*}" "$((chips * slices))" "$capacity"
    run_folder=../run
    if [[ -n $bucket ]]; then
        [[ $bucket == gs://?* ]] || refuse "--bucket $bucket is not a Cloud Storage address; write gs://BUCKET or gs://BUCKET/FOLDER"
        bucket_name=${bucket#gs://} bucket_folder=
        [[ $bucket_name != */* ]] || bucket_folder=/${bucket_name#*/}
        bucket_name=${bucket_name%%/*}
        run_folder=../bucket$bucket_folder/$name
    elif ((hosts > 1)); then
        refuse "$type has $hosts hosts, which must write one checkpoint together; give --bucket gs://BUCKET"
    elif [[ $capacity == spot ]]; then
        refuse "a spot slice is taken away with its disk; give --bucket gs://BUCKET for the checkpoints"
    fi
}

# Chips, hosts and system image of an accelerator type. v2 to v4 and v5p count TensorCores, two a chip.
shape() {
    local count=${type##*-}
    [[ $type =~ ^(v2|v3|v4|v5litepod|v5p|v6e)-[1-9][0-9]*$ ]] || {
        [[ $type != tpu7x-* ]] || refuse "TPU7x comes through Google Kubernetes Engine; use --on gke"
        refuse "--type $type is no type of slice; they are written v4-8, v5litepod-16, v5p-128, v6e-256"
    }
    case $type in
        v5litepod-* | v6e-*)
            chips=$count
            hosts_each=$((count <= 8 ? 1 : count / 4))
            ;;
        *)
            chips=$((count / 2))
            hosts_each=$((count <= 8 ? 1 : count / 8))
            ;;
    esac
    case $type in
        v5litepod-*) image=${runtime:-v2-alpha-tpuv5-lite} ;;
        v5p-*) image=${runtime:-v2-alpha-tpuv5} ;;
        v6e-*) image=${runtime:-v2-alpha-tpuv6e} ;;
        *) image=${runtime:-tpu-ubuntu2204-base} ;;
    esac
}

tpus() { # tpus GROUP VERB ARGUMENT ...
    gcloud_words=(gcloud compute tpus "$1" "$2" "${@:3}" --zone "$zone" --project "$project" --quiet)
}

# What a failed gcloud call means, in one sentence.
why() {
    local text
    text=$(<"$errors")
    case $text in
        *[Qq]uota*) echo "project $project has no quota left for $machine; ask for more under IAM & Admin > Quotas, or choose another zone or type" ;;
        *'no more capacity'* | *[Ss]tockout* | *'insufficient capacity'* | *'out of capacity'*) echo "$zone has no $type left at the moment; wait in the queue with --queue, or choose another zone" ;;
        *'gcloud auth login'* | *'eauthentication'* | *'active account'*) echo "gcloud is not logged in; run \`gcloud auth login\`" ;;
        *'has not been used in project'* | *SERVICE_DISABLED*) echo "the Cloud TPU API is off in $project; run \`gcloud services enable tpu.googleapis.com --project $project\`" ;;
        *PERMISSION_DENIED* | *'does not have permission'* | *'ermission denied on'*) echo "your account may not do this in $project; it needs the role roles/tpu.admin" ;;
        *'not found in zone'* | *'nvalid accelerator'* | *'ccelerator type'*'not'*) echo "$zone has no $type; \`gcloud compute tpus accelerator-types list --zone $zone\` says what it has" ;;
        *) echo "gcloud said: $(last_error)" ;;
    esac
}

# What there is under this name into $found: absent, waiting, ready, taken (preempted), failed or unknown; gcloud's word
# into $state_word. Not hearing from gcloud is never taken for absence.
look() {
    if [[ -n $queue ]]; then
        tpus queued-resources describe "$name" --format 'value(state.state,tpu.nodeSpec[0].node.labels.jaxchat)'
    else
        tpus tpu-vm describe "$name" --format 'value(state,labels.jaxchat)'
    fi
    if [[ -n $dry_run ]]; then
        typed "${gcloud_words[@]}"
        found=absent
        return
    fi
    state_word=$(try "${gcloud_words[@]}") || {
        found=unknown state_word=
        if grep -Eqi 'not_found|not found|404' "$errors"; then found=absent; fi
        return 0
    }
    read -r state_word owner <<<"$state_word"
    [[ -n $owner || ! -f $state/created ]] || owner=$name
    case $state_word in
        READY) found=ready ;;
        ACTIVE)
            found=ready
            look_at_nodes
            ;;
        PREEMPTED | TERMINATED | SUSPENDING | SUSPENDED) found=taken ;;
        FAILED | STOPPED | STOPPING | HIDDEN | HIDING) found=failed ;;
        *) found=waiting ;;
    esac
}

# A queued resource stays ACTIVE for a while after one of its slices is taken away.
look_at_nodes() {
    local node
    for node in "${nodes[@]}"; do
        tpus tpu-vm describe "$node" --format 'value(state)'
        state_word=$(try "${gcloud_words[@]}") || state_word=UNKNOWN
        case $state_word in
            READY) ;;
            PREEMPTED | TERMINATED) found=taken && return ;;
            *) found=waiting ;;
        esac
    done
}

# Asked once more at the end of a launch that was broken off: anything but a plain no counts as there.
still_there() {
    look
    [[ $found != absent ]]
}

create() {
    local words=() kind=()
    case $capacity in
        spot) kind=(--spot) ;;
        reserved) kind=(--reserved) ;;
    esac
    words=(--accelerator-type "$type" --labels "jaxchat=$name" --scopes https://www.googleapis.com/auth/cloud-platform)
    [[ -z $network ]] || words+=(--network "$network")
    [[ -z $subnetwork ]] || words+=(--subnetwork "$subnetwork")
    [[ -z $service_account ]] || words+=(--service-account "$service_account")
    [[ -z $internal ]] || words+=(--internal-ips)
    [[ -z $disk ]] || words+=(--data-disk "source=$disk,mode=read-write")
    if [[ -n $queue ]]; then
        local many=(--node-id "$name")
        ((slices == 1)) || many=(--node-count "$slices" --node-prefix "$name")
        tpus queued-resources create "$name" "${many[@]}" --runtime-version "$image" "${kind[@]}" "${words[@]}" --valid-until-duration "${wait_hours}h" --async
    else
        tpus tpu-vm create "$name" --version "$image" "${kind[@]}" "${words[@]}"
    fi
    holding=1 # from here on there may be something to pay for, whatever the call says
    [[ -n $dry_run ]] || echo "${queue:-0}" >"$state/created"
    local limit=()
    [[ -n $dry_run ]] || limit=(timeout --foreground "${JAXCHAT_CREATE_SECONDS:-1800}")
    call "${limit[@]}" "${gcloud_words[@]}" 2>"$errors"
}

# Brings the slice up, or takes the one that is there. With $again a zone without capacity is asked until --wait-hours
# are over.
target_up() {
    local said='' until=$((SECONDS + wait_hours * 3600))
    look
    [[ $found == absent || $found == unknown || $owner == "$name" ]] ||
        refuse "a TPU named $name exists that ${owner:-launch.sh did not make}${owner:+ made}; choose another --name"
    while :; do
        case $found in
            unknown) give_up "whether $name exists could not be found out: $(why)" ;;
            absent) ask_for_slice ;;
            ready)
                holding=1
                return
                ;;
            taken | failed)
                holding=1
                if [[ $found == failed && -n $asked ]]; then
                    said=$state_word
                    target_down
                    give_up "$machine could not be made ($said)"
                fi
                say "$name is $state_word: deleting it to make it anew"
                target_down || give_up "a slice that is $state_word stands in the way"
                ;;
            waiting)
                holding=1
                [[ $state_word == "$said" ]] || say "$name is $state_word"
                said=$state_word
                if ((SECONDS >= until)); then
                    target_down
                    give_up "$name was still $said after $wait_hours hours; raise --wait-hours, or choose another zone"
                fi
                pause
                look
                [[ $found != unknown ]] || found=waiting
                ;;
        esac
    done
}

# One try to make the slice; what there is after it, into $found.
ask_for_slice() {
    local code=0 problem
    [[ -n $confirmed ]] || confirm "$machine"
    confirmed=1 asked=1
    say "asking for $machine$([[ -z $queue ]] || echo ", in the queue")"
    create || code=$?
    if [[ -n $dry_run ]]; then
        found=ready
        return
    fi
    problem=$(why)
    look
    owner=$name
    ((code)) || { [[ $found != absent ]] || found=waiting state_word=ASKED; return 0; }
    if [[ $found == absent ]]; then
        holding=
        if [[ -n $again && $problem == *'left at the moment'* ]] && ((SECONDS < until)); then
            say "$zone has no $type left; asking again"
            pause
            return
        fi
        ((code != 124)) || problem="gcloud did not answer in $(create_minutes) minutes"
        give_up "$problem; nothing was created"
    fi
    if ((code == 124)); then
        target_down
        give_up "$machine was not there after $(create_minutes) minutes; try again, or wait in the queue with --queue"
    fi
}

create_minutes() { echo $((${JAXCHAT_CREATE_SECONDS:-1800} / 60)); }

ssh_to() { # ssh_to NODE WORKER COMMAND
    local internal_ip=()
    [[ -z $internal ]] || internal_ip=(--internal-ip)
    tpus tpu-vm ssh "$1" --worker "$2" --command "$3" "${internal_ip[@]}"
    local limit=()
    [[ -n $dry_run ]] || limit=(timeout --foreground "${JAXCHAT_SSH_SECONDS:-3600}")
    call "${limit[@]}" "${gcloud_words[@]}" 2>"$errors" </dev/null
}

on_first() { ssh_to "${nodes[0]}" 0 "$1"; }

on_all() {
    local node code=0
    for node in "${nodes[@]}"; do ssh_to "$node" all "$1" || code=$?; done
    return "$code"
}

copy() { # copy FROM TO WORKER
    local internal_ip=()
    [[ -z $internal ]] || internal_ip=(--internal-ip)
    tpus tpu-vm scp "$1" "$2" --worker "$3" --recurse "${internal_ip[@]}"
    try "${gcloud_words[@]}"
}

copy_to_all() {
    local node code=0
    for node in "${nodes[@]}"; do copy "$1" "$node:$2" all || code=$?; done
    return "$code"
}

copy_from_all() {
    local node worker code=0
    for node in "${nodes[@]}"; do
        for ((worker = 0; worker < hosts_each; worker++)); do
            copy "$node:$1" "$2/$node-$worker.log" "$worker" || code=$?
        done
    done
    return "$code"
}

# A slice is READY minutes before all of its hosts answer.
wait_for_ssh() {
    local attempt problem
    for ((attempt = 1; attempt <= ${JAXCHAT_SSH_TRIES:-30}; attempt++)); do
        if on_all true; then return; fi
        problem=$(last_error)
        ((attempt > 1)) || say "$name does not answer over ssh yet"
        pause
        look
        [[ $found != taken ]] || return 1
    done
    give_up "$name does not answer over ssh: $problem; check its firewall rule for port 22, or pass --internal-ips from inside its network"
}

target_send() {
    [[ -z $bucket ]] || check_bucket
    wait_for_ssh || return 1
    take_or_prepare
}

# A checkpoint appears by renaming a folder, which only a hierarchical bucket does in one step.
check_bucket() {
    local words=(gcloud storage buckets describe "gs://$bucket_name" --format "value(hierarchical_namespace.enabled)" --project "$project")
    local answer
    if [[ -n $dry_run ]]; then
        typed "${words[@]}"
        return
    fi
    answer=$(try "${words[@]}") || give_up "gs://$bucket_name cannot be looked at: $(last_error)"
    [[ $answer == [Tt]rue ]] || refuse "gs://$bucket_name has no hierarchical namespace, without which a checkpoint is not whole or absent; make one with \`gcloud storage buckets create gs://NAME --location ${zone%-*} --uniform-bucket-level-access --enable-hierarchical-namespace\`"
}

target_start() {
    [[ -n $attached ]] || start_hosts
    attached=
}

target_watch() { follow_hosts; }

# Whether the slice is no more; asked at every look at the run.
machine_gone() {
    look
    [[ $found == taken || $found == absent || $found == failed ]]
}

# A host that lost its run is begun again with the others; hosts that went silent are exchanged when nothing is lost by it.
target_recover() {
    if [[ $verdict == silent && -n $bucket ]]; then
        target_down || give_up "$reason"
    elif [[ $verdict == lost ]]; then
        stop_hosts
    fi
}

target_stop() { stop_hosts; }

target_status() {
    look
    echo "$name: ${state_word:-$found}, $machine"
    [[ $found != ready ]] || on_all "$(remote status)"
}

target_logs() { follow_hosts; }

target_fetch() {
    fetch_logs
    if [[ -n $bucket ]]; then
        try gcloud storage rsync --recursive --exclude '^(checkpoints|compiled)/.*' "$bucket/$name" "$out" || { say "$bucket/$name could not be fetched: $(last_error)" && return 1; }
        say "results are in $out; the checkpoints stay in $bucket/$name/checkpoints"
    else
        copy "${nodes[0]}:jaxchat/$name/run/." "$out" 0 || { say "the run's folder could not be fetched: $(last_error)" && return 1; }
        say "results are in $out"
    fi
}

# Deletes the slice and makes sure of it.
target_down() {
    local attempt problem=
    for attempt in 1 2 3; do
        if [[ -n $queue ]]; then
            tpus queued-resources delete "$name" --force
        else
            tpus tpu-vm delete "$name"
        fi
        try "${gcloud_words[@]}" || problem=$(why)
        [[ -z $dry_run ]] || { holding= && return; }
        look
        if [[ $found == absent ]]; then
            say "$name is deleted"
            rm -f "$state/created"
            holding=
            return
        fi
        pause
    done
    say "$name could not be deleted: ${problem:-it is still $state_word}"
    return 1
}

# Google Kubernetes Engine: a JobSet on a cluster that has node pools of TPU slices or GPUs.
# shellcheck shell=bash disable=SC2034,SC2154  # the variables are launch.sh's

target_check() {
    need type "$type" "a slice such as v5litepod-16, or GPUs a node such as H100:8"
    need bucket "$bucket" "gs://BUCKET[/FOLDER] for the run's folder, which outlives every pod"
    [[ $verb != run ]] || need image "$image" "a container image that holds jaxchat; cloud/README.md says how to build one"
    [[ $bucket == gs://?* ]] || refuse "--bucket $bucket is not a Cloud Storage address; write gs://BUCKET or gs://BUCKET/FOLDER"
    need_program kubectl "install it with \`gcloud components install kubectl\`"
    bucket_name=${bucket#gs://} bucket_folder=
    [[ $bucket_name != */* ]] || bucket_folder=/${bucket_name#*/}
    bucket_name=${bucket_name%%/*}
    service_account=${service_account:-default}
    restarts=${restarts:-50} # a preemption counts as one
    shape
    machine="JobSet $name on $([[ $slices == 1 ]] || echo "$slices x ")$type ($capacity)"
    price "$kind" "$((chips * slices))" "$capacity"
    for source in "${data[@]}"; do
        [[ $source == gs://* ]] || refuse "--data $source is not in Cloud Storage, which is all that pods can be given; copy it to a bucket first"
    done
}

# What the nodes of a type are called in GKE, and how its chips lie. v4 and v5p count TensorCores, two a chip.
shape() {
    local count=${type##*[-:]} label chips_each=4 topology
    case $type in
        v5litepod-*) label=tpu-v5-lite-podslice ;;
        v6e-*) label=tpu-v6e-slice ;;
        v4-*) label=tpu-v4-podslice ;;
        v5p-*) label=tpu-v5p-slice ;;
        tpu7x-*) label=tpu7x ;;
        *:*) label=nvidia-$(tr '[:upper:]' '[:lower:]' <<<"${type%:*}") ;;
        *) refuse "--type $type is neither a slice (v5litepod-16, v6e-256, v5p-128, tpu7x-64) nor GPUs a node (H100:8)" ;;
    esac
    [[ $count =~ ^[1-9][0-9]*$ ]] || refuse "--type $type does not end in a number"
    if [[ $type == *:* ]]; then
        kind=${type%:*} hosts=${nodes_wanted:-1}
        chips=$((count * hosts))
        case $label in
            nvidia-h100) label=nvidia-h100-80gb ;;
            nvidia-a100) label=nvidia-tesla-a100 ;;
        esac
        ((slices == 1)) || refuse "--slices is for TPUs; say --nodes N for GPUs"
        placement='{}'
        selector="{cloud.google.com/gke-accelerator: $label"
        resources="{nvidia.com/gpu: $count}"
    else
        kind=${type%-*} chips=$count
        # A slice is a node pool, which one Job has to itself.
        placement='{alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool}'
        case $type in v4-* | v5p-* | tpu7x-*) chips=$((count / 2)) ;; esac
        case $type:$chips in
            v5litepod-*:1 | v6e-*:1) topology=1x1 ;;
            v5litepod-*:4 | v6e-*:4) topology=2x2 ;;
            v5litepod-*:8 | v6e-*:8) topology=2x4 ;;
            v5litepod-*:16 | v6e-*:16) topology=4x4 ;;
            v5litepod-*:32 | v6e-*:32) topology=4x8 ;;
            v5litepod-*:64 | v6e-*:64) topology=8x8 ;;
            v5litepod-*:128 | v6e-*:128) topology=8x16 ;;
            v5litepod-*:256 | v6e-*:256) topology=16x16 ;;
            *:4) topology=2x2x1 ;;
            *:8) topology=2x2x2 ;;
            *:16) topology=2x2x4 ;;
            *:32) topology=2x4x4 ;;
            *:64) topology=4x4x4 ;;
            *:128) topology=4x4x8 ;;
            *:256) topology=4x8x8 ;;
            *:512) topology=8x8x8 ;;
            *:1024) topology=8x8x16 ;;
            *:2048) topology=8x16x16 ;;
            *) refuse "$type is no slice that GKE has; sizes are powers of two" ;;
        esac
        ((chips >= chips_each)) || chips_each=$chips
        hosts=$((chips / chips_each))
        selector="{cloud.google.com/gke-tpu-accelerator: $label, cloud.google.com/gke-tpu-topology: $topology"
        resources="{google.com/tpu: $chips_each}"
    fi
    [[ $capacity != spot ]] || selector+=', cloud.google.com/gke-spot: "true"'
    selector+='}'
}

# Where JAX finds its peers: GKE tells the hosts of a TPU slice; others meet at the first pod of the first Job.
peers() {
    environment='[{name: PYTHONUNBUFFERED, value: "1"}'
    if [[ $type == *:* ]] && ((hosts * slices > 1)); then
        environment+=", {name: JAX_COORDINATOR_ADDRESS, value: \"$name-train-0-0.$name:8476\"}"
        environment+=", {name: JAX_NUM_PROCESSES, value: \"$((hosts * slices))\"}"
    fi
    environment+=']'
}

kube() { kubectl ${context:+--context "$context"} --namespace "$namespace" "$@"; }

query() { kube get jobset "$name" --output "jsonpath=$1" 2>"$errors"; }

# The JobSet's end into $state_word: Completed, Failed, empty while it goes on; $found says whether there is one.
look() {
    found=ready
    state_word=$(query '{.status.terminalState}') || {
        found=unknown
        if grep -q 'NotFound\|not found' "$errors"; then found=absent; fi
    }
}

target_up() {
    [[ -z $dry_run ]] || { confirm "$machine" && return; }
    look
    case $found in
        unknown) give_up "the cluster does not answer: $(last_error)" ;;
        absent) confirm "$machine" ;;
        ready)
            holding=1
            if [[ -n $state_word ]]; then
                say "an earlier JobSet $name has ended ($state_word): deleting it"
                target_down || give_up "JobSet $name stands in the way"
                confirm "$machine"
            else
                say "JobSet $name is there: following it"
                attached=1
            fi
            ;;
    esac
}

target_send() {
    local source folder train=(jaxchat train "/config/$(basename "$config")" --run "/bucket$bucket_folder/$name") stages=()
    [[ -z $attached ]] || return 0
    config_name=$(basename "$config") config_text=$(string "$(<"$config")"$'\n')
    if ((${#data[@]})); then
        train+=(--sources)
        for source in "${data[@]}"; do
            folder=/data/$(basename "$source")
            train+=("$folder")
            stages+=("{name: stage-${#stages[@]}, image: \"google/cloud-sdk:slim\", command: [bash, -c, $(string "mkdir -p $folder && gcloud storage rsync --recursive $source $folder")], volumeMounts: [{name: data, mountPath: /data}]}")
        done
    fi
    staging="[$(
        IFS=,
        echo "${stages[*]}"
    )]"
    words=$(json "${train[@]}" "${fields[@]}")
    peers
    image=$(string "$image")
    render "$here/jobset.yaml" name namespace config_name config_text restarts slices hosts placement service_account selector staging \
        image words environment resources bucket_name >"$state/jobset.yaml"
    [[ -z $dry_run ]] || cat "$state/jobset.yaml"
}

target_start() {
    [[ -z $attached ]] || { attached='' && return; }
    if [[ -n $dry_run ]]; then
        typed kubectl ${context:+--context "$context"} --namespace "$namespace" apply --filename "$state/jobset.yaml"
        return
    fi
    holding=1
    kube apply --filename "$state/jobset.yaml" >&2 2>"$errors" || {
        holding=
        refuse "the cluster refused the JobSet: $(last_error)"
    }
}

# The pod of the first host as it is now: a restart makes new ones.
first_pod() {
    kube get pods --selector "jobset.sigs.k8s.io/jobset-name=$name,jobset.sigs.k8s.io/job-index=0,batch.kubernetes.io/job-completion-index=0" \
        --sort-by .metadata.creationTimestamp --output 'jsonpath={.items[-1:].metadata.name}' 2>/dev/null
}

show_log() {
    local pod
    pod=$(first_pod) || return 0
    [[ -n $pod ]] || return 0
    [[ $pod == "${shown_pod:-}" ]] || shown=0
    shown_pod=$pod
    kube logs "$pod" --container train 2>/dev/null >"$state/part" || return 0
    tail -c "+$((shown + 1))" "$state/part"
    shown=$(wc -c <"$state/part")
}

target_watch() {
    local phase said='' restarts_seen=0 seen silent=0
    if [[ -n $dry_run ]]; then
        typed kubectl ${context:+--context "$context"} --namespace "$namespace" get jobset "$name" --output 'jsonpath={.status.terminalState}'
        verdict='done'
        return
    fi
    while :; do
        look
        show_log
        case $found:$state_word in
            ready:Completed)
                verdict='done'
                return
                ;;
            ready:Failed)
                how_it_failed
                return
                ;;
            absent:*)
                verdict=failed reason="JobSet $name was deleted by someone"
                return
                ;;
            unknown:*)
                silent=$((silent + 1))
                ((silent < ${JAXCHAT_SILENT_LOOKS:-30})) || { verdict=silent reason="the cluster does not answer: $(last_error)" && return; }
                ;;
            *)
                silent=0
                seen=$(query '{.status.restarts}') || seen=
                ((${seen:-0} <= restarts_seen)) || say "all pods were made anew (restart ${seen} of $restarts)"
                restarts_seen=${seen:-$restarts_seen}
                phase=$(kube get pods --selector "jaxchat=$name" --output 'jsonpath={.items[*].status.phase}' 2>/dev/null | tr ' ' '\n' | sort | uniq -c | xargs) || phase=
                [[ $phase == "$said" || -z $phase ]] || say "pods: $phase"
                said=$phase
                ;;
        esac
        pause
    done
}

how_it_failed() {
    local codes
    codes=$(kube get pods --selector "jaxchat=$name" --output 'jsonpath={.items[*].status.containerStatuses[?(@.name=="train")].state.terminated.exitCode}' 2>/dev/null) || codes=
    case " $codes " in
        *' 2 '*) verdict=bad reason="the run refused its input (exit code 2); the last lines of its log say why" ;;
        *' 130 '*) verdict=interrupted reason="the run was interrupted" ;;
        *) verdict=failed reason="the JobSet failed: $(query '{.status.conditions[?(@.type=="Failed")].message}')" ;;
    esac
}

target_recover() { give_up "$reason"; }

target_status() {
    kube get jobset "$name"
    kube get pods --selector "jaxchat=$name"
}

target_logs() {
    while :; do
        look
        show_log
        [[ $found == ready && -z $state_word ]] || return 0
        pause
    done
}

target_fetch() {
    mkdir -p "$out/logs"
    if [[ -z $dry_run ]]; then
        for pod in $(kube get pods --selector "jaxchat=$name" --output name 2>/dev/null); do
            kube logs "$pod" --container train >"$out/logs/${pod#pod/}.log" 2>/dev/null || true
        done
    fi
    try gcloud storage rsync --recursive --exclude '^(checkpoints|compiled)/.*' "$bucket/$name" "$out" || { say "$bucket/$name could not be fetched: $(last_error)" && return 1; }
    say "results are in $out; the checkpoints stay in $bucket/$name/checkpoints"
}

target_stop() { target_down; }

target_down() {
    if [[ -n $dry_run ]]; then
        typed kubectl ${context:+--context "$context"} --namespace "$namespace" delete jobset/"$name" configmap/"$name" --ignore-not-found
        return
    fi
    kube delete "jobset/$name" "configmap/$name" --ignore-not-found >&2 2>"$errors" || {
        say "JobSet $name could not be deleted: $(last_error)"
        return 1
    }
    holding=
    say "JobSet $name is deleted; its nodes go when the node pool's autoscaling takes them (minutes; a pool without autoscaling stays and costs)"
}

# Targets whose hosts are reached by a shell (Cloud TPU, a machine with GPUs): the code, its packages and the data onto
# all of them, the run, its logs. The target says how: on_all COMMAND, on_first COMMAND, copy_to_all FILE NAME,
# copy_from_all NAME FOLDER, $hosts (their number), and machine_gone where a machine can be taken away.
# shellcheck shell=bash disable=SC2034,SC2154  # the variables are launch.sh's

remote() { # the words of a command that worker.sh runs on a host
    local verb=$1
    shift
    typed bash "jaxchat/$name/code/cloud/worker.sh" "$name" "$verb" "$@"
}

# The code as it stands here, edits included, in one archive: the same bytes for every host.
pack_code() {
    local files=() listed
    if listed=$(git -C "$root" ls-files -co --exclude-standard 2>/dev/null) && [[ -n $listed ]]; then
        while IFS= read -r file; do [[ -e $root/$file ]] && files+=("$file"); done <<<"$listed"
    else
        files=(jaxchat cloud configs tools pyproject.toml constraints.txt README.md LICENSE)
    fi
    mkdir -p "$state/config/launched"
    cp "$config" "$state/config/launched/"
    tar -C "$root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$state/code.tar" "${files[@]}"
    tar -C "$state/config" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -rf "$state/code.tar" launched
    gzip -nf "$state/code.tar"
}

send_code() {
    local sum=CHECKSUM archive=jaxchat-$name.tar.gz
    if [[ -z $dry_run ]]; then
        pack_code
        sum=$(sha256sum <"$state/code.tar.gz" | cut -d ' ' -f 1)
    fi
    say "copying the code to $hosts host(s)"
    copy_to_all "$state/code.tar.gz" "$archive" || give_up "the code could not be copied: $(last_error)"
    # Unpacked beside the old and exchanged whole, so that a torn copy is never run.
    on_all "set -e; echo '$sum  $archive' | sha256sum -c --quiet; mkdir -p jaxchat/$name; cd jaxchat/$name; rm -rf new old; mkdir new; tar -xzf ../../$archive -C new; if [ -d code ]; then mv code old; fi; mv new code; rm -rf old" ||
        give_up "the code did not arrive whole on every host: $(last_error)"
}

prepare_hosts() {
    local source folder
    send_code
    say "installing jaxchat[$extras] on $hosts host(s), minutes the first time"
    on_all "$(remote install "$extras")" || give_up "jaxchat could not be installed on every host: $(last_error)"
    if [[ -n $bucket ]]; then
        on_all "$(remote mount "${bucket_name:-}")" || give_up "the bucket could not be mounted on every host: $(last_error)"
    fi
    for source in "${data[@]}"; do
        folder=$(basename "$source")
        say "staging $source to the disk of $hosts host(s)"
        if [[ $source == *://* ]]; then
            on_all "$(remote stage "$source" "$folder")" || give_up "$source could not be staged on every host: $(last_error)"
        else
            { on_all "mkdir -p jaxchat/$name/data" && copy_to_all "$source" "jaxchat/$name/data/"; } ||
                give_up "$source could not be copied to every host: $(last_error)"
        fi
    done
}

# What `jaxchat train` is told on every host, in $train: paths are seen from the code's folder.
train_words() {
    local source
    train=("launched/$(basename "$config")" --run "$run_folder")
    if ((${#data[@]})); then
        train+=(--sources)
        for source in "${data[@]}"; do train+=("../data/$(basename "$source")"); done
    fi
    train+=("${fields[@]}")
}

start_hosts() {
    local take=${take_over:-leave}
    train_words
    say "starting the run on $hosts host(s)"
    on_all "$(remote start "$restarts" "$take" "${train[@]}")" || give_up "the run could not be started on every host: $(last_error)"
}

stop_hosts() { on_all "$(remote stop)" || say "the run could not be stopped on every host: $(last_error)"; }

# What the hosts say of the run into $verdict: none, running, done, bad, interrupted, failed, lost, silent; why into
# $reason.
hosts_verdict() {
    # Before the code is there, nothing can run.
    local ask
    ask="if [ -d jaxchat/$name/code ]; then $(remote status); else echo jaxchat-status \$(hostname) none; fi"
    local who word detail answered=0 running=0 none=0 finished=0 lost='' ended=''
    verdict=silent reason="not every host answers: $(last_error)"
    if [[ -n $dry_run ]]; then
        on_all "$ask"
        verdict='done'
        return
    fi
    on_all "$ask" >"$state/status" || { [[ -s $state/status ]] || return 0; }
    while read -r _ who word detail; do
        answered=$((answered + 1))
        case $word in
            none) none=$((none + 1)) ;;
            running)
                running=$((running + 1))
                checksum=$detail
                ;;
            lost) lost=$who ;;
            ended)
                case $detail in
                    0) finished=$((finished + 1)) ;;
                    2) ended="bad $who" && break ;;
                    130) ended="interrupted $who" ;;
                    *) ended=${ended:-"failed $who $detail"} ;;
                esac
                ;;
        esac
    done < <(grep '^jaxchat-status ' "$state/status")
    read -r word who detail <<<"$ended"
    if [[ -n $ended ]]; then
        verdict=$word
        case $word in
            bad) reason="the run refused its input on $who (exit code 2); the last lines of its log say why" ;;
            interrupted) reason="the run was interrupted on $who" ;;
            failed) reason="the run on $who ended with exit code $detail after all its restarts" ;;
        esac
    elif [[ -n $lost ]]; then
        verdict=lost reason="$lost lost its run, as after a reboot"
    elif ((answered < hosts)); then
        verdict=silent reason="$answered of $hosts hosts answer"
    elif ((finished == hosts)); then
        verdict='done'
    elif ((none == hosts)); then
        verdict=none
    elif ((none)); then
        verdict=lost reason="the run is on $running of $hosts hosts only"
    else
        verdict=running
    fi
}

# Prints what the first host's log has beyond what was printed.
show_log() {
    if [[ -n $dry_run ]]; then
        on_first "$(remote log 0)"
        return
    fi
    on_first "$(remote log "$shown")" >"$state/part" 2>/dev/null || return 0
    cat "$state/part"
    shown=$((shown + $(wc -c <"$state/part")))
}

# Follows a run that is under way, or makes the hosts ready for one.
take_or_prepare() {
    hosts_verdict
    if [[ $verdict == running && -z $dry_run ]]; then
        train_words
        [[ $checksum == "$(printf '%s\n' "${train[*]}" | cksum | cut -d ' ' -f 1)" ]] ||
            refuse "$name runs another command; follow it with \`$self logs --name $name\`, end it with \`$self stop --name $name\`, or choose another --name"
        say "$name runs already: following it"
        attached=1
        return
    fi
    [[ $verdict != lost ]] || stop_hosts
    prepare_hosts
}

# Follows the run to its end, its log included: $verdict is done, bad, interrupted, failed, lost, silent, or taken.
follow_hosts() {
    local silent=0
    shown=0
    while :; do
        if [[ -z $dry_run && $(type -t machine_gone) ]] && machine_gone; then
            verdict=taken reason="$name was taken away ($state_word)"
            return
        fi
        show_log
        hosts_verdict
        case $verdict in
            running) silent=0 ;;
            silent)
                silent=$((silent + 1))
                ((silent < ${JAXCHAT_SILENT_LOOKS:-30})) || return 0
                ;;
            *)
                show_log
                return
                ;;
        esac
        pause
    done
}

fetch_logs() {
    mkdir -p "$out/logs"
    copy_from_all "jaxchat/$name/log" "$out/logs" || say "not every host's log could be fetched: $(last_error)"
}

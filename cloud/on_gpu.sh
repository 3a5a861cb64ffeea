# One machine with one or more GPUs, reached over ssh, or this one (localhost): one process uses all its GPUs.
# shellcheck shell=bash disable=SC2034,SC2154  # the variables are launch.sh's

target_check() {
    need host "$host" "[USER@]HOST of the machine, or localhost"
    [[ $host == localhost ]] || need_program ssh "it comes with openssh-client"
    hosts=1 machine="the run on $host" cost="what $host costs while it is on"
    run_folder=../run
    [[ -z $bucket ]] || refuse "--bucket is for machines that are taken away; the run's folder stays on $host"
}

target_up() { holding=; }

on_all() {
    if [[ $host == localhost ]]; then
        call bash -c "cd ~ && $1" 2>"$errors" </dev/null
    else
        call ssh -o BatchMode=yes -o ConnectTimeout=20 "$host" "$1" 2>"$errors" </dev/null
    fi
}

on_first() { on_all "$1"; }

copy_to_all() {
    if [[ $host == localhost ]]; then call cp -r "$1" "$HOME/$2" 2>"$errors"; else try scp -rq "$1" "$host:$2"; fi
}

copy_from_all() {
    if [[ $host == localhost ]]; then
        call cp -r "$HOME/$1" "$2/localhost.log" 2>"$errors"
    else
        try scp -rq "$host:$1" "$2/${host#*@}.log"
    fi
}

target_send() {
    on_all true || give_up "$host does not answer over ssh: $(last_error)"
    take_or_prepare
}

target_start() {
    [[ -n $attached ]] || start_hosts
    attached='' holding=1
}

target_watch() {
    follow_hosts
    [[ $verdict == silent ]] || holding=
}

target_recover() { stop_hosts; }
target_stop() { stop_hosts; }
target_status() { on_all "$(remote status)"; }
target_logs() { follow_hosts; }

target_fetch() {
    fetch_logs
    copy_folder "jaxchat/$name/run" || { say "the run's folder could not be fetched: $(last_error)" && return 1; }
    say "results are in $out"
}

copy_folder() {
    if [[ $host == localhost ]]; then call cp -r "$HOME/$1/." "$out" 2>"$errors"; else try scp -rq "$host:$1/." "$out"; fi
}

# Ends the run if it goes on. Its folder stays: the machine is not launch.sh's.
target_down() {
    stop_hosts
    say "nothing of $name runs on $host any more; its folder there is ~/jaxchat/$name"
    holding=
}

#!/usr/bin/env bash
# Runs a training command again for as long as its exit code asks for it: the one place that knows the contract of
# `jaxchat train`, shared by all targets that have no restarts of their own.
#   supervise.sh [--restarts N] COMMAND [ARGUMENT ...]
#     0    done                                      2    input it cannot use: never again, it would only fail again
#     143  saved after SIGTERM: again                130  Ctrl-C: a person wants it to end
#     75   another process of the run was lost: again
#     else a failure: again, N times at most (5 otherwise)
# 143 and 75 after less than five minutes count as failures as well, so that what cannot run does not cost money for ever.
# SIGTERM to this script goes to the command, which saves, and is the end of both: the machine is being taken away.
set -uo pipefail

restarts=5
short=${JAXCHAT_SHORT_RUN:-300}   # seconds under which a lost process or a stop counts as a failure
pause=${JAXCHAT_RESTART_PAUSE:-10} # seconds, times the failures so far
if [[ ${1:-} == --restarts ]]; then
    restarts=$2
    shift 2
fi
(($#)) || { echo "supervise.sh needs a command to run" >&2 && exit 2; }

told=
child=
pass_on() {
    told=1
    [[ -z $child ]] || kill -s "$1" "$child" 2>/dev/null
}
trap 'pass_on TERM' TERM
trap 'pass_on INT' INT

failures=0
for ((attempt = 1; ; attempt++)); do
    began=$SECONDS
    "$@" &
    child=$!
    wait "$child"
    code=$?
    while kill -0 "$child" 2>/dev/null; do # a trapped signal ends `wait` before the command has ended
        wait "$child"
        code=$?
    done
    child=
    lasted=$((SECONDS - began))
    [[ -z $told ]] || exit "$code"
    case $code in
        0 | 2 | 130) exit "$code" ;;
        143) why="it was told to stop and saved" ;;
        75) why="another process of the run was lost" ;;
        *) why="it failed" ;;
    esac
    if [[ $code != 143 && $code != 75 ]] || ((lasted < short)); then
        failures=$((failures + 1))
    fi
    if ((failures > restarts)); then
        echo "supervise: attempt $attempt ended with $code after $lasted s ($why); given up after $restarts restarts" >&2
        exit "$code"
    fi
    echo "supervise: attempt $attempt ended with $code after $lasted s ($why); starting it again (failure $failures of $restarts)" >&2
    sleep "$((failures * pause))" &
    child=$!
    wait "$child"
    child=
    [[ -z $told ]] || exit 143
done

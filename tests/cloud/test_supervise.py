"""supervise.sh: what a run's exit code leads to."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

SUPERVISE = Path(__file__).parents[2] / "cloud/supervise.sh"
ENV = {"PATH": "/usr/bin:/bin", "JAXCHAT_RESTART_PAUSE": "0"}


def supervised(tmp_path, codes, *options, short="0"):
    """Runs a command that ends with one of `codes` after the other; its exit status, and how often it ran."""
    command = 'echo x >>"$0/ran"; n=$(wc -l <"$0/ran"); shift $((n - 1)); exit "${1:-0}"'
    words = ["bash", SUPERVISE, *options, "bash", "-c", command, tmp_path, *map(str, codes)]
    ended = subprocess.run(words, env=ENV | {"JAXCHAT_SHORT_RUN": short}, timeout=30, capture_output=True, text=True)
    return ended.returncode, (tmp_path / "ran").read_text().count("x"), ended.stderr


@pytest.mark.parametrize("code", [0, 2, 130])
def test_an_end_that_is_final_is_not_repeated(tmp_path, code):
    assert supervised(tmp_path, [code, 1])[:2] == (code, 1)


def test_a_saved_run_and_a_lost_peer_go_on_without_limit(tmp_path):
    assert supervised(tmp_path, [143, 75] * 6 + [0], "--restarts", "1")[:2] == (0, 13)


def test_failures_are_repeated_a_bounded_number_of_times(tmp_path):
    code, ran, errors = supervised(tmp_path, [1, 75, 134, 143, 9, 1, 1], "--restarts", "2")
    assert (code, ran) == (9, 5)
    assert "given up after 2 restarts" in errors


def test_a_peer_that_is_lost_at_once_again_and_again_is_a_failure(tmp_path):
    assert supervised(tmp_path, [75] * 9, "--restarts", "3", short="60")[:2] == (75, 4)


def test_sigterm_goes_to_the_run_which_saves_and_is_the_end(tmp_path):
    run = 'trap "echo saved; exit 143" TERM; touch "$0/up"; while :; do sleep 0.05; done'
    process = subprocess.Popen(
        ["bash", SUPERVISE, "bash", "-c", run, tmp_path], env=ENV, stdout=subprocess.PIPE, text=True
    )
    while not (tmp_path / "up").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 143 and out == "saved\n"

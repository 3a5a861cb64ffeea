"""A sample of what tools/kill_arena.py does."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.tool import TOOLS


@pytest.mark.slow
def test_a_server_that_is_killed_three_times_loses_and_doubles_no_rating(tmp_path):
    command = [sys.executable, TOOLS / "kill_arena.py", "--out", tmp_path / "out", "--kills", "3", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills" in done.stdout and "none lost, none doubled" in done.stdout

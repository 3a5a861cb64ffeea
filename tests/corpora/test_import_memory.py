"""Memory does not grow with the file: a 120 MB sample here, and with tools/import_memory.py any size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_dump_is_imported_in_memory_that_does_not_grow_with_it():
    # A process of its own: what it starts would otherwise count the memory of this one, from which it was forked.
    tool = Path(__file__).parents[2] / "tools" / "import_memory.py"
    command = [sys.executable, str(tool), "--megabytes", "120", "--limit", "250"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

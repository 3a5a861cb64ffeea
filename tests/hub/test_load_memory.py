"""No step needs a model on the host beside its arrays: measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools/load_memory.py"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells a process's peak")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_reading_takes_the_arrays_and_little_more(dtype: str) -> None:
    asked = ["--gigabytes", "0.4", "--shards", "4", "--dtype", dtype, "--json", "-"]
    done = subprocess.run([sys.executable, TOOL, *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["devices"] == 8 and found["above"] <= found["arrays"] + 1.3 * found["largest_file"]

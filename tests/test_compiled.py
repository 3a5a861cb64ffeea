"""What was compiled is kept where it was asked for, and only whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COMPILE = """
import sys
from pathlib import Path
import jax
from jaxchat.compiled import drop_torn, keep_compiled
found = []
jax.monitoring.register_event_listener(lambda event, **_: found.append(event) if event.endswith("cache_hits") else None)
folder = Path(sys.argv[1])
drop_torn(folder)
keep_compiled(folder)
jax.jit(lambda x: 2 * x + 1)(jax.numpy.float32(3))
print("found", len(found))
"""


def _compile(folder: Path) -> int:
    """How many of its programs a process finds there."""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", COMPILE, str(folder)],
        env=environment | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.split()[-1])


def test_a_start_finds_what_the_last_one_compiled_and_mends_what_was_torn(tmp_path: Path):
    assert _compile(tmp_path) == 0
    kept = sorted(tmp_path.glob("*-cache"))
    assert kept and _compile(tmp_path) == len(kept)
    whole = kept[0].read_bytes()
    kept[0].write_bytes(whole[: len(whole) // 2])
    assert _compile(tmp_path) == len(kept) - 1
    assert _compile(tmp_path) == len(kept), "it was written anew"

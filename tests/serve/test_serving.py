"""A sample of what tools/check_serving.py, check_openapi.py and check_schemas.py do, on a server of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.tool import TOOLS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("check_serving", ("--requests", "150", "--clients", "30")),
        ("check_openapi", ("--cases", "150")),
        ("check_schemas", ("--count", "25")),
    ],
)
def test_a_sample_holds(name: str, options: tuple[str, ...]):
    done = subprocess.run([sys.executable, TOOLS / f"{name}.py", *options], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr

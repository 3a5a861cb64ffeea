"""Memory does not grow with the file: a 120 MB sample here, and with tools/import_memory.py any size."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_dump_is_imported_in_memory_that_does_not_grow_with_it():
    path = Path(__file__).parents[2] / "tools" / "import_memory.py"
    spec = importlib.util.spec_from_file_location("import_memory", path)
    assert spec and spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    large = tool.measure(120)
    assert large["rows"] == large["rows_in"] == large["rows_accounted_for"] and large["conversations"] > 10_000
    assert large["peak_megabytes"] < 250

"""A process asks for large pages by beginning again, once, as itself, and only where the kernel waits to be asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
from pathlib import Path
from jaxchat import large_pages

print(os.getpid(), sys.argv[2:], os.environ.get("GLIBC_TUNABLES"), flush=True)
large_pages.SWITCH = Path(sys.argv[1])
large_pages.begin_again_with_large_pages()
print("on we go")
"""


def _run(switch: Path, **more: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"} | more
    command = [sys.executable, "-c", PROGRAM, str(switch), "two words", "--flag"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


def test_it_begins_again_once_with_the_same_arguments_and_process_id(tmp_path: Path):
    switch = tmp_path / "enabled"
    switch.write_text("always [madvise] never\n")
    first, second, last = _run(switch)
    assert second == first.replace("None", "glibc.malloc.hugetlb=1")
    assert "['two words', '--flag']" in first
    assert last == "on we go"


@pytest.mark.parametrize("mode", ["[always] madvise never", "always madvise [never]", None])
def test_it_goes_on_where_asking_is_of_no_use(tmp_path: Path, mode: str | None):
    switch = tmp_path / "enabled"
    if mode:
        switch.write_text(mode)
    first, last = _run(switch)
    assert "None" in first
    assert last == "on we go"


def test_what_the_user_set_stays(tmp_path: Path):
    switch = tmp_path / "enabled"
    switch.write_text("always [madvise] never\n")
    first, _ = _run(switch, GLIBC_TUNABLES="glibc.malloc.check=0")
    assert "glibc.malloc.check=0" in first

"""Memory in large pages, for programs that compute on a CPU under Linux.

A training step there takes gigabytes from the kernel and gives them back, and in pages of 4 KB that is a sixth of its
time. glibc asks for pages of 2 MB only where it is told to before a process begins.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

TUNABLE = "GLIBC_TUNABLES"
SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def begin_again_with_large_pages() -> None:
    """Replaces this process by itself, asking for large pages. Returns where that is done already, or of no use."""
    if TUNABLE in os.environ or not sys.executable or not SWITCH.exists() or "[madvise]" not in SWITCH.read_text():
        return
    os.environ[TUNABLE] = "glibc.malloc.hugetlb=1"
    os.execv(sys.executable, sys.orig_argv)

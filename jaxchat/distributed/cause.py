"""Why all processes of a run stop, as one of them saw it."""

from __future__ import annotations

import signal
from dataclasses import dataclass

# Exit statuses that a launcher knows: 0 done, 143 and 130 saved and stopped as asked, 2 input that no restart mends,
# and this (EX_TEMPFAIL of sysexits.h): a process was lost, and the same command goes on.
LOST = 75
REFUSED = 2


@dataclass(frozen=True)
class Cause:
    """What became of `process`, in words, and the exit status it means for all.

    rank: how likely others saw mere consequences of it, 0 the most. A killed process makes its peers fail, and never
    the other way about.
    """

    rank: int
    process: int
    code: int
    text: str


def of_exit(code: int, process: int, who: str, why: str = "") -> Cause | None:
    """What a worker's exit code (as subprocess gives it: -9 for SIGKILL) means for the others; None for a good end."""
    if code in (0, 128 + signal.SIGTERM, 128 + signal.SIGINT):
        return None
    if code == REFUSED:
        return Cause(0, process, REFUSED, f"{who} refused its input{f': {why}' if why else ''}")
    if code == -signal.SIGKILL:
        return Cause(0, process, LOST, f"{who} was killed (SIGKILL, by hand or for want of memory)")
    if code < 0:
        return Cause(3, process, LOST, f"{who} ended by {signal.Signals(-code).name}")
    if code == LOST:
        return Cause(3, process, LOST, f"{who} lost its connection with the others")
    return Cause(2, process, code, f"{who} ended with an error (exit status {code}); its own log says which")

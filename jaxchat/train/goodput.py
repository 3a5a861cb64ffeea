"""Goodput: the share of a run's wall time that went into steps it still has, and what the rest went into.

RUN/goodput.jsonl is only ever added to: a line when an attempt begins, a line a step with the seconds by cause since
the line before, a line when it ends. What a kill undid stays in it, which metrics.jsonl forgets. From it comes
RUN/goodput.json, which counts from the begin of the first attempt to the end of the last:

useful       seconds in steps that were kept: compute
input        waiting for a batch            compile, restore, start    before the first step of each attempt
checkpoint   the loop waiting for a save    eval, samples              between steps
redone       steps lost with what ended an attempt, done again by a later one
down         from the last sign of an attempt to the begin of the next
other        between the last step of an attempt and its end
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxchat.files import replacing

LOG, REPORT = "goodput.jsonl", "goodput.json"


class TimeLog:
    """Adds to RUN/goodput.jsonl as an attempt goes on. writes: on the first of several processes alone."""

    def __init__(self, run: Path, *, began: float, restored: int | None, writes: bool = True) -> None:
        self.run = run
        self._file = (run / LOG).open("a", encoding="utf-8") if writes else None
        if self._file is not None and self._file.tell():
            self._file.write("\n")  # a line that a kill tore ends here
        self._write({"began": began, "restored": restored or 0})

    def step(self, step: int, spent: Mapping[str, float]) -> None:
        self._write({"step": step, "at": time.time(), "spent": _rounded(spent)})

    def close(self, spent: Mapping[str, float]) -> dict[str, Any] | None:
        """Ends the attempt, and writes RUN/goodput.json, which it returns (None where it does not write)."""
        self._write({"at": time.time(), "spent": _rounded(spent)})
        if self._file is None:
            return None
        self._file.close()
        return write_report(self.run)

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()  # survives the process, however it ends


def write_report(run: Path) -> dict[str, Any]:
    """RUN/goodput.json from RUN/goodput.jsonl; returns it."""
    report = account(read(run))
    with replacing(run / REPORT) as file:
        json.dump(report, file, indent=2)
    return report


def read(run: Path) -> list[dict[str, Any]]:
    """The whole lines of RUN/goodput.jsonl."""
    lines = []
    for text in (run / LOG).read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue  # torn by a kill
    return lines


def account(lines: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """`seconds` in all, `goodput` (a share of them), `by_cause`, `attempts`, `steps` kept and `steps_redone`."""
    lines = list(lines)
    causes: dict[str, float] = {"useful": 0.0}
    kept: dict[int, float] = {}  # compute seconds of the steps that stand
    attempts = redone = 0
    last = lines[0]["began"]
    for line in lines:
        if "began" in line:
            attempts += 1
            _add(causes, "down", line["began"] - last)
            last = max(last, line["began"])
            lost = [step for step in kept if step > line["restored"]]
            redone += len(lost)
            _add(causes, "redone", sum(kept.pop(step) for step in lost))
            continue
        spent = dict(line["spent"])
        if "step" in line:
            kept[line["step"]] = spent.pop("compute", 0.0)
        _add(causes, "other", spent.pop("compute", 0.0))
        for cause, seconds in spent.items():
            _add(causes, cause, seconds)
        last = line["at"]
    causes["useful"] = sum(kept.values())
    seconds = last - lines[0]["began"]
    return {
        "seconds": round(seconds, 3),
        "goodput": round(causes["useful"] / seconds, 4) if seconds > 0 else 0.0,
        "by_cause": {cause: round(causes[cause], 3) for cause in sorted(causes, key=lambda c: -causes[c])},
        "attempts": attempts,
        "steps": len(kept),
        "steps_redone": redone,
    }


def sentence(report: Mapping[str, Any]) -> str:
    """`goodput 61 % of 201 s in 4 attempts: useful 123 s, down 34 s, ...; 7 steps redone`."""
    causes = ", ".join(f"{cause} {seconds:.1f} s" for cause, seconds in report["by_cause"].items() if seconds >= 0.05)
    tries = f" in {report['attempts']} attempts" if report["attempts"] > 1 else ""
    again = f"; {report['steps_redone']} steps redone" if report["steps_redone"] else ""
    return f"goodput {report['goodput']:.0%} of {report['seconds']:.0f} s{tries}: {causes}{again}"


def _add(causes: dict[str, float], cause: str, seconds: float) -> None:
    if seconds > 0:
        causes[cause] = causes.get(cause, 0.0) + seconds


def _rounded(spent: Mapping[str, float]) -> dict[str, float]:
    return {cause: round(seconds, 6) for cause, seconds in spent.items()}

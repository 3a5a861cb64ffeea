"""What is known of a run, read from its folder: while it goes on, when it has ended, however it was interrupted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxchat.errors import InputError
from jaxchat.files import replacing
from jaxchat.train import goodput
from jaxchat.train.divergence import Detour, Detours
from jaxchat.train.folder import RESOLVED, RunFolder
from jaxchat.train.metrics import Record, read_metrics

PAGE, EVALS = "report.html", "evals"


@dataclass(frozen=True)
class RunReport:
    """saved: config.json. steps, held_out: of metrics.jsonl, in order. spent: goodput.json's content so far; None where
    nothing began. seen: Unix time of the last sign of life. samples: of samples.jsonl. evaluations: what each file of
    RUN/evals holds, by name; unread: why others are not among them."""

    name: str
    saved: dict[str, Any]
    steps: list[Record]
    held_out: list[Record]
    detours: list[Detour]
    spent: dict[str, Any] | None
    seen: float | None
    samples: list[Record]
    evaluations: dict[str, dict[str, Any]]
    unread: dict[str, str]

    @property
    def step(self) -> int:
        """The last that was made."""
        return self.steps[-1]["step"] if self.steps else 0

    @property
    def of_steps(self) -> int:
        return int(self.saved[RESOLVED]["steps"])

    @property
    def finished(self) -> bool:
        return self.step >= self.of_steps

    def to_json(self) -> dict[str, Any]:
        """The outcome, for programs; the rest stands in the run's own files."""
        return {
            "step": self.step,
            "steps": self.of_steps,
            "finished": self.finished,
            "held_out": self.held_out[-1]["eval"] if self.held_out else None,
            "evaluations": list(self.evaluations),
            "unread": self.unread,
        }


def write_report(run: Path, out: Path | None = None) -> RunReport:
    """Writes the page of the run in `run` to `out`, RUN/report.html by default, and returns what it shows.

    Raises InputError where no run has begun, or its config cannot be read.
    """
    from jaxchat.run.report_page import page

    found = read_report(run)
    with replacing(out or run / PAGE) as file:
        file.write(page(found))
    return found


def read_report(run: Path) -> RunReport:
    """Raises InputError where no run has begun in `run`, or its config cannot be read."""
    folder = RunFolder(run)
    if not run.is_dir():
        raise InputError(f"there is no folder {run}; name a run's folder")
    saved = folder.saved()
    if saved is None:
        raise InputError(f"{run} holds no run: there is no config.json that `jaxchat train` writes when one begins")
    if "steps" not in saved[RESOLVED]:
        raise InputError(f"{run / 'config.json'} does not say how many steps the run has; it is not whole")
    records = [record for record in read_metrics(folder.metrics) if isinstance(record, dict) and "step" in record]
    lines = goodput.read(run) if (run / goodput.LOG).exists() else []
    evaluations, unread = _evaluations(run / EVALS)
    return RunReport(
        name=run.resolve().name,
        saved=saved,
        steps=[record for record in records if "loss" in record],
        held_out=[record for record in records if "eval" in record],
        detours=Detours(run, writes=False).taken,
        spent=goodput.account(lines) if lines else None,
        seen=max((line.get("at", line.get("began", 0.0)) for line in lines), default=None),
        samples=[sample for sample in read_metrics(folder.samples) if isinstance(sample, dict) and "prompt" in sample],
        evaluations=evaluations,
        unread=unread,
    )


def _evaluations(folder: Path) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    found: dict[str, dict[str, Any]] = {}
    unread: dict[str, str] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            unread[path.name] = f"it cannot be read ({error})"
            continue
        if isinstance(value, dict):
            found[path.stem] = value
        else:
            unread[path.name] = "it holds no JSON object"
    return found, unread

"""What a run left in its folder, and ways to end one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

SECONDS = ("seconds", "time", "tokens_per_second")  # what may differ between two runs of the same command


def lines(run: Path) -> list[dict]:
    """metrics.jsonl without what is measured in seconds."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in SECONDS} for line in lines]


def samples(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]


def files(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, how: Callable[[], None]) -> None:
    from jaxchat.train.session import Session

    observe = Session._observe

    def then_stop(self: Session, number: int, metrics: dict[str, float], spent: dict[str, float]) -> None:
        if number == step:
            how()
        observe(self, number, metrics, spent)

    monkeypatch.setattr(Session, "_observe", then_stop)


def fall_over() -> None:
    raise RuntimeError("the power is gone")

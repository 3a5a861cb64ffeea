from __future__ import annotations

from pathlib import Path

import pytest

from jaxchat.train.clock import Clock
from jaxchat.train.goodput import LOG, TimeLog, account, read, sentence


def test_every_second_is_booked_once_and_the_inner_cause_gets_it():
    now = iter([0.0, 1.0, 3.0, 7.0, 8.0, 16.0, 16.0])
    turns: list[str] = []
    clock = Clock("compute", turns.append, now=lambda: next(now))
    with clock.on("eval"):  # from 1
        with clock.on("compile"):  # from 3
            pass  # until 7
    # eval until 8, compute until 16
    assert clock.take() == {"compute": 9.0, "eval": 3.0, "compile": 4.0}
    assert turns == ["eval", "compile", "eval", "compute"]
    assert clock.take() == {"compute": 0.0}


LINES = [
    {"began": 100.0, "restored": 0},
    {"step": 1, "at": 110.0, "spent": {"compile": 8.0, "compute": 2.0}},
    {"step": 2, "at": 113.0, "spent": {"input": 1.0, "compute": 2.0}},
    {"step": 3, "at": 115.0, "spent": {"compute": 2.0}},
    # killed after step 3, which no checkpoint holds, and started again 5 s later
    {"began": 120.0, "restored": 2},
    {"step": 3, "at": 126.0, "spent": {"restore": 4.0, "compute": 2.0}},
    {"at": 127.0, "spent": {"checkpoint": 1.0}},
]


def test_lost_steps_and_down_time_are_no_good():
    report = account(LINES)
    causes = {
        "useful": 6.0,
        "compile": 8.0,
        "input": 1.0,
        "down": 5.0,
        "redone": 2.0,
        "restore": 4.0,
        "checkpoint": 1.0,
    }
    assert report["by_cause"] == causes
    assert report["seconds"] == 27.0 == sum(causes.values())
    assert report["goodput"] == pytest.approx(6 / 27, abs=1e-4)
    assert (report["attempts"], report["steps"], report["steps_redone"]) == (2, 3, 1)
    assert "down 5.0 s" in sentence(report) and "1 steps redone" in sentence(report)


def test_a_torn_line_is_passed_over(tmp_path: Path):
    TimeLog(tmp_path, began=1.0, restored=None).step(1, {"compute": 0.5})
    with (tmp_path / LOG).open("a") as file:
        file.write('{"step": 2, "at')
    report = TimeLog(tmp_path, began=2.0, restored=1).close({})
    assert report is not None and (report["attempts"], report["steps"]) == (2, 1)
    assert len(read(tmp_path)) == 4

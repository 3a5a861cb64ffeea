"""What steps are known to take, and what is thought of those that have not run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jaxchat.sample.times import Shape, Times

STEP = Shape("write", 4, 1, 512)


def test_neither_compiling_nor_a_slow_moment_counts():
    times = Times(1000, 1)
    for seconds in (9.0, 0.1, 0.2, 8.0):
        times.took(STEP, seconds)
    assert times.seconds(STEP) == 0.2
    for _ in range(4):
        times.took(STEP, 0.4)  # but what stays slow does
    assert times.seconds(STEP) == 0.4


def test_what_has_not_run_is_thought_as_slow_as_the_machine():
    times, wide = Times(1000, 1), replace(STEP, span=2048)
    assert times.seconds(STEP) == 0
    before = times.cost(wide) / times.cost(STEP)
    assert before > 1
    for seconds in (1.0, 0.5):
        times.took(STEP, seconds)
    assert times.cost(wide) / times.cost(STEP) == pytest.approx(before)
    assert times.seconds(wide) == times.cost(wide) > 0.5

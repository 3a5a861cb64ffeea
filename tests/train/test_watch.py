from __future__ import annotations

import math

import pytest

from jaxchat.train.watch import ENOUGH, WINDOW, Watch


@pytest.mark.parametrize("loss, grad_norm", [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, math.inf)])
def test_what_is_not_a_number_is_named(loss: float, grad_norm: float):
    assert Watch(spike=None).check(1, loss, grad_norm)


def test_a_jump_above_the_median_is_a_spike_and_noise_is_not():
    watch = Watch(spike=2.0)
    for step in range(200):
        assert watch.check(step, 3.0 + (step % 7) / 4, 1.0) is None
    assert watch.check(200, 6.0, 1.0)


def test_the_start_of_a_run_may_jump():
    watch = Watch(spike=2.0)
    for step in range(ENOUGH - 1):
        assert watch.check(step, 1.0, 1.0) is None
    assert watch.check(ENOUGH, 9.0, 1.0) is None


def test_a_restarted_watch_decides_as_one_that_never_stopped():
    losses = [5.0 - 0.02 * step for step in range(WINDOW + 20)]
    whole = Watch(spike=1.0)
    for step, loss in enumerate(losses):
        whole.check(step, loss, 1.0)
    restarted = Watch(spike=1.0, history=enumerate(losses))
    for step, loss in enumerate((4.9, 5.5, 5.9, 4.6), len(losses)):
        assert whole.check(step, loss, 1.0) == restarted.check(step, loss, 1.0)


def test_the_limit_of_a_step_is_the_same_before_and_after_the_step_before_it_is_known():
    watch = Watch(spike=1.0, history=[(step, 3.0 - step / 100) for step in range(40)])
    before = watch.limit(41)
    watch.check(40, 2.0, 1.0)
    assert watch.limit(41) == before
    assert watch.limit(42) < before

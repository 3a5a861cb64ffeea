"""A guess of a step, where it can be written down: of a mixture, whose experts the expert axis splits."""

from __future__ import annotations

from dataclasses import replace

import jax
import pytest

from jaxchat.mesh import MeshConfig
from jaxchat.models.config import Mixture
from jaxchat.models.presets import tiny
from jaxchat.plan.estimate import BYTES, Estimate, estimate
from jaxchat.plan.topology import Topology
from jaxchat.plan.work import Phase, Setting, Work

DENSE = tiny()
MIXED = replace(DENSE, mlp=Mixture(experts=8, chosen=2))
EXPERT = 3 * MIXED.width * MIXED.hidden  # parameters
COMMON = MIXED.parameters - MIXED.layers * 8 * EXPERT
ROWS, LENGTH = 8, 16


class Here(Topology):
    """Eight of the devices that are here, as if they were GPUs."""

    devices = property(lambda self: jax.devices()[:8])


def guessed(model, slices: int = 1, **axes: int) -> Estimate:
    """Of a step that computes nothing and holds nothing: what is left is its working memory and what is sent."""
    phase = Phase("train", lambda: None, {"parameters": []}, list, flops=0.0, computed=0.0, tokens=ROWS * LENGTH)
    setting = Setting(MeshConfig(**axes, slices=slices), ROWS)
    made = estimate(
        Work(setting, model, LENGTH, 1, lambda setting, mesh: [phase]),
        setting,
        Here("", "h100", (8 // slices,), slices),
    )
    assert made is not None
    return made


@pytest.mark.parametrize("split", [2, 4, 8])
def test_a_device_works_with_its_part_of_the_experts(split):
    whole, part = guessed(MIXED, data=8), guessed(MIXED, data=8 // split, expert=split)
    assert whole.bytes - part.bytes == 2 * BYTES * EXPERT * (8 - 8 // split)
    assert guessed(DENSE, data=8).bytes == guessed(DENSE, data=8 // split, expert=split).bytes


def test_experts_that_are_split_are_not_sent_but_their_tokens_are():
    link, network = Here("", "h100", (8,), 1).chip.link, Here("", "h100", (8,), 1).chip.network
    experts = MIXED.layers * 8 * EXPERT
    tokens = 4 * MIXED.layers * ROWS * LENGTH * MIXED.width * BYTES / link  # of all devices of the axis, shown to each
    assert guessed(MIXED, data=8).seconds == pytest.approx(2 * (COMMON + experts) * BYTES / (2 * link))
    assert guessed(MIXED, expert=8).seconds == pytest.approx(2 * COMMON * BYTES / (2 * link) + tokens)
    passes = 4 + 2  # what fsdp gathers, and the sum of gradients
    both = passes * (COMMON + experts / 4) * BYTES / (2 * link) + tokens / 2
    assert guessed(MIXED, fsdp=2, expert=4).seconds == pytest.approx(both)
    across = 2 * (COMMON + experts) / 4 * BYTES / network  # each chip of a slice with its part
    sliced = 2 * (COMMON + experts / 4) * BYTES / (2 * link) + tokens / 2 + across
    assert guessed(MIXED, slices=2, expert=4).seconds == pytest.approx(sliced)

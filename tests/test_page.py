"""The parts that pages of results are made of."""

from __future__ import annotations

import pytest

from jaxchat.page import in_short


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0"), (36_188, "36,188"), (999_999, "999,999"), (1_000_000, "1.000 M"), (134_515_008, "134.5 M"),
        (4_884_480, "4.884 M"), (8_030_261_248, "8.030 B"), (671e9, "671.0 B"), (15e12, "15000 B"),
    ],
)  # fmt: skip
def test_counts_are_said_in_four_places(count, said):
    assert in_short(count) == said

"""Prices come from a table that its user can edit."""

from __future__ import annotations

import pytest

from jaxchat.errors import InputError
from jaxchat.plan.chips import CHIPS
from jaxchat.plan.prices import TABLE, prices


def test_every_chip_has_a_price_and_a_table_overrides_what_it_names(tmp_path):
    assert set(prices()) == set(CHIPS)
    (tmp_path / "mine.toml").write_text("v5e = 0.5\n")
    assert prices(tmp_path / "mine.toml") == prices() | {"v5e": 0.5}


def test_a_copy_of_the_whole_table_may_be_edited(tmp_path):
    (tmp_path / "mine.toml").write_text(TABLE.read_text().replace("v5e = 1.20", "v5e = 0.5") + "v5e = 0.1\n")
    assert prices(tmp_path / "mine.toml") == prices() | {"v5e": 0.5}


@pytest.mark.parametrize("text", ["v5e 1", "v77 = 1", 'v5e = "1"', "v5e = -1"])
def test_what_is_no_price_is_refused(tmp_path, text):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(InputError, match=r"mine\.toml"):
        prices(tmp_path / "mine.toml")

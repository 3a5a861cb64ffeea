"""Drawing conversations so that languages have the shares asked for."""

from __future__ import annotations

import random

import pytest

from jaxchat.chat.language_balance import Text, draw, parse_shares
from jaxchat.errors import InputError

RNG = random.Random(1)
TEXTS = [Text(language, RNG.randint(50, 500), RNG.random()) for language in RNG.choices("abc", (70, 20, 10), k=3000)]


def test_the_scarcest_language_is_used_whole_and_the_others_by_their_shares() -> None:
    drawn = draw(TEXTS, parse_shares(["a=2", "b=1", "c=1"])).languages
    total = sum(row["drawn"] for row in drawn.values())
    assert drawn["c"]["drawn"] == drawn["c"]["bytes"]
    for language, share in (("a", 0.5), ("b", 0.25), ("c", 0.25)):
        assert drawn[language]["drawn"] / total == pytest.approx(share, abs=0.005)


def test_languages_not_named_are_left_out_or_share_what_other_gets() -> None:
    assert draw(TEXTS, parse_shares(["a=1", "b=1"])).languages["c"]["drawn"] == 0
    drawn = draw(TEXTS, parse_shares(["c=1", "other=3"]), most=40_000).languages
    total = sum(row["drawn"] for row in drawn.values())
    assert total == pytest.approx(40_000, rel=0.02)
    assert drawn["c"]["drawn"] / total == pytest.approx(0.25, abs=0.01)
    assert drawn["a"]["drawn"] > drawn["b"]["drawn"] > 0


def test_the_choice_depends_on_the_texts_and_not_on_their_order() -> None:
    chosen = {TEXTS[i] for i in draw(TEXTS, {"a": 0.5, "b": 0.5}, most=100_000).chosen}
    mixed = random.Random(2).sample(TEXTS, len(TEXTS))
    assert {mixed[i] for i in draw(mixed, {"a": 0.5, "b": 0.5}, most=100_000).chosen} == chosen
    more = {TEXTS[i] for i in draw(TEXTS, {"a": 0.5, "b": 0.5}, most=150_000).chosen}
    assert chosen < more


def test_without_shares_all_languages_are_drawn_from_alike() -> None:
    assert len(draw(TEXTS, {}).chosen) == len(TEXTS)
    drawn = draw(TEXTS, {}, most=200_000).languages
    assert sum(row["drawn"] for row in drawn.values()) == pytest.approx(200_000, rel=0.01)
    assert all(row["drawn"] for row in drawn.values())


def test_shares_that_cannot_be_had_are_refused() -> None:
    with pytest.raises(InputError, match="no text in zh; there is a"):
        draw(TEXTS, {"a": 0.5, "zh": 0.5})
    for word in ("en", "en=", "=3", "en=-1", "en=0", "en=inf", "en=nan", "en=x"):
        with pytest.raises(InputError, match="write LANGUAGE=SHARE"):
            parse_shares([word])

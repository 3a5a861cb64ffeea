from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from jaxchat.train.record import Difference, differences, to_json


@dataclass(frozen=True)
class _Cosine:
    end: float = 0.1


@dataclass(frozen=True)
class _Constant:
    end: float = 0.1


@dataclass(frozen=True)
class _Config:
    schedule: _Cosine | _Constant = _Cosine()
    sources: tuple[str, ...] = ("a", "b")
    cache: Path | None = None
    options: dict[str, int] | None = None
    lr: float = 2e-4


def test_what_json_gives_back_is_what_was_put_in():
    saved = to_json(_Config(cache=Path("x"), options={"n": 1}))
    assert json.loads(json.dumps(saved)) == saved


@pytest.mark.parametrize(
    "change, field",
    [
        ({"lr": 1e-4}, "lr"),
        ({"sources": ("a", "c")}, "sources.1"),
        ({"sources": ("a",)}, "sources.1"),
        ({"schedule": _Constant()}, "schedule.type"),
        ({"schedule": _Cosine(0.0)}, "schedule.end"),
        ({"cache": Path("x")}, "cache"),
        ({"options": {"n": 2}}, "options.n"),
    ],
)
def test_a_changed_field_is_named(change: dict, field: str):
    found = differences(to_json(_Config()), to_json(replace(_Config(), **change)))
    assert field in [difference.field for difference in found]


def test_nothing_differs_from_itself_and_ignored_fields_never_do():
    before, now = to_json(_Config()), to_json(_Config(schedule=_Cosine(0.5), lr=1.0))
    assert differences(before, before) == []
    assert differences(before, now, ignore=("schedule.*",)) == [Difference("lr", 2e-4, 1.0)]


def test_a_value_that_json_lacks_is_refused():
    with pytest.raises(TypeError, match="JSON cannot"):
        to_json({"key": object()})

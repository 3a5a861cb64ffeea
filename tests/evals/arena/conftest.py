"""Studies of made-up answers, and raters who know what they think."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jaxchat.evals.arena.assign import Desk, Next
from jaxchat.evals.arena.items import Folder, Prompt, open_folder
from jaxchat.evals.arena.making import write
from jaxchat.evals.arena.raters import invite
from jaxchat.evals.arena.store import Rating, Store
from jaxchat.evals.arena.study import Study, study_of

CHECK = {"prompt": "2 + 2?", "answers": ["Four.", "Fish."], "expected": "first"}


def study(models: Sequence[str] = ("m1", "m2"), **more: Any) -> Study:
    return study_of({"models": list(models), **more}, "test")


def prompts(models: Sequence[str], number: int) -> list[Prompt]:
    """Answers that tell their model to who knows: a letter each, and never its name."""
    said = [({"role": "user", "content": f"Question {i}?"},) for i in range(number)]
    return [
        Prompt(f"{i}", messages, {model: f"answer {i} **{letter}**" for model, letter in zip(models, "abcdef")})
        for i, messages in enumerate(said)
    ]


@dataclass
class Open:
    """A study with raters; `clock` is what its store takes for the time."""

    folder: Folder
    store: Store
    desk: Desk
    clock: list[float]

    def raters(self, number: int) -> list[int]:
        invite(self.store, [f"r{i}" for i in range(len(self.store.raters()), len(self.store.raters()) + number)])
        return [rater.id for rater in self.store.raters()]

    def say(self, rater: int, now: Next, verdict: str | None = None, scores: Mapping[str, int] | None = None,
            seconds: float = 10.0) -> None:  # fmt: skip
        assert now.shown is not None
        self.store.rate(rater, now.shown.key, now.shown.rated, Rating(verdict, scores or {}, "", seconds))


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Open]:
    """Writes a study of so many prompts and opens it."""

    def make(number: int = 4, models: Sequence[str] = ("m1", "m2"), **more: Any) -> Open:
        made = study(models, **more)
        place = tmp_path / f"study{len(list(tmp_path.iterdir()))}"
        write(made, [] if made.live else prompts(models, number), [], place)
        clock = [1000.0]
        folder = open_folder(place)
        store = Store(folder.ratings, lambda: clock[0])
        return Open(folder, store, Desk(folder, store, random.Random(0)), clock)

    return make


def drawn(rng: random.Random, apart: float, log_nu: float = -0.7) -> str:
    """A verdict as Davidson's model draws it, for strengths so far apart."""
    weights = [math.exp(apart / 2), math.exp(-apart / 2), math.exp(log_nu)]
    verdict = rng.choices(("first", "second", "tie"), weights)[0]
    return "both bad" if verdict == "tie" and rng.random() < 0.3 else verdict


def simulate(
    arena: Open, models: Mapping[str, float], raters: int, careless: set[int], seed: int, own: float = 0.0
) -> None:
    """Raters by their number, in turns, until nothing is left. The careless choose by chance, checks too. own: the
    standard deviation of what each rater, and each prompt, adds to a model's strength."""
    arena.store.read("PRAGMA synchronous = OFF")  # nobody pulls the plug here
    rng = random.Random(seed)
    lean: dict[Any, float] = {}

    def strength(model: str, rater: int, prompt: str) -> float:
        added = [lean.setdefault((model, of), rng.gauss(0, own)) for of in (rater, prompt)] if own else [0.0]
        return models[model] + sum(added)

    left = list(enumerate(arena.raters(raters)))
    while left:
        for one in list(left):
            i, rater = one
            now = arena.desk.next(rater)
            if now.state != "item":
                left.remove(one)
                continue
            assert now.item is not None
            if i in careless:
                verdict = rng.choice(("first", "second", "tie", "both bad"))
            elif now.item.trial:
                verdict = "first" if rng.random() < 0.97 else "tie"
            else:
                first, second = (strength(model, rater, now.item.prompt) for model in now.item.models)
                verdict = drawn(rng, first - second)
            arena.say(rater, now, verdict, seconds=rng.uniform(6, 20))

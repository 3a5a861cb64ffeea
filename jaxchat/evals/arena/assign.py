"""Who sees what: every item the planned number of times, no rater twice, order and sides by chance and yet even.

An item that is shown is kept for its rater until it is rated or its time is over, so that raters who work at the same
time do not rate an item more often than planned. Of the items that want ratings, those with fewest come first; among
them those of pairs of models with fewest, then those whose prompt this rater has not read; the rest is chance.
"""

from __future__ import annotations

import itertools
import json
import random
import secrets
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxchat.evals.arena.items import Folder, Item, Prompt, items_of, trials_of
from jaxchat.evals.arena.store import Shown, Store

State = Literal["item", "ask", "wait", "done"]
LIVE_ITEMS = 10  # of a rater who types the prompts, where the study says nothing


@dataclass(frozen=True)
class Next:
    """What a rater is to do: rate `shown`, type a prompt, come back once others have rated, or nothing more. done,
    total: items rated and all of them, practice left out."""

    state: State
    done: int
    total: int
    shown: Shown | None = None
    item: Item | None = None


class Desk:
    """Hands out the items of a study. rng: what chance decides."""

    def __init__(self, folder: Folder, store: Store, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()
        self.folder, self.study, self.store = folder, folder.study, store
        self._practice, self._checks = trials_of(self.study)
        self._trials = {item.id: item for item in (*self._practice, *self._checks)}
        self._asked: dict[str, Item] = {}
        self._turns: dict[int, threading.Lock] = defaultdict(threading.Lock)  # a rater's two windows, one by one

    def item(self, id: str) -> Item:
        """Any that was shown."""
        found = self._trials.get(id) or self.folder.items.get(id) or self._asked.get(id)
        if found is None:
            self._asked = asked_items(self.folder, self.store)
            found = self._asked[id]
        return found

    def next(self, rater: int) -> Next:
        """What is next, which is the same until it is done."""
        with self._turns[rater]:
            return self._next(rater)

    def _next(self, rater: int) -> Next:
        seconds = self.study.reserve_minutes * 60
        mine = self.store.shown_to(rater)
        done = sum(1 for shown in mine if shown.rated and not self.item(shown.item).practice)
        total = self._total(rater)
        open_ = next((shown for shown in mine if not shown.rated), None)
        if open_ is not None and self._goes_on(open_, seconds):
            return self._showing(open_, done, total)
        seen = {shown.item for shown in mine}
        trial = next((item for item in self._practice if item.id not in seen), None)
        if trial is None and done in self._places(rater):
            trial = next((item for item in self._checks if item.id not in seen), None)
        chosen: Item | State
        if trial is not None:
            chosen = trial
            rng = random.Random(f"{self.study.seed} {rater} {trial.id}")
            with self.store.writing() as db:
                self.store.show(db, rater, trial.id, rng.random() < 0.5, seconds)
        elif done >= total:
            return Next("done", done, done)
        elif self.study.live is not None:
            return Next("ask", done, total)
        else:
            chosen = self._reserve(rater, mine, seconds)
        if not isinstance(chosen, Item):
            return Next(chosen, done, total if chosen == "wait" else done)
        shown = next(shown for shown in self.store.shown_to(rater) if shown.item == chosen.id)
        return self._showing(shown, done, total)

    def ask(self, rater: int, text: str, answer: Callable[[str, str], str]) -> Next:
        """Has two models, of which nobody is told, answer what a rater typed, and shows it; `answer(model, text)`.
        What was left open is shown instead, where the same was asked twice."""
        with self._turns[rater]:
            return self._ask(rater, text, answer)

    def _ask(self, rater: int, text: str, answer: Callable[[str, str], str]) -> Next:
        now = self._next(rater)
        if now.state != "ask":
            return now
        size = 2 if self.study.kind == "pairs" else 1
        pairs = Counter(dict.fromkeys(itertools.combinations(self.study.models, size), 0))
        pairs.update(item.models for item in asked_items(self.folder, self.store).values())
        models = min(pairs, key=lambda models: (pairs[models], self._rng.random()))
        answers = {model: answer(model, text) for model in models}
        prompt = Prompt(f"asked-{secrets.token_hex(6)}", ({"role": "user", "content": text},), answers)
        (item,) = items_of(self.study, prompt)
        with self.store.writing() as db:
            self.store.ask(db, prompt.id, rater, json.dumps(prompt.to_json(), ensure_ascii=False))
            self.store.show(db, rater, item.id, self._rng.random() < 0.5, self.study.reserve_minutes * 60)
        return self._next(rater)

    def _showing(self, shown: Shown, done: int, total: int) -> Next:
        return Next("item", done, total, shown, self.item(shown.item))

    def _total(self, rater: int) -> int:
        """Items and checks of one rater."""
        if self.study.live is not None:
            return (self.study.per_rater or LIVE_ITEMS) + len(self._checks)
        there = len(self.folder.items)
        return min(self.study.per_rater or there, there) + len(self._checks)

    def _places(self, rater: int) -> set[int]:
        """Behind how many items this rater's checks stand: spread, and never first."""
        total, many = self._total(rater), len(self._checks)
        if not many:
            return set()
        rng = random.Random(f"{self.study.seed} {rater} checks")
        edges = [1 + round(i * (total - 1) / many) for i in range(many + 1)]
        return {rng.randrange(low, max(high, low + 1)) for low, high in itertools.pairwise(edges)}

    def _goes_on(self, shown: Shown, seconds: float) -> bool:
        """Whether what was left open is still its rater's, or is again: nobody else needed it meanwhile."""
        with self.store.writing() as db:
            if shown.expires <= self.store.now() and shown.item in self.folder.items:
                taken, _, _ = self.store.taken(db)
                if taken[shown.item] >= self.study.ratings:
                    return False
            self.store.show(db, shown.rater, shown.item, shown.flipped, seconds)
        return True

    def _reserve(self, rater: int, mine: list[Shown], seconds: float) -> Item | State:
        """Shows this rater one of the items that want ratings."""
        rated = {shown.item for shown in mine if shown.rated}
        prompts = {self.item(shown.item).prompt for shown in mine}
        with self.store.writing() as db:
            taken, open_, ways = self.store.taken(db)
            unrated = [item for item in self.folder.items.values() if item.id not in rated]
            wanting = [item for item in unrated if taken[item.id] < self.study.ratings]
            if not wanting:
                waits = any(taken[item.id] - open_[item.id] < self.study.ratings for item in unrated)
                return "wait" if waits else "done"
            pairs = Counter[tuple[str, ...]]()
            for id, count in taken.items():
                if id in self.folder.items:
                    pairs[self.folder.items[id].models] += count
            item = min(
                wanting,
                key=lambda item: (taken[item.id], pairs[item.models], item.prompt in prompts, self._rng.random()),
            )
            left, right = ways[item.id, False], ways[item.id, True]
            flipped = self._rng.random() < 0.5 if left == right else left > right
            self.store.show(db, rater, item.id, flipped, seconds)
        return item


def asked_items(folder: Folder, store: Store) -> dict[str, Item]:
    """Items of prompts that raters typed, by their id."""
    rows = store.read("SELECT prompt FROM asked ORDER BY at")
    prompts = [Prompt.from_json(json.loads(row["prompt"])) for row in rows]
    return {item.id: item for prompt in prompts for item in items_of(folder.study, prompt)}

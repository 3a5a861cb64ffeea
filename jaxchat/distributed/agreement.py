"""What several processes must have in common, compared and shared through JAX's coordination service."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax

from jaxchat.errors import InputError

Answer = TypeVar("Answer")
# One process may import and pack a corpus for hours before it can say what came of it; the guards watch meanwhile.
PATIENCE = 24 * 3600.0
_calls = itertools.count()


@dataclass(frozen=True)
class Store:
    """The coordinator's table of texts. A key is written once."""

    client: Any

    def set(self, key: str, value: str) -> None:
        self.client.key_value_set(f"jaxchat/{key}", value)

    def get(self, key: str, seconds: float = PATIENCE) -> str:
        """Waits for the key. Raises JaxRuntimeError when it does not come in time."""
        return str(self.client.blocking_key_value_get(f"jaxchat/{key}", int(seconds * 1000)))


def store() -> Store:
    from jax._src.distributed import global_state  # what Orbax uses too; no public name leads to it

    return Store(global_state.client)


def agree(what: dict[str, Any], difference: Callable[[Any, Any], str | None]) -> None:
    """Returns when every process has said the same `what`, which is JSON.

    difference: of the first process's and another's, in words; None when they agree.
    Raises InputError on all processes alike, naming the first that differs.
    """
    if jax.process_count() == 1:
        return
    kept, call, number = store(), next(_calls), jax.process_index()
    kept.set(f"{call}/{number}", json.dumps(what))
    if number == 0:
        verdict = ""
        for other in range(1, jax.process_count()):
            said = difference(what, json.loads(kept.get(f"{call}/{other}")))
            if said and not verdict:
                verdict = f"process {other} {said}"
        kept.set(f"{call}/verdict", json.dumps(verdict))
    verdict = json.loads(kept.get(f"{call}/verdict"))
    if verdict:
        raise InputError(verdict)


def on_first(ask: Callable[[], Answer]) -> Answer:
    """The first process's answer (JSON) on all of them. What it refuses (InputError), all refuse."""
    if jax.process_count() == 1:
        return ask()
    kept, call = store(), next(_calls)
    if jax.process_index() == 0:
        try:
            answer: dict[str, Any] = {"answer": ask()}
        except InputError as error:
            answer = {"refused": str(error)}
        kept.set(f"{call}/first", json.dumps(answer))
    answer = json.loads(kept.get(f"{call}/first"))
    if "refused" in answer:
        raise InputError(answer["refused"])
    return answer["answer"]


def meet(name: str) -> None:
    """Waits for all processes to come here."""
    if jax.process_count() > 1:
        store().client.wait_at_barrier(f"jaxchat/{next(_calls)}/{name}", int(PATIENCE * 1000))

"""Answers to a list of prompts: what a program asks of the engine that wants them all, and waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue

from jaxchat.sample.engine import Engine, Ticket
from jaxchat.sample.methods import Sampling
from jaxchat.sample.request import Delta, FinishReason, Request

SLOTS = 16  # prompts answered at once
OnText = Callable[[int, str], None]


@dataclass(frozen=True)
class Completion:
    """text: without the token or string that ended it. token_ids: all that were chosen, an ending token included.
    logprobs: theirs, natural, under the model itself. finish_reason: "stop" for an end of turn or a stop string."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason


def generate(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling | Sequence[Sampling],
    on_text: OnText | None = None,
    on_end: Callable[[int], None] | None = None,
) -> list[Completion]:
    """Answers every prompt. `on_text(i, more)` is called, in the caller's thread, as the text of prompt i grows;
    `on_end(i)` when it is whole.

    Raises InputError for an empty prompt and for one that fills the context; where anything is raised, or the user
    interrupts, the answers that are being written are ended.
    """
    each = [sampling] * len(prompts) if isinstance(sampling, Sampling) else list(sampling)
    asked = [Request(tuple(prompt), one) for prompt, one in zip(prompts, each, strict=True)]
    heard: SimpleQueue[tuple[int, Delta]] = SimpleQueue()
    deltas: list[list[Delta]] = [[] for _ in asked]
    open_: dict[int, Ticket] = {}
    waiting = list(reversed(range(len(asked))))

    def tell(i: int, delta: Delta) -> None:
        heard.put((i, delta))

    try:
        while waiting or open_:
            with engine.at_once():
                while waiting and len(open_) < engine.queue:
                    i = waiting.pop()
                    open_[i] = engine.submit(asked[i], partial(tell, i))
            i, delta = heard.get()
            deltas[i].append(delta)
            if on_text and delta.text:
                on_text(i, delta.text)
            if delta.finish_reason:
                del open_[i]
                if on_end:
                    on_end(i)
    finally:
        for ticket in open_.values():
            ticket.cancel()
    return [_joined(some) for some in deltas]


def _joined(deltas: Sequence[Delta]) -> Completion:
    reason = deltas[-1].finish_reason
    if reason is None or reason == "failed":
        raise RuntimeError("the engine failed; its log says why")
    text = "".join(delta.text for delta in deltas)
    token_ids = tuple(token for delta in deltas for token in delta.token_ids)
    return Completion(text, token_ids, tuple(x for delta in deltas for x in delta.logprobs), reason)

"""The choices of one answer, as they grow from what the engine says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, TypeVar

from jaxchat.sample.request import Delta
from jaxchat.serve.answering import Answers
from jaxchat.serve.guard import BlockedError
from jaxchat.serve.usage import Usage

New = TypeVar("New", covariant=True)


class Choice(Protocol[New]):
    """One of them. finish_reason: None while it grows."""

    finish_reason: str | None

    def hear(self, delta: Delta) -> New:
        """What is new to the client. Raises BlockedError, after which nothing more is to be heard."""


async def heard(
    answers: Answers, choices: Sequence[Choice[New]], usage: Usage
) -> AsyncIterator[tuple[int, New | None]]:
    """The index of a choice and what is new in it, until each has ended; None where the guard ends it."""
    async for i, delta in answers:
        usage.count(i, delta, answers.reused[i])
        try:
            new = choices[i].hear(delta)
        except BlockedError:
            answers.cancel(i)
            choices[i].finish_reason = "content_filter"
            yield i, None
        else:
            yield i, new

"""What the engine is asked, what it answers with, and how it says no.

V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from jaxchat.errors import InputError
from jaxchat.sample.methods import Sampling

FinishReason = Literal["stop", "length", "cancelled", "timeout", "failed"]


class Constraint(Protocol):
    """What the answer to one request may consist of: a grammar, say, and how far the answer has come in it."""

    def mask(self) -> np.ndarray:
        """The tokens allowed next, as bits of 32-bit words: token t is bit t % 32 of word t // 32, (ceil(V / 32),).

        Tokens behind the last word are not allowed. Where the answer may end here, so are tokens that end it.
        """
        ...

    def accept(self, token: int) -> None:
        """Goes on by a token that `mask` allowed."""
        ...


@dataclass(frozen=True)
class Request:
    """One answer that is asked for.

    prompt: token ids. top_logprobs: how many of the likeliest tokens to name beside each that is chosen. constraint: on
    what may be chosen, this request's own. client: requests of one wait in line, clients take turns. seconds: after
    which the answer ends wherever it is, the wait in the queue included.
    """

    prompt: tuple[int, ...]
    sampling: Sampling = field(default_factory=Sampling)
    top_logprobs: int = 0
    constraint: Constraint | None = None
    client: str = ""
    seconds: float | None = None


TopLogprobs = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Delta:
    """What an answer grew by.

    text: whole characters, and nothing that a stop string may still take back; so it may lag behind the tokens.
    token_ids: all that were chosen, an ending one included. logprobs: theirs, natural, under the model itself.
    top_logprobs: for each, the likeliest tokens and their log-probabilities, as many as were asked for, likeliest
    first. finish_reason: None but in the last: "stop" for an end of turn or a stop string, "length" for max_tokens or
    the end of the context, "cancelled", "timeout", "failed" for an error of the engine.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    top_logprobs: tuple[TopLogprobs, ...]
    finish_reason: FinishReason | None


OnDelta = Callable[[Delta], None]


class RequestError(InputError):
    """A request that the engine does not take."""


class QueueFullError(RequestError):
    """Too many wait already; later there may be room."""


class PromptTooLongError(RequestError):
    """The prompt leaves no room for an answer."""


class ClosedError(RequestError):
    """The engine takes nothing more."""

"""From a row's tokens to its text as it grows: where it ends, and how much of it can be shown already."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from jaxchat.chat.tokenizer import Tokenizer
from jaxchat.sample.methods import Sampling

_HALF = "\N{REPLACEMENT CHARACTER}"  # what the bytes of a character that is not yet whole decode to


class Writer:
    """One answer being written. ends: the tokens that end it. hear: told of new text, whole characters at a time and
    nothing that a stop string may still take back."""

    def __init__(
        self, tokenizer: Tokenizer, sampling: Sampling, ends: frozenset[int], hear: Callable[[str], None] | None
    ) -> None:
        self.tokenizer, self.sampling, self.ends, self.hear = tokenizer, sampling, ends, hear
        self.token_ids: list[int] = []
        self.logprobs: list[float] = []
        self.finish_reason: Literal["stop", "length"] | None = None
        self._text, self._heard = "", 0

    @property
    def open(self) -> bool:
        return self.finish_reason is None

    @property
    def wants(self) -> int:
        """Tokens that are still to come at most."""
        return self.sampling.max_tokens - len(self.token_ids)

    def write(self, tokens: Iterable[int], logprobs: Iterable[float]) -> None:
        """Takes what was chosen next, as far as the answer goes."""
        if not self.open:
            return
        for token, logprob in zip(tokens, logprobs, strict=True):
            self.token_ids.append(int(token))
            self.logprobs.append(float(logprob))
            if token in self.ends:
                self.finish_reason = "stop"
            elif self.sampling.stop:
                self._look_for_stop()
            if self.open and self.wants == 0:
                self.finish_reason = "length"
            if not self.open:
                break
        if self.finish_reason is None or not self._stopped_by_text:
            self._text = self._decode()
        self._tell()

    def close(self) -> tuple[str, tuple[int, ...], tuple[float, ...], Literal["stop", "length"]]:
        """Text, tokens, log-probabilities and the reason that it ended."""
        assert self.finish_reason is not None
        return self._text, tuple(self.token_ids), tuple(self.logprobs), self.finish_reason

    _stopped_by_text = False

    def _look_for_stop(self) -> None:
        text = self._decode()
        found = [at for at in (text.find(stop) for stop in self.sampling.stop) if at >= 0]
        if found:
            self.finish_reason, self._stopped_by_text = "stop", True
            self._text = text[: min(found)]

    def _decode(self) -> str:
        ended = bool(self.token_ids) and self.token_ids[-1] in self.ends
        return self.tokenizer.decode(self.token_ids[:-1] if ended else self.token_ids)

    def _tell(self) -> None:
        if self.hear is None:
            return
        safe = len(self._text) if not self.open else len(self._text) - self._held_back()
        if safe > self._heard:
            self.hear(self._text[self._heard : safe])
            self._heard = safe

    def _held_back(self) -> int:
        """Characters at the end that more tokens may change or a stop string may claim."""
        half = len(self._text) - len(self._text.rstrip(_HALF))
        whole = self._text[: len(self._text) - half]
        begun = (n for stop in self.sampling.stop for n in range(len(stop) - 1, 0, -1) if whole.endswith(stop[:n]))
        return half + max(begun, default=0)

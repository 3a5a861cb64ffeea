"""From an answer's tokens to its text as it grows: where it ends, and how much of it can be shown already."""

from __future__ import annotations

from collections.abc import Iterable

from jaxchat.chat.tokenizer import Tokenizer
from jaxchat.sample.methods import Sampling
from jaxchat.sample.request import Delta, FinishReason, TopLogprobs

_HALF = "\N{REPLACEMENT CHARACTER}"  # what the bytes of a character that is not yet whole decode to
_LONGEST = 4  # bytes of one, and so tokens that it may be spread over


class Writer:
    """One answer being written. ends: the tokens that end it."""

    def __init__(self, tokenizer: Tokenizer, sampling: Sampling, ends: frozenset[int]) -> None:
        self.tokenizer, self.sampling, self.ends = tokenizer, sampling, ends
        self.token_ids: list[int] = []
        self.logprobs: list[float] = []
        self.top_logprobs: list[TopLogprobs] = []
        self.finish_reason: FinishReason | None = None
        self._whole = ""  # text of whole characters
        self._half = ""  # what follows it and may still become another character
        self._before, self._read = 0, 0  # tokens before `_read` are in `_whole`; they are decoded from `_before` on
        self._heard_text, self._heard_tokens = 0, 0

    @property
    def open(self) -> bool:
        return self.finish_reason is None

    @property
    def wants(self) -> int:
        """Tokens that are still to come at most."""
        return self.sampling.max_tokens - len(self.token_ids)

    @property
    def text(self) -> str:
        """All of it, without the token or string that ended it."""
        return self._whole + self._half

    def write(
        self, tokens: Iterable[int], logprobs: Iterable[float], top_logprobs: Iterable[TopLogprobs] | None = None
    ) -> int:
        """Takes what was chosen next, as far as the answer goes; returns how many tokens that were."""
        before = len(self.token_ids)
        tops = iter(top_logprobs or ())
        for token, logprob in zip(tokens, logprobs, strict=True):
            if not self.open:
                break
            self.token_ids.append(int(token))
            self.logprobs.append(float(logprob))
            self.top_logprobs.append(next(tops, ()))
            if token in self.ends:
                self.finish_reason = "stop"
            else:
                self._decode()
            if self.open and self.wants == 0:
                self.finish_reason = "length"
        return len(self.token_ids) - before

    def end(self, reason: FinishReason) -> None:
        """Ends an answer that has not ended by itself."""
        if self.open:
            self.finish_reason = reason

    def delta(self) -> Delta:
        """What came since the last one and can be shown."""
        text = self.text
        safe = len(text) if not self.open else len(self._whole) - self._held_back()
        begin, first = min(self._heard_text, safe), self._heard_tokens
        self._heard_text, self._heard_tokens = max(self._heard_text, safe), len(self.token_ids)
        return Delta(
            text[begin:safe],
            tuple(self.token_ids[first:]),
            tuple(self.logprobs[first:]),
            tuple(self.top_logprobs[first:]),
            self.finish_reason,
        )

    def _decode(self) -> None:
        """Adds the text of the newest token. It is decoded with some before it, on which its leading space may depend;
        never with all of them, which would take longer the longer the answer is."""
        known = self.tokenizer.decode(self.token_ids[self._before : self._read])
        more = self.tokenizer.decode(self.token_ids[self._before :])[len(known) :]
        whole = more.rstrip(_HALF)
        looked_at = len(self._whole)
        if whole == more:
            self._whole, self._half = self._whole + more, ""
            self._before, self._read = self._read, len(self.token_ids)
        else:
            self._half = more
            if len(self.token_ids) - self._read > 2 * _LONGEST:  # bytes that are none of a character, most likely
                self._settle(known)
        if self.sampling.stop:
            self._look_for_stop(looked_at)

    def _settle(self, known: str) -> None:
        """Makes whole what no token can change any more, behind the text `known`: else an answer that goes on in half
        characters would never be heard, and be decoded anew from there with every token."""
        old = len(self.token_ids) - _LONGEST
        end = len(self.tokenizer.decode(self.token_ids[self._before : old])) - len(known)
        self._whole, self._half = self._whole + self._half[:end], self._half[end:]
        self._before, self._read = self._read, old

    def _look_for_stop(self, looked_at: int) -> None:
        text = self.text
        begin = max(0, looked_at - max(map(len, self.sampling.stop)))
        found = [at for at in (text.find(stop, begin) for stop in self.sampling.stop) if at >= 0]
        if found:
            self.finish_reason = "stop"
            self._whole, self._half = text[: min(found)], ""

    def _held_back(self) -> int:
        """Whole characters at the end that a stop string may claim."""
        text = self._whole
        begun = (n for stop in self.sampling.stop for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n]))
        return max(begun, default=0)

"""The text that tokens stand for, in bytes and words: what makes models with different tokenizers comparable."""

from __future__ import annotations

import re

import numpy as np

from jaxchat.chat.tokenizer import Tokenizer

# Tokens decoded before a span, since some tokenizers drop the space that a text would begin with.
_BEFORE = 16


class TextCounter:
    """Counts bytes and words of what `tokenizer` decodes tokens to, special tokens (chat markers, BOS) left out."""

    def __init__(self, tokenizer: Tokenizer):
        self._decode = tokenizer.decode
        special = [
            text
            for text, i in tokenizer.added_tokens.items()
            if tokenizer.decode([i]) != tokenizer.decode([i], skip_special_tokens=True)
        ]
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or "(?!)")

    def count(self, ids: np.ndarray, start: int, end: int) -> tuple[int, int]:
        """(UTF-8 bytes, words) of the tokens [start, end) of `ids`, int32[n], start at least 1. Words are what white
        space and special tokens separate."""
        read = ids[max(0, start - _BEFORE) : end].tolist()
        before = len(read) - (end - start)
        text = self._decode(read)[len(self._decode(read[:before])) :]
        return len(self._special.sub("", text).encode()), len(self._special.sub(" ", text).split())

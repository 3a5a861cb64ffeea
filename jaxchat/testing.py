"""Public fakes, for tests here and in projects that build on this one: a byte tokenizer and small conversations."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxchat.chat.conversation import Conversation, Message

if TYPE_CHECKING:
    import tokenizers

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_MARKERS = ("<|pad|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>")


class ByteTokenizer:
    """One token a byte of UTF-8, ids 0 to 255, then the chat markers. Meets chat.tokenizer.Tokenizer but for `save`."""

    vocab_size = 256 + len(_MARKERS)
    bos_id: int | None = None
    eos_id: int | None = 257
    pad_id = 256
    special_tokens: Mapping[str, str] = {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>"}
    added_tokens: Mapping[str, int] = {marker: 256 + i for i, marker in enumerate(_MARKERS)}
    chat_templates: Mapping[str, str] = {"default": CHATML}
    chat_template: str | None = CHATML
    fingerprint = "bytes"

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        return self.encode_with_offsets(text)[0]

    def encode_batch(self, texts: Sequence[str], *, add_special_tokens: bool = False) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        ids, offsets, at = [], [], 0
        while at < len(text):
            marker = next((marker for marker in _MARKERS if text.startswith(marker, at)), "")
            found = [self.added_tokens[marker]] if marker else list(text[at].encode())
            end = at + (len(marker) or 1)
            ids += found
            offsets += [(at, end)] * len(found)
            at = end
        return ids, offsets

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        words = [bytes([id]) if id < 256 else b"" if skip_special_tokens else _MARKERS[id - 256].encode() for id in ids]
        return b"".join(words).decode(errors="replace")

    def token_id(self, text: str) -> int | None:
        return self.added_tokens.get(text, ord(text) if len(text) == 1 and text.isascii() else None)

    def as_fast(self) -> tokenizers.Tokenizer:
        import tokenizers
        from tokenizers import decoders, models, pre_tokenizers

        # GPT-2's letters for bytes: those that can be seen as themselves, then the next that are free.
        seen, others = {*range(33, 127), *range(161, 173), *range(174, 256)}, iter(range(256, 512))
        letters = {chr(byte if byte in seen else next(others)): byte for byte in range(256)}
        fast = tokenizers.Tokenizer(models.BPE(letters, []))
        fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        fast.decoder = decoders.ByteLevel()
        fast.add_special_tokens(list(_MARKERS))
        return fast

    def save(self, folder: str | Path) -> None:
        raise NotImplementedError("a fake tokenizer has no files")


_WORDS = (
    "the",
    "a",
    "cat",
    "dog",
    "sun",
    "rain",
    "sees",
    "likes",
    "finds",
    "old",
    "small",
    "why",
    "where",
    "not",
    "yes",
    "no",
)


def small_conversations(count: int = 8, *, seed: int = 0, turns: int = 4, words: int = 6) -> list[Conversation]:
    """`count` made-up conversations of up to `turns` turns of up to `words` words, the same for the same seed."""
    random_ = random.Random(seed)

    def message(i: int) -> Message:
        text = " ".join(random_.choices(_WORDS, k=random_.randint(1, words)))
        return Message("assistant" if i % 2 else "user", text)

    return [
        Conversation(f"small-{i}", tuple(map(message, range(random_.randint(2, max(turns, 2))))), source="testing")
        for i in range(count)
    ]

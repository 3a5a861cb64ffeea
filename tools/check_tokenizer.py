"""Checks that a tokenizer trained here reads alike everywhere: messages of conversations, and lines of emoji and rare
scripts, through the SentencePiece model (where it is one), tokenizer.json and transformers; and that ids decode to the
very text.

    python tools/check_tokenizer.py TOKENIZER DIR ... [--messages 100000] [--json FILE]

Exit status 1 where anything differs. U+2581, which is how SentencePiece writes a space, comes back as one from its
models: messages that hold it are left out of the round trip and counted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxchat.chat.conversation import read_conversations
from jaxchat.chat.sentencepiece_tokenizer import SentencePieceTokenizer
from jaxchat.chat.tokenizer import load_tokenizer

BATCH, SHOWN = 2000, 5
SPACE = "\u2581"
# First and last characters of blocks that hardly any corpus has, a few of each; combined emoji; runs that have many
# equally likely cuts; what looks like a token and is none.
BLOCKS = ((0x530, 0x58F), (0x10A0, 0x10FF), (0x1200, 0x137F), (0x13A0, 0x13FF), (0x1400, 0x167F), (0x1680, 0x16FF),
          (0x1780, 0x17FF), (0x1800, 0x18AA), (0x2C00, 0x2C5F), (0xA000, 0xA48C), (0xA640, 0xA69F), (0x10000, 0x100FA),
          (0x10300, 0x1034A), (0x10380, 0x103D5), (0x12000, 0x123FF), (0x13000, 0x1342E), (0x1F300, 0x1FAFF),
          (0x20000, 0x2A6DF))  # fmt: skip
ODD = (
    "👩‍👩‍👧‍👦🏳️‍🌈👍🏽🇫🇷1️⃣", "a\u0301e\u0308\u0323 ﬁ ① ｆｕｌｌ", "  two  spaces \t tab\u00a0nbsp\u3000wide ",
    "\n\nlines\r\n\r\n end\n", "*" * 3001 + "-" * 999, "ha" * 2000, "哈" * 1500, "<0x0A> <0xE2><unk></s><s>",
    "<|im_start|>user\n********<|im_end|>\n", "\x00\x01\x7f\u200b\u200d\ufeff\u2028", "ﷺ \u202eabc\u202c",
)  # fmt: skip


def rare_lines() -> Iterator[str]:
    yield from ODD
    for first, last in BLOCKS:
        characters = "".join(chr(first + (last - first) * i // 63) for i in range(64))
        yield characters
        yield f"Hello {characters[:3]}, 你好{characters[3:6]}! {characters[6]}\n{characters[7] * 9}"


def check(tokenizer: Path, messages: Iterator[str]) -> dict[str, Any]:
    """Counts: `messages`, `tokens`, `differ` by reader (from the first of them), `not_round_trip`, `with_u2581`."""
    ours = load_tokenizer(tokenizer)
    readers = _readers(tokenizer, ours)
    counts: dict[str, Any] = {"messages": 0, "tokens": 0, "not_round_trip": 0, "with_u2581": 0, "examples": []}
    differ = dict.fromkeys(list(readers)[1:], 0)
    spaced = isinstance(ours, SentencePieceTokenizer)
    while batch := list(itertools.islice(messages, BATCH)):
        ids = {name: encode(batch) for name, encode in readers.items()}
        first, *others = ids
        for i, text in enumerate(batch):
            counts["tokens"] += len(ids[first][i])
            for name in others:
                if ids[name][i] != ids[first][i]:
                    differ[name] += 1
                    counts["examples"].append({"reader": name, "text": text[:200]})
            if spaced and SPACE in text:
                counts["with_u2581"] += 1
            elif ours.decode(ids[first][i]) != text:
                counts["not_round_trip"] += 1
                counts["examples"].append({"reader": "round trip", "text": text[:200]})
        counts["messages"] += len(batch)
    return {**counts, "readers": list(readers), "differ": differ, "examples": counts["examples"][:SHOWN]}


def _readers(folder: Path, ours: Any) -> dict[str, Callable[[Sequence[str]], list[list[int]]]]:
    import tokenizers
    from transformers import AutoTokenizer

    fast = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs = AutoTokenizer.from_pretrained(str(folder))
    readers: dict[str, Callable[[Sequence[str]], list[list[int]]]] = {}
    if isinstance(ours, SentencePieceTokenizer):
        readers["sentencepiece"] = lambda texts: ours.processor.encode(list(texts))
    readers["jaxchat"] = ours.encode_batch
    readers["tokenizer.json"] = lambda texts: [
        e.ids for e in fast.encode_batch_fast(list(texts), add_special_tokens=False)
    ]
    readers["transformers"] = lambda texts: theirs(list(texts), add_special_tokens=False)["input_ids"]
    return readers


def _messages(folders: Sequence[Path]) -> Iterator[str]:
    """The conversations' messages, one of each folder in turn while it has any, so that no language is left out."""
    waiting = [(m.content for c in read_conversations(folder) for m in c.messages if m.content) for folder in folders]
    while waiting:
        for texts in list(waiting):
            if (text := next(texts, None)) is None:
                waiting.remove(texts)
            else:
                yield text


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    start = time.monotonic()
    result = check(
        given.tokenizer, itertools.chain(rare_lines(), itertools.islice(_messages(given.folders), given.messages))
    )
    if given.json:
        given.json.write_text(json.dumps(result, ensure_ascii=False, indent=2), encoding="utf-8")
    for example in result["examples"]:
        print(f"{example['reader']}: {example['text']!r}")
    differing = ", ".join(f"{name} {n:,}" for name, n in result["differ"].items())
    print(
        f"{result['messages']:,} messages, {result['tokens']:,} tokens in {time.monotonic() - start:.0f} s; read "
        f"otherwise than by {result['readers'][0]}: {differing}; not the same text again: {result['not_round_trip']:,} "
        f"({result['with_u2581']:,} with U+2581 not asked)"
    )
    return 1 if any(result["differ"].values()) or result["not_round_trip"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""How much text a token holds, by language, of tokenizers side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxchat.chat.tokenizer import Tokenizer


def bytes_per_token(tokenizers: Mapping[str, Tokenizer], texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """`texts` by language -> language -> {"texts", "bytes", "bytes_per_token": {tokenizer: float}}, the largest
    language first, and last "all". Bytes are UTF-8; text is encoded message by message, without a BOS."""
    sizes = {language: sum(len(text.encode()) for text in some) for language, some in texts.items()}
    order = sorted((name for name, size in sizes.items() if size), key=lambda name: (-sizes[name], name))
    rows: dict[str, Any] = {}
    totals: dict[str, int] = dict.fromkeys(tokenizers, 0)
    for language in order:
        tokens = {name: sum(map(len, t.encode_batch(texts[language]))) for name, t in tokenizers.items()}
        for name, n in tokens.items():
            totals[name] += n
        rows[language] = _row(len(texts[language]), sizes[language], tokens)
    count, size = sum(len(texts[language]) for language in order), sum(sizes[language] for language in order)
    return {**rows, "all": _row(count, size, totals)}


def _row(texts: int, size: int, tokens: Mapping[str, int]) -> dict[str, Any]:
    return {
        "texts": texts,
        "bytes": size,
        "bytes_per_token": {n: round(size / max(t, 1), 4) for n, t in tokens.items()},
    }


def table(rows: Mapping[str, Any]) -> list[str]:
    """The same as lines for a terminal: a line a language, a column a tokenizer."""
    names = list(next(iter(rows.values()))["bytes_per_token"])
    width = max(map(len, [*names, "bytes"])) + 2
    lines = ["bytes per token".ljust(16) + "bytes".rjust(width) + "".join(name.rjust(width) for name in names)]
    for language, row in rows.items():
        figures = "".join(f"{row['bytes_per_token'][name]:.3f}".rjust(width) for name in names)
        lines.append(language.ljust(16) + f"{row['bytes']:,}".rjust(width) + figures)
    return lines

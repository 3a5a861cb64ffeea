"""Words of any script, for rules that count them and for texts to be compared by."""

from __future__ import annotations

import re

from jaxchat.chat.conversation import Message

# Scripts written without spaces between words: Han, kana, Thai, Lao, Burmese, Khmer. Each character counts as a word.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_HAS_UNSPACED = re.compile(f"[{UNSPACED}]")
_SPACED_WORD = re.compile(r"\w+")
# A vowel sign or tone mark is no \w and stays with the character before it.
_ANY_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")


def words(text: str) -> list[str]:
    """The words of `text` without what stands between them; in scripts without spaces, the characters."""
    return (_ANY_WORD if _HAS_UNSPACED.search(text) else _SPACED_WORD).findall(text)


def has_unspaced(text: str) -> bool:
    return _HAS_UNSPACED.search(text) is not None


def plain(text: str) -> str:
    """The text to compare by: words in one case, one space between them, nothing else."""
    return " ".join(words(text.casefold()))


def said(message: Message) -> str:
    """All that a message says: its content and what it calls tools with."""
    calls = "\n".join(f"{call.name} {call.arguments}" for call in message.tool_calls)
    return "\n".join(part for part in (message.content, calls) if part)

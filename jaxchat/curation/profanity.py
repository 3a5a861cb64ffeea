"""Profanity and toxicity, by word lists per language, or by a scorer of one's own."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from jaxchat.chat.conversation import Conversation
from jaxchat.curation.own_function import own_function
from jaxchat.curation.step import Dropped, Kept, Step
from jaxchat.curation.words import has_unspaced
from jaxchat.errors import InputError

LISTS = {
    "ar": "arabic", "cs": "czech", "da": "danish", "de": "german", "en": "english", "eo": "esperanto", "es": "spanish",
    "fa": "persian", "fi": "finnish", "fr": "french", "hi": "hindi", "hu": "hungarian", "it": "italian",
    "ja": "japanese", "ko": "korean", "nb": "norwegian", "nl": "dutch", "pl": "polish", "pt": "portuguese",
    "ru": "russian", "sv": "swedish", "th": "thai", "tr": "turkish", "zh": "chinese",
}  # fmt: skip
# On the lists, and mostly said in another sense.
HARMLESS = {
    code: frozenset(words.split("; "))
    for code, words in {
        "de": "bumsen",
        "en": "anus; bloody; breasts; bs; busty; butt; coon; coons; crap; damn; domination; dvda; escort; god; "
        "guro; hell; hoe; kinky; lmfao; mf; negro; nude; omfg; paki; penis; poof; rape; rectum; scat; "
        "semen; sex; sexuality; sexy; simp; skeet; strip club; suck; sucks; swastika; vagina; vulva; xx; "
        "xxx",
        "es": "asesinato; asno",
        "fr": "allumé; bitte",
        "it": "anale",
        "nl": "aardappels afgieten",
        "pt": "aborto; amador; aranha; ânus",
        "th": "กะปิ",
        "tr": "18+; 30+1; 31",
        "zh": "13.; 他妈; 你妈; 他娘; 娘的; 妈的; 妈妈的; "
        "九游; 乳头; 乳房; 交配; 刚度; 包皮; 卵子; 后庭; 处女; 屁股; 强奸; 性交; 性爱; 成人; "
        "放荡; 月经; 激情; 白痴; 祖宗; 私服; 笨蛋; 精子; 老二; 老味; 老母; 花柳; 迷药; 野鸡; 阴道; "
        "阴部; 靠背",
    }.items()
}
_WORD = re.compile(r"[^\s.,;:!?\"“”„()\[\]{}<>…—–/|~`_]+")


@dataclass(frozen=True)
class Profanity(Step):
    """Drops conversations with a turn whose score reaches the threshold. A turn's score is 0 with no listed word, 0.5
    with one, 0.75 with two and so on, the lists being those of the conversation's language and of English.

    The lists are those of the package glin-profanity, less words that mostly mean something else.
    """

    name: ClassVar[str] = "profanity"

    threshold: float = 0.5
    """The score, from 0 to 1, from which on a turn is too much."""
    roles: tuple[Literal["system", "user", "assistant", "tool"], ...] = ("assistant",)
    """Whose turns are judged. People swear at assistants, and those have to bear it."""
    act: Literal["drop", "untrain"] = "drop"
    """Drop the conversation, or keep it and train on none of such turns."""
    scorer: str | None = None
    """MODULE:FUNCTION of your own, installed or in this folder, that gives a text and its language's code a score from
    0 to 1, instead of the lists."""
    lists: Path | None = None
    """A folder of lists of your own, CODE.txt (en.txt, say) with a word or phrase a line, instead of ours."""
    allow: tuple[str, ...] = ()
    """Listed words that do no harm here."""

    def prepared(self) -> Step:
        if self.scorer:
            own_function(self.scorer, "--profanity.scorer")
            return self
        read: dict[str, Any] = {code: _Words.of(listed, self.allow) for code, listed in _lists(self.lists).items()}
        return _ByLists(**{**vars(self), "words": read})

    def apply(self, conversation: Conversation) -> Kept | Dropped:
        language = str(conversation.meta.get("language") or "en")
        messages, counted = list(conversation.messages), 0
        for i, message in enumerate(messages):
            if message.role in self.roles and message.content:
                score = self.score(message.content, language)
                if score >= self.threshold:
                    if self.act == "drop":
                        return Dropped("a profane turn", f"score {score:.2f} in message {i}")
                    messages[i] = replace(message, train=0.0)
                    counted += 1
        if not counted:
            return Kept(conversation)
        return Kept(replace(conversation, messages=tuple(messages)), {"turns not to train on": counted})

    def score(self, text: str, language: str) -> float:
        return float(own_function(self.scorer, "--profanity.scorer")(text, language)) if self.scorer else 0.0


@dataclass(frozen=True)
class _Words:
    single: frozenset[str]
    phrases: re.Pattern[str] | None
    inside: tuple[str, ...]
    """Of scripts without spaces between words: looked for anywhere."""

    @staticmethod
    def of(listed: frozenset[str], allow: tuple[str, ...]) -> _Words:
        # One character of Chinese is a part of many harmless words, and two letters or a figure are a name of many
        # things.
        listed = frozenset(word.casefold().strip() for word in listed) - {word.casefold() for word in allow}
        inside = tuple(sorted(word for word in listed if has_unspaced(word) and len(word) > 1))
        spaced = {word for word in listed if not has_unspaced(word) and len(word) > 2 and not word.isdigit()}
        single = frozenset(word for word in spaced if _WORD.fullmatch(word))
        rest = sorted(spaced - single)
        pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, rest))})(?!\w)") if rest else None
        return _Words(single, pattern, inside)

    def count(self, text: str, found: list[str], unspaced: bool) -> int:
        hits = sum(word in self.single for word in found) if not self.single.isdisjoint(found) else 0
        if self.phrases:
            hits += len(self.phrases.findall(text))
        if unspaced:
            hits += sum(word in text for word in self.inside)
        return hits


@dataclass(frozen=True)
class _ByLists(Profanity):
    words: Any = None

    def score(self, text: str, language: str) -> float:
        text = text.casefold()
        found = _WORD.findall(text)
        codes = {language, "en"} & self.words.keys()
        unspaced = has_unspaced(text)
        return 1 - 0.5 ** sum(self.words[code].count(text, found, unspaced) for code in codes)


def _lists(folder: Path | None) -> dict[str, frozenset[str]]:
    if folder is not None:
        files = sorted(folder.glob("*.txt")) if folder.is_dir() else []
        if not files:
            raise InputError(f"--profanity.lists {folder} holds no CODE.txt, such as en.txt")
        return {file.stem: frozenset(file.read_text(encoding="utf-8").split("\n")) - {""} for file in files}
    spec = importlib.util.find_spec("glin_profanity")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "word lists come with pip install 'jaxchat[curation]'; or give --profanity.lists, or --skip profanity"
        )
    inside = Path(spec.submodule_search_locations[0]) / "data" / "dictionaries"
    read = {}
    for code, name in LISTS.items():
        listed = json.loads((inside / f"{name}.json").read_text(encoding="utf-8"))["words"]
        read[code] = frozenset(listed) - HARMLESS.get(code, frozenset())
    return read

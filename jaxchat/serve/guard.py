"""What may not be said is taken out or ends the answer, and nothing of it leaks before it is seen whole.

Rules look at what people ask and at what the model answers. Of a text that is still growing, the end is kept back as
far as something that begins in it may not yet be whole, and moves on only at white space.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from jaxchat.errors import InputError

# Longer than any identifier that is looked for, the words of a hidden address ("name at place dot com") included.
REACH = 160
_CONTEXT = 256  # of what has been said, so that a rule sees what stands before
_LONGEST = 4096  # what has no edge for so long is no identifier, and goes on
_PART = re.compile(r"[A-Za-z0-9À-ɏͰ-ӿ@＠._%+:/#(){}\[\]<>-]")  # of a word, or of an identifier

Act = Literal["mask", "block"]


@dataclass(frozen=True)
class Span:
    """Characters that a rule is about, and what is to stand in their place."""

    start: int
    end: int
    instead: str
    rule: str = ""


class Rule(Protocol):
    """name: for the count of what was found. act: mask what is found, or block the answer. reach: how many characters
    what it finds may have."""

    @property
    def name(self) -> str: ...

    @property
    def act(self) -> Act: ...

    @property
    def reach(self) -> int: ...

    def spans(self, text: str) -> Iterator[Span]: ...


@dataclass(frozen=True)
class PersonalData:
    """Emails, telephone and card numbers and the like, as curation finds them."""

    act: Act = "mask"
    name: str = "personal data"
    reach: int = REACH

    def spans(self, text: str) -> Iterator[Span]:
        from jaxchat.curation.identifiers import RECOGNISERS

        for kind, recogniser in RECOGNISERS.items():
            for start, end in recogniser.spans(text):
                yield Span(start, end, f"<{kind.upper()}>")


@dataclass(frozen=True)
class Words:
    """Words and phrases, whole and in any case; of scripts without spaces, anywhere."""

    pattern: re.Pattern[str]
    reach: int
    act: Act = "mask"
    name: str = "words"

    @staticmethod
    def of(words: Sequence[str], act: Act = "mask") -> Words:
        from jaxchat.curation.words import has_unspaced

        listed = sorted({word.strip() for word in words if word.strip()}, key=len, reverse=True)
        if not listed:
            raise InputError("the list of guarded words is empty; write a word or phrase a line")
        forms = []
        for word in listed:
            form = r"\s+".join(map(re.escape, word.split()))
            forms.append(form if has_unspaced(word) else rf"(?<!\w){form}(?!\w)")
        return Words(re.compile("|".join(forms), re.IGNORECASE), 2 * max(map(len, listed)), act)

    @staticmethod
    def read(path: Path, act: Act = "mask") -> Words:
        """From a file with a word or phrase a line. InputError where it cannot be read, or is empty."""
        try:
            return Words.of(path.read_text(encoding="utf-8").splitlines(), act)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the words in {path}: {error}") from None

    def spans(self, text: str) -> Iterator[Span]:
        for match in self.pattern.finditer(text):
            yield Span(match.start(), match.end(), "***")


class BlockedError(Exception):
    """A rule whose act is to block has found something; its name is the argument."""


@dataclass(frozen=True)
class Guard:
    """Rules for what is asked and what is answered. counts: of what was found, by rule."""

    asked: tuple[Rule, ...] = ()
    answered: tuple[Rule, ...] = ()
    counts: Counter[str] = field(default_factory=Counter)

    def question(self, text: str) -> str:
        """What of `text` the model is given. Raises BlockedError."""
        return self._whole(text, self.asked)

    def answer(self, text: str) -> str:
        """What of a whole text is given out. Raises BlockedError."""
        return self._whole(text, self.answered)

    def stream(self) -> Callable[[str, bool], str]:
        """For one answer: takes more of its text (and whether that was all) and gives what can be said. Nothing
        more is to be said after BlockedError."""
        return _Stream(self.answered, self.counts).write if self.answered else lambda text, last: text

    def _whole(self, text: str, rules: tuple[Rule, ...]) -> str:
        return _Stream(rules, self.counts).write(text, True) if rules else text


class _Stream:
    def __init__(self, rules: tuple[Rule, ...], counts: Counter[str]) -> None:
        self._rules, self._counts = rules, counts
        self._reach = max(rule.reach for rule in rules)
        self._text = ""
        self._said = 0  # characters of it that are dealt with

    def write(self, text: str, last: bool) -> str:
        self._text += text
        end = len(self._text) if last else self._cut()
        spans = self._found()
        if not last:
            end = min([end, *(span.start for span in spans if span.end > end)])
        parts, at = [], self._said
        for span in spans:
            if span.end <= end:
                parts += [self._text[at : span.start], span.instead]
                self._counts[span.rule] += 1
                at = span.end
        end = max(end, at)
        parts.append(self._text[at:end])
        forgotten = max(0, end - _CONTEXT)
        self._text, self._said = self._text[forgotten:], end - forgotten
        return "".join(parts)

    def _found(self) -> list[Span]:
        """What is masked, in order and apart from each other: what overlaps is one, under the earlier rule's name."""
        found = []
        for rule in self._rules:
            for span in rule.spans(self._text):
                if span.end > self._said:
                    if rule.act == "block":
                        self._counts[rule.name] += 1
                        raise BlockedError(rule.name)
                    found.append(replace(span, start=max(span.start, self._said), rule=rule.name))
        apart: list[Span] = []
        for span in sorted(found, key=lambda span: span.start):
            if apart and span.start < apart[-1].end:
                apart[-1] = replace(apart[-1], end=max(apart[-1].end, span.end))
            else:
                apart.append(span)
        return apart

    def _cut(self) -> int:
        """Up to where the text can be judged: a reach before its end, and there at the edge of a word."""
        at = max(self._said, len(self._text) - self._reach)
        least = max(self._said, at - _LONGEST)
        edge = at
        while edge > least and _PART.match(self._text, edge - 1) and _PART.match(self._text, edge):
            edge -= 1
        return edge if edge > least or at - self._said < _LONGEST else at


def guard_of(*, personal_data: Act | None = None, words: Path | None = None) -> Guard | None:
    """The guard that the command line asks for, of questions and answers alike; None for none. `words` are blocked."""
    rules: list[Rule] = [Words.read(words, "block")] if words else []
    if personal_data:
        rules.append(PersonalData(personal_data))
    return Guard(tuple(rules), tuple(rules)) if rules else None

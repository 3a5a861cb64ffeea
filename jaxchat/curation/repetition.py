"""Repetition: turns that go round in circles.

The rules and their bounds are those of Rae et al. 2021, Scaling Language Models: Methods, Analysis & Insights from
Training Gopher (https://arxiv.org/abs/2112.11446), table A1, adapted to chat: each long turn is judged as a document of
its own, and what Gopher counts of a document's lines is counted of a conversation's turns. Turns of few words ("yes",
"thank you") are said again and again by anyone and do not count. What a user pastes to ask about may repeat itself.
Answers are shorter than web pages and keep to one thing, so Gopher's bounds are widened by half. In scripts without
spaces between words a word is taken for two characters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxchat.chat.conversation import Conversation
from jaxchat.curation.step import Dropped, Kept, Step
from jaxchat.curation.words import has_unspaced, words

# Share of the characters that the commonest n-gram may make up, and that all n-grams said twice may.
TOP = {2: 0.20, 3: 0.18, 4: 0.16}
REPEATED = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
# Formulas say the same again as code does: a matrix in every line.
_CODE = re.compile(
    r"```.*?(?:```|\Z)|^(?: {4}|\t|[ \t]*\|)[^\n]*$|\$\$.*?\$\$|\$(?=\S)[^$\n]+(?<=\S)\$(?!\d)|\\\[.*?\\\]|\\\(.*?\\\)|"
    r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}",
    re.DOTALL | re.MULTILINE,
)
_ONE_CHARACTER = re.compile(r"([^\W\d_])\1{29,}")


@dataclass(frozen=True)
class Repetition(Step):
    """Drops conversations whose turns repeat themselves, or each other, beyond Gopher's bounds."""

    name: ClassVar[str] = "repetition"

    slack: float = 1.5
    """Factor on Gopher's bounds: 1 is Gopher's own, 2 twice as lenient."""
    long: int = 50
    """Words from which on a turn is judged by itself."""
    roles: tuple[Literal["user", "assistant"], ...] = ("assistant",)
    """Whose long turns are judged by themselves."""
    turns: float = 0.5
    """Share of one side's turns of five words and more that it said before, at most (Gopher, of lines: 0.3)."""

    def apply(self, conversation: Conversation) -> Kept | Dropped:
        for role in ("user", "assistant"):
            said = [m.content.casefold().strip() for m in conversation.messages if m.role == role and m.content]
            if len(set(said)) == len(said):
                continue
            long = [text for text in said if len(words(text)) >= 5]
            if len(long) >= 4 and 1 - len(set(long)) / len(long) > self.turns:
                return Dropped(
                    "turns said again and again", f"{len(long) - len(set(long))} of {len(long)} by the {role}"
                )
        for i, message in enumerate((*conversation.messages, *conversation.rejected)):
            text = message.content or ""
            if message.role in self.roles and len(text) >= 2 * self.long:
                why = self._turn(_CODE.sub("\n", text))
                if why:
                    return Dropped(why[0], f"{why[1]} in message {i}")
        return Kept(conversation)

    def _turn(self, text: str) -> tuple[str, str] | None:
        if _ONE_CHARACTER.search(text):
            return "one character over and over", "30 and more"
        found = words(text.casefold())
        if len(found) < self.long * (2 if has_unspaced(text) else 1):
            return None
        for name, parts in (("lines", text.splitlines()), ("paragraphs", text.split("\n\n"))):
            parts = [part.strip() for part in parts if part.strip()]
            if len(parts) >= 4:
                again = _again(parts)
                count, characters = len(again) / len(parts), sum(map(len, again)) / sum(map(len, parts))
                if count > 0.30 * self.slack or characters > 0.20 * self.slack:
                    return f"{name} said again in a turn", f"{count:.2f} of them"
        total = sum(map(len, found))
        characters = 2 if has_unspaced(text) else 1
        for n, bound in TOP.items():
            grams = Counter(zip(*(found[k:] for k in range(n * characters))))
            gram, count = grams.most_common(1)[0]
            share = count * sum(map(len, gram)) / total
            if count > 2 and share > bound * self.slack:
                return "one phrase over and over in a turn", f"{share:.2f} is {' '.join(gram)[:60]!r}"
        # No ten words said twice without five of them said twice: most turns are done here.
        grams5 = list(zip(*(found[k:] for k in range(5 * characters))))
        if len(set(grams5)) == len(grams5):
            return None
        for n, bound in REPEATED.items():
            share = _covered(found, n * characters) / total
            if share > bound * self.slack:
                return "phrases said again in a turn", f"{share:.2f} in {n}-grams said before"
        return None


def _again(parts: Sequence[Hashable]) -> list:
    """The parts that stood before, each as often as it comes again."""
    seen: set[Hashable] = set()
    again = []
    for part in parts:
        if part in seen:
            again.append(part)
        seen.add(part)
    return again


def _covered(found: Sequence[str], n: int) -> int:
    """Characters in the n-grams that stood before, none counted twice."""
    seen: set[tuple[str, ...]] = set()
    characters = end = 0
    for i in range(len(found) - n + 1):
        gram = tuple(found[i : i + n])
        if gram in seen:
            characters += sum(map(len, found[max(end, i) : i + n]))
            end = i + n
        seen.add(gram)
    return characters

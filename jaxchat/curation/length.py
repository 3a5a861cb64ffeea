"""Length and turns: conversations too short to learn from, too long to be talk, or not shaped like one.

Where a rule has a source it is Rae et al. 2021, Scaling Language Models: Methods, Analysis & Insights from Training
Gopher (https://arxiv.org/abs/2112.11446), table A1 and section A.1.1, adapted to chat: a document is the whole
conversation, its least number of words is a person's greeting and not 50, code is not judged by rules for prose, and
rules about words hold for scripts that put spaces between them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from jaxchat.chat.conversation import Conversation
from jaxchat.curation.step import Dropped, Kept, Step
from jaxchat.curation.words import has_unspaced, words

# What is no prose: code, formulas, and where links lead.
_CODE = re.compile(
    r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|^(?: {4}|\t)[^\n]*$|\$\$.*?\$\$|https?://[^\s)\]>]+", re.DOTALL | re.MULTILINE
)
_CODE_MARKS = ("```", "~~~", "$$", "\t", "    ", "://")
_SIGNS = re.compile(r"#(?!\w)|\.\.\.|…")
_BULLET = re.compile(r"\s*(?:[-*•‣●▪]|\d{1,3}[.)])\s")


@dataclass(frozen=True)
class Length(Step):
    """Drops conversations without a turn of each side, and those outside bounds of turns and words."""

    name: ClassVar[str] = "length"

    turns: int = 2
    """Turns of user and assistant, at least."""
    most_turns: int = 1000
    """Turns at most."""
    words: int = 3
    """Words in all, at least."""
    most_words: int = 100_000
    """Words in all, at most (Gopher: 100,000)."""
    empty: bool = False
    """Let conversations pass that have a turn with nothing in it."""
    word_length: tuple[float, float] = (2.0, 12.0)
    """Mean characters a word, at least and at most, from 50 words on (Gopher: 3 and 10; chat is terser, German
    longer)."""
    signs: float = 0.1
    """Hash signs and ellipses a word, at most, from 50 words on (Gopher: 0.1)."""
    alphabetic: float = 0.5
    """Share of words with a letter, at least, from 50 words on (Gopher: 0.8; talk of figures and dates has fewer)."""
    bullets: float = 0.95
    """Share of an answer's lines that are bullet points, at most, from 10 lines on (Gopher: 0.9)."""

    def apply(self, conversation: Conversation) -> Kept | Dropped:
        turns = [message for message in conversation.messages if message.role in ("user", "assistant")]
        if not any(message.role == "assistant" for message in turns):
            return Dropped("no turn of the assistant")
        if not any(message.role == "user" for message in turns):
            return Dropped("no turn of the user")
        if len(turns) < self.turns:
            return Dropped("too few turns", str(len(turns)))
        if len(turns) > self.most_turns:
            return Dropped("too many turns", str(len(turns)))
        for i, message in enumerate((*conversation.messages, *conversation.rejected)):
            spoken = message.role in ("user", "assistant") and not message.tool_calls
            if spoken and not self.empty and not (message.content or "").strip():
                return Dropped("an empty turn", f"message {i}")
        text = "\n".join(message.content for message in turns if message.content)
        found = words(text)
        if len(found) < self.words and not any(message.tool_calls for message in turns):
            return Dropped("too few words", str(len(found)))
        if len(found) > self.most_words:
            return Dropped("too many words", str(len(found)))
        return self._prose(text) or Kept(conversation)

    def _prose(self, text: str) -> Dropped | None:
        prose = _CODE.sub(" ", text) if any(mark in text for mark in _CODE_MARKS) else text
        spaced = prose.split()
        if len(spaced) < 50:
            return None
        lines = [line for line in prose.splitlines() if line.strip()]
        signs = len(_SIGNS.findall(prose)) / len(spaced)
        if signs > self.signs:
            return Dropped("too many hash signs and ellipses", f"{signs:.2f} a word")
        bulleted = sum(_BULLET.match(line) is not None for line in lines) / len(lines)
        if len(lines) >= 10 and bulleted > self.bullets:
            return Dropped("nearly all lines are bullet points", f"{bulleted:.2f}")
        if has_unspaced(prose):
            return None
        mean = sum(map(len, spaced)) / len(spaced)
        if not self.word_length[0] <= mean <= self.word_length[1]:
            return Dropped("words too short or too long", f"{mean:.1f} characters a word")
        alphabetic = sum(word[0].isalpha() or any(map(str.isalpha, word)) for word in spaced) / len(spaced)
        if alphabetic < self.alphabetic:
            return Dropped("too few words with a letter", f"{alphabetic:.2f}")
        return None

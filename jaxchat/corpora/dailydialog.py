"""DailyDialog: a dialogue a line, its turns ending in `__eou__`; the two speakers take turns.

A row is a line. The corpus writes words and marks apart (`I ’ d like that .`): that is left as it is unless asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import ClassVar

from jaxchat.chat.conversation import Conversation
from jaxchat.corpora.ledger import Dropped, Found, Ledger, Rejected
from jaxchat.corpora.rows import Row, Source, lines
from jaxchat.corpora.turns import Talk

END = "__eou__"
# Published beside the dialogues: a number for each of their turns.
_LABELS = ("act", "emotion", "topic", "readme")


@dataclass(frozen=True)
class Dailydialog(Talk):
    """Small talk of two people; who speaks first is the user."""

    suffixes: ClassVar[tuple[str, ...]] = (".txt",)

    spacing: bool = True
    """Spaces before marks and around apostrophes are left as they are; no: taken out, as people write."""

    def fits(self, file: PurePath) -> bool:
        return super().fits(file) and not any(word in Source(Path(file), "").file_name for word in _LABELS)

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        for source in files:
            for row in lines(source, ledger):
                yield self._dialogue(row) if isinstance(row, Row) else row

    def _dialogue(self, row: Row) -> Found | Rejected:
        if END not in row.value:
            return row.reject(f"no {END} in the line")
        texts = row.value.split(END)
        if not texts[-1].strip():  # the last turn ends in the mark, or not
            texts.pop()
        if blank := next((i for i, text in enumerate(texts, 1) if not text.strip()), None):
            return row.reject(f"turn {blank} is empty, so that it is unknown who says what follows")
        # The space on either side of the mark belongs to the mark.
        texts = [text.strip(" ") for text in texts]
        if not self.spacing:
            texts = [closed_up(text) for text in texts]
        try:
            messages = self.messages([("AB"[i % 2], text) for i, text in enumerate(texts)])
        except ValueError as reason:
            return Dropped(row.file, row.position, str(reason), row.value)
        conversation = Conversation(f"{row.file}:{row.position}", messages, source="dailydialog")
        return Found(conversation, {row.file: (row.position,)})


def closed_up(text: str) -> str:
    """English as it is written: `I ’ d like that , Ann .` -> `I’d like that, Ann.`"""
    text = re.sub(r" +([.,!?;:%)\]])", r"\1", text)
    text = re.sub(r"(?<=\w) ?(['’]) ?(?=(?:s|d|m|t|re|ve|ll)\b)", r"\1", text, flags=re.IGNORECASE)
    return re.sub(r"([(\[$]) +", r"\1", text)

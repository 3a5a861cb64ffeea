"""Personal data: found by its form and its check digits, replaced by a placeholder of its kind, counted."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from jaxchat.chat.conversation import Conversation
from jaxchat.curation.identifiers import RECOGNISERS
from jaxchat.curation.step import Dropped, Kept, Step, edited_throughout
from jaxchat.errors import InputError

Kind = Literal["email", "wallet", "iban", "ip", "card", "id", "phone"]
_FIGURE = re.compile(r"\d")
_CANDIDATE = re.compile(r"\d|[@＠]|\bat \S+ dot \b|[\[({<]at[\])}>]")


@dataclass(frozen=True)
class PersonalData(Step):
    """Replaces emails, phone numbers, card numbers (Luhn), IBANs, IP addresses, wallets and national ids by <EMAIL>,
    <PHONE> and so on, in the texts and in what is known beside them. What was there is nowhere written down. Names of
    people are the entities step's.
    """

    name: ClassVar[str] = "personal-data"
    hides: ClassVar[bool] = True

    kinds: tuple[Kind, ...] = get_args(Kind)
    """What to look for."""
    act: Literal["mask", "drop"] = "mask"
    """Replace what is found, or drop the conversation that has it."""
    placeholder: str = "<{}>"
    """What stands in its place; {} is the kind in capitals."""

    def prepared(self) -> Step:
        if "{}" not in self.placeholder:
            raise InputError(
                f"--personal-data.placeholder {self.placeholder}: {{}} must stand where the kind is to be named"
            )
        return self

    def apply(self, conversation: Conversation) -> Kept | Dropped:
        counts: Counter[str] = Counter()
        masked = edited_throughout(conversation, lambda text: self.mask(text, counts))
        if counts and self.act == "drop":
            return Dropped("personal data", ", ".join(sorted(counts)))
        return Kept(masked, counts)

    def mask(self, text: str, counts: Counter[str]) -> str:
        """`text` with its personal data replaced, each piece counted by its kind."""
        if not _CANDIDATE.search(text):
            return text
        figures = len(_FIGURE.findall(text))
        for kind, recogniser in RECOGNISERS.items():
            if kind in self.kinds and figures >= recogniser.figures:
                text = self._mask(text, kind, counts)
        return text

    def _mask(self, text: str, kind: str, counts: Counter[str]) -> str:
        parts, end = [], 0
        for start, stop in sorted(set(RECOGNISERS[kind].spans(text)), key=lambda span: (span[0], -span[1])):
            if start >= end:
                parts += [text[end:start], self.placeholder.format(kind.upper())]
                counts[kind] += 1
                end = stop
        return "".join([*parts, text[end:]]) if parts else text

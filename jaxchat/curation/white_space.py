"""Unicode and white space: one form of every character, no invisible ones, no heaps of blanks."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxchat.chat.conversation import Conversation
from jaxchat.curation.step import Kept, Step, edited

# Control characters but tab and line feed, soft hyphens, zero-width spaces, direction marks, byte order marks, private
# use, noncharacters. The joiners U+200C and U+200D stay: emoji, Persian and Indic scripts are spelled with them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f\x80-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f"
    "\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff\ue000-\uf8ff"
    "\U000e0000\U000e0001\U000f0000-\U0010ffff]"
)
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_BLANKS = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_TRAILING = re.compile(r"[ \t]+(?=\n)")
_EMPTY_LINES = re.compile(r"\n{4,}")
_RUNS = re.compile(r"(?<=\S)[ \t]{2,}(?=\S)")
_STRAY_JOINERS = re.compile("^[\u200c\u200d]+|[\u200c\u200d]+$|(?<=[\\s\u200c\u200d])[\u200c\u200d]+", re.MULTILINE)
_FENCE = re.compile(r"(```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z))", re.DOTALL)
_ALIGNED = re.compile(r"^(?: {4}|\t|\s*\|)", re.MULTILINE)
_UNUSUAL = re.compile("[\x00-\x08\x0b-\x1f\x7f]|[ \t]\n|\n\n\n\n|[ \t]{2}")


@dataclass(frozen=True)
class WhiteSpace(Step):
    """Normalises Unicode, removes invisible characters, trims, and makes one blank of many.

    Blanks inside code (fenced or indented), tables and at the beginning of a line mean something and stay.
    """

    name: ClassVar[str] = "white-space"

    form: Literal["NFC", "NFKC", "none"] = "NFC"
    """Unicode's normal form. NFKC also makes full-width and ligature characters ordinary ones, and loses exponents."""

    def apply(self, conversation: Conversation) -> Kept:
        changed = 0

        def tidy(text: str) -> str:
            nonlocal changed
            result = self._tidied(text)
            changed += result != text
            return result

        conversation = edited(conversation, tidy)
        return Kept(conversation, {"texts tidied": changed} if changed else {})

    def _tidied(self, text: str) -> str:
        if not text.isascii():
            if self.form != "none":
                text = unicodedata.normalize(self.form, text)
            text = _STRAY_JOINERS.sub("", _BLANKS.sub(" ", text))
        elif not _UNUSUAL.search(text):
            return text.strip()
        text = _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text))
        text = _EMPTY_LINES.sub("\n\n\n", _TRAILING.sub("", text))
        if "  " in text or "\t" in text:
            parts = _FENCE.split(text)
            parts[::2] = [part if _ALIGNED.search(part) else _RUNS.sub(" ", part) for part in parts[::2]]
            text = "".join(parts)
        # The indentation of a first line of code stays.
        return text.rstrip().lstrip("\n") if _ALIGNED.match(text) else text.strip()

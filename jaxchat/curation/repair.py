"""Text repair: UTF-8 that was read as something else, curly leftovers, halves of characters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from jaxchat.chat.conversation import Conversation
from jaxchat.curation.step import Kept, Step, edited


@dataclass(frozen=True)
class Repair(Step):
    """Undoes mojibake by ftfy (Speer 2019, https://doi.org/10.5281/zenodo.2591652): `schÃ¶n` is `schön` again.

    What is a matter of taste (curly quotes, ligatures, full-width forms, HTML entities) is left as it is.
    """

    name: ClassVar[str] = "repair"

    quotes: bool = False
    """Make curly quotes straight."""

    def apply(self, conversation: Conversation) -> Kept:
        repaired = 0

        def repair(text: str) -> str:
            nonlocal repaired
            if text.isascii() and "\x1b" not in text:
                return text
            fixed = _ftfy().fix_text(text, _config(self.quotes))
            repaired += fixed != text
            return fixed

        conversation = edited(conversation, repair)
        return Kept(conversation, {"texts repaired": repaired} if repaired else {})


@cache
def _ftfy() -> Any:
    import ftfy

    return ftfy


@cache
def _config(quotes: bool) -> Any:
    return _ftfy().TextFixerConfig(
        unescape_html=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=quotes,
        fix_line_breaks=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )

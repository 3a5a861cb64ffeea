"""Boilerplate: turns that nobody said, bots, and turns that are a link and nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.curation.step import Dropped, Kept, Step

# A bare "removed" may be an answer; in brackets, or as one of the sentences that programs put in a text's place, it is
# not.
_GONE = (
    r"deleted|removed(?: by (?:the )?(?:reddit|moderators?|admins?))?|deleted by (?:the )?user|media omitted|view once"
)
_DELETED = re.compile(
    rf"[*_\s]*(?:[\[(<{{]\s*(?:{_GONE}|(?:comment|message|post|content) (?:deleted|removed))\s*[\])>}}]|"
    r"\u200e?(?:image|video|audio|sticker|gif|document|contact card) omitted|<media omitted>|"
    r"(?:this|your?) (?:message|comment|post) (?:was|has been) (?:deleted|removed)(?: by [\w ]{1,40})?|"
    r"you deleted this message|missed (?:voice|video) call|"
    r"[\[【]?(?:此消息已撤回|[该此]消息已被?撤回|消息已被?删除|图片已省略|.{0,20}撤回了一条消息)[\]】]?)[*_.。\s]*",
    re.IGNORECASE,
)
_BOT = re.compile(
    r"\b(?:i am a bot,? and this action was performed automatically|i'?m a bot\b.{0,40}\bbeep|beep boop|bleep bloop|"
    r"(?:contact|message) the moderators of this subreddit|this is an automated (?:message|reply|response)|"
    r"^(?:sorry, )?i am currently out of (?:the )?office|remindme! |\[bot\] )",
    re.IGNORECASE,
)
# One of them is in all that the pattern finds: looking for these takes a fraction of the time.
_BOT_HINTS = ("bot", "beep", "moderators", "automated", "out of", "remindme")
_BOT_NAME = re.compile(r"(?:^|[_\-. ])bot$|^automoderator$|^bot[_\-. ]|Bot$", re.IGNORECASE | re.ASCII)
_LINK = re.compile(r"(?:https?://|www\.)[^\s<>]+|!?\[[^\]]*\]\([^)\s]+\)", re.IGNORECASE)
_HANDLE = re.compile(r"(?:^|(?<=\s))[@#]\w+")


@dataclass(frozen=True)
class Boilerplate(Step):
    """Drops conversations with a turn that was deleted, that a bot wrote, or that is nothing but links.

    With `act trim` the conversation ends before that turn instead, where two sides have spoken by then.
    """

    name: ClassVar[str] = "boilerplate"

    act: Literal["drop", "trim"] = "drop"
    """Drop the whole conversation, or keep what was said before that turn."""
    allow: tuple[Literal["deleted", "bot", "links"], ...] = ()
    """Kinds of boilerplate to let pass."""

    def apply(self, conversation: Conversation) -> Kept | Dropped:
        for place, messages in (("message", conversation.messages), ("rejected message", conversation.rejected)):
            for i, message in enumerate(messages):
                kind = _kind(message)
                if kind is None or kind in self.allow:
                    continue
                if self.act == "trim" and not conversation.rejected:
                    return _trimmed(conversation, i, kind)
                return Dropped(_REASONS[kind], f"{place} {i}")
        return Kept(conversation)


_REASONS = {"deleted": "a deleted turn", "bot": "a turn written by a bot", "links": "a turn of links only"}


def _kind(message: Message) -> str | None:
    if message.role not in ("user", "assistant") or not message.content:
        return None
    text = message.content
    if len(text) < 80 and _DELETED.fullmatch(text):
        return "deleted"
    speaker = message.extra.get("author") or message.extra.get("speaker") or message.name
    if isinstance(speaker, str) and message.role == "user" and _BOT_NAME.search(speaker):
        return "bot"
    lower = text.casefold()
    if any(hint in lower for hint in _BOT_HINTS) and _BOT.search(text):
        return "bot"
    if ("://" in text or "www." in lower) and not re.search(r"\w", _HANDLE.sub("", _LINK.sub("", text))):
        return "links"
    return None


def _trimmed(conversation: Conversation, end: int, kind: str) -> Kept | Dropped:
    messages = conversation.messages[:end]
    while messages and messages[-1].role != "assistant":
        messages = messages[:-1]
    if not any(message.role == "user" for message in messages):
        return Dropped(_REASONS[kind], f"message {end}, with nothing before it to keep")
    cut = len(conversation.messages) - len(messages)
    return Kept(replace(conversation, messages=messages), {"turns cut": cut, _REASONS[kind]: 1})

"""What a step of cleaning is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from jaxchat.chat.conversation import Conversation, Message


@dataclass(frozen=True)
class Kept:
    """The conversation goes on, as it now is. `counts` are what the step found in it, by kind, for the report."""

    conversation: Conversation
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Dropped:
    """The conversation ends here. `reason` is one of few, which are counted; `detail` is this conversation's own."""

    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Step:
    """A step's options are its fields. `apply` depends on them and on its argument alone: it is run in any order, on
    any machine, and gives the same."""

    name: ClassVar[str]

    hides: ClassVar[bool] = False
    """It hides what must not be read: dropped conversations pass through it as well before they are written down."""

    def prepared(self) -> Step | None:
        """What is run: the step with all that it reads from files in it, so that it can be sent to another machine;
        None where its options leave it nothing to do. InputError where they name what is not there."""
        return self

    def apply(self, conversation: Conversation) -> Kept | Dropped:
        raise NotImplementedError


def edited(conversation: Conversation, edit: Callable[[str], str]) -> Conversation:
    """The conversation with `edit` made to every text that a person or a model wrote: contents and the texts inside
    tool calls' arguments, in the worse conversation of a preference too. The same object where nothing changed."""
    messages = _edited(conversation.messages, edit)
    rejected = _edited(conversation.rejected, edit)
    if messages is conversation.messages and rejected is conversation.rejected:
        return conversation
    return replace(conversation, messages=messages, rejected=rejected)


# What programs go by: the rows that a conversation was made of, what is held out together, languages and licences.
_AS_IT_IS = frozenset(("rows", "group", "language", "license", "licence"))


def edited_throughout(conversation: Conversation, edit: Callable[[str], str]) -> Conversation:
    """The same, with `edit` also made to what is known beside the texts: the conversation's `meta` and the messages'
    other keys, in which titles, prompts and names may stand again."""
    conversation = edited(conversation, edit)
    messages, rejected = _with_extra(conversation.messages, edit), _with_extra(conversation.rejected, edit)
    meta = _noted(conversation.meta, edit)
    if (messages, rejected, meta) == (conversation.messages, conversation.rejected, conversation.meta):
        return conversation
    return replace(conversation, messages=messages, rejected=rejected, meta=meta)


def _with_extra(messages: tuple[Message, ...], edit: Callable[[str], str]) -> tuple[Message, ...]:
    if not any(message.extra for message in messages):
        return messages
    return tuple(replace(m, extra=_noted(m.extra, edit)) if m.extra else m for m in messages)


def _noted(known: Mapping[str, Any], edit: Callable[[str], str]) -> dict[str, Any]:
    return {key: value if key in _AS_IT_IS else inside(value, edit) for key, value in known.items()}


def _edited(messages: tuple[Message, ...], edit: Callable[[str], str]) -> tuple[Message, ...]:
    result: list[Message] | None = None
    for i, message in enumerate(messages):
        new = _edited_message(message, edit)
        if new is not message:
            result = result or list(messages)
            result[i] = new
    return messages if result is None else tuple(result)


def _edited_message(message: Message, edit: Callable[[str], str]) -> Message:
    changes: dict[str, Any] = {}
    if message.content:
        content = edit(message.content)
        if content != message.content:
            changes["content"] = content
    if message.tool_calls:
        calls = tuple(replace(call, arguments=inside(call.arguments, edit)) for call in message.tool_calls)
        if calls != message.tool_calls:
            changes["tool_calls"] = calls
    return replace(message, **changes) if changes else message


def inside(value: Any, edit: Callable[[str], str]) -> Any:
    """`edit` made to every text in a JSON value; keys stay, since programs read them."""
    if isinstance(value, str):
        return edit(value)
    if isinstance(value, list):
        return [inside(element, edit) for element in value]
    if isinstance(value, dict):
        return {key: inside(element, edit) for key, element in value.items()}
    return value

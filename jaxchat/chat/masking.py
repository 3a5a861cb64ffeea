"""Which characters of a rendered conversation the assistant wrote: the rules are told in chat/template.py."""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jinja2

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.chat.render import ChatTemplate, Rendering, as_template_data
from jaxchat.errors import InputError

# Stands for a reply's text where a template is asked what it puts around one.
_REPLY = "xREPLYx"


class ChatFormatError(InputError):
    """A conversation that a template cannot render, or not mask exactly. `turn` is the message's index, where known."""

    def __init__(self, reason: str, turn: int | None = None, conversation: str = ""):
        where = [conversation] if conversation else []
        if turn is not None:
            where.append(f"message {turn}")
        super().__init__(": ".join([", ".join(where), reason]) if where else reason)
        self.turn = turn


@dataclass(frozen=True)
class Header:
    """What a template puts around a reply.

    `text`: what asks for the reply; `given`: whether the template writes it as its generation prompt, else it is read
    off a reply and has to be added to a prompt. `before_reply`: what the template puts between the prompt and the
    reply's text, `closing` what it puts after it, without white space at the end.
    """

    text: str
    given: bool
    before_reply: str
    closing: str


@dataclass(frozen=True)
class Layout:
    """A template with all it is given but the messages.

    `variables(add_generation_prompt)` are its variables; `markers` matches the tokens that are whole wherever they
    stand in a text.
    """

    template: ChatTemplate
    variables: Callable[[bool], Mapping[str, Any]]
    markers: re.Pattern[str]

    def render(self, data: list[dict[str, Any]], add_generation_prompt: bool = False) -> Rendering:
        return self.template.render(data, self.variables(add_generation_prompt))

    def header(self) -> Header:
        """Asks the template by an exchange whose reply is known."""
        ask, reply = Message("user", "U"), Message("assistant", _REPLY)
        try:
            before = self.render([as_template_data(ask)]).text
            prompt = self.render([as_template_data(ask)], True).text
            answered = self.render([as_template_data(ask), as_template_data(reply)]).text
        except jinja2.TemplateError:
            return Header("", True, "", "")
        at = answered.find(_REPLY)
        closing = answered[at + len(_REPLY) :].rstrip() if at >= 0 else ""
        between = answered[len(prompt) : at] if answered.startswith(prompt) and at >= 0 else ""
        if prompt != before:
            return Header(prompt[self._shared(prompt, before) :], True, between, closing)
        if between.strip():
            return Header(between, False, "", closing)
        return Header("", True, between, closing)

    def _shared(self, text: str, other: str) -> int:
        """How many characters both begin with, no marker cut in two."""
        shared = len(os.path.commonprefix([text, other]))  # noqa: RUF071
        for match in self.markers.finditer(text):
            if match.start() < shared < match.end():
                return match.start()
        return shared


class Mask:
    """The characters of one conversation's rendering: whose they are, and where its messages begin.

    Raises ChatFormatError where the template refuses the conversation.
    """

    def __init__(self, layout: Layout, header: Header, conversation: Conversation):
        self.layout, self.header, self.conversation = layout, header, conversation
        self.messages = conversation.messages
        self._data = [as_template_data(message) for message in self.messages]
        self._found: dict[tuple[int, bool], Rendering | None] = {}
        self._ends: dict[int, int] = {}
        if not self.messages:
            raise self._refusal("there are no messages to render")
        try:
            self.whole = layout.render(self._data)
        except jinja2.TemplateError as error:
            turn = next((i for i in range(len(self.messages)) if self._first(i + 1) is None), None)
            raise self._refusal(f"the chat template refuses it ({error})", turn) from None
        self._found[len(self.messages), False] = self.whole
        self.text = self.whole.text

    def trained(self) -> Iterator[tuple[int, int, int]]:
        """(message, start, end) of what is trained on, in order. Raises ChatFormatError where that is not certain."""
        if self.layout.template.has_marks:
            yield from self._marked()
            return
        for i, message in enumerate(self.messages):
            if message.role == "assistant" and message.train > 0:
                start = self._start(i)
                self._ends[i] = end = self._end(i, start)
                yield i, start, end

    def boundaries(self) -> list[int]:
        """Where each message begins, in characters. Call it after `trained`, whose findings it uses."""
        found = [0]
        for i in range(1, len(self.messages)):
            found.append(max(found[-1], self._boundary(i)))
        return found

    def _boundary(self, i: int) -> int:
        if (i, False) not in self._found and self._found.get((i, True)) is not None:
            prompt = self._prompt(i)
            if prompt is not None and self.text.startswith(prompt) and prompt.endswith(self.header.text):
                return len(prompt) - len(self.header.text)
        before = self._first(i)
        if before is not None and self.text.startswith(before.text):
            return len(before.text)
        end = self._end_of_turn(i - 1)
        return end + len(self.text[end:]) - len(self.text[end:].lstrip()) if end else 0

    def _end_of_turn(self, i: int) -> int:
        """Where the assistant's message i ends, trained on or not; 0 if that is not certain."""
        if i not in self._ends and self.messages[i].role == "assistant":
            try:
                self._ends[i] = self._end(i, self._start(i))
            except ChatFormatError:
                pass
        return self._ends.get(i, 0)

    def _first(self, count: int, add_generation_prompt: bool = False) -> Rendering | None:
        """The first `count` messages, rendered alone; None where the template refuses that."""
        key = (count, add_generation_prompt)
        if key not in self._found:
            try:
                self._found[key] = self.layout.render(self._data[:count], add_generation_prompt)
            except jinja2.TemplateError:
                self._found[key] = None
        return self._found[key]

    def _prompt(self, i: int) -> str | None:
        """The text that asks for message i; None where nothing, or nothing the template renders, precedes it."""
        before = self._first(i, True) if i else None
        if before is None:
            return None
        return before.text if self.header.given else before.text + self.header.text

    def _start(self, i: int) -> int:
        """Where the assistant's message i begins to be its own."""
        prompt = self._prompt(i)
        if prompt is not None:
            if self.text.startswith(prompt):
                return len(prompt)
            at = len(os.path.commonprefix([self.text, prompt]))  # noqa: RUF071
            raise self._refusal(
                "the chat template renders what precedes it differently in the whole conversation "
                f"({self.text[at : at + 20]!r}) and as the prompt for it ({prompt[at : at + 20]!r}); "
                "cut the conversation there, or use another template",
                i,
            )
        # Nothing asks for it. Its content's place shows by changing it, and the header must stand before it, once.
        content, header = self._content_place(i), self.header.text
        if content is not None and header and self.text.count(header, 0, content) == 1:
            return self.text.index(header, 0, content) + len(header)
        raise self._refusal("no prompt can be rendered for it; begin the conversation with a user's message", i)

    def _end(self, i: int, start: int) -> int:
        """Where the assistant's message i, closed, ends."""
        alone = self._first(i + 1)
        if alone is None or not self.text.startswith(alone.text):
            return self._end_at_marker(i, start, alone)
        end = start + len(self.text[start : len(alone.text)].rstrip())
        turn = self.text[start:end]
        closed = bool(self.header.closing) and turn.endswith(self.header.closing)
        if not closed and not any(match.end() == len(turn) for match in self.layout.markers.finditer(turn)):
            raise self._refusal("the chat template closes it with nothing; end the turn with {{ eos_token }}", i)
        return end

    def _end_at_marker(self, i: int, start: int, alone: Rendering | None) -> int:
        """For a turn that is rendered otherwise when it is the last: its end is the first closing marker after its
        start. That holds if the marker, in the turn as the last one, stands at its end alone, and if the text up to it
        does not depend on what the next message says."""
        match = self.layout.markers.search(self.header.closing)
        if match is not None and alone is not None:
            marker, last = match.group(), self._as_last_turn(i, alone.text)
            after = self.layout.markers.sub("", last.partition(marker)[2])
            end = self.text.find(marker, start) + len(marker)
            if last.count(marker) == 1 and not after.strip() and end >= start + len(marker):
                following = self._content_place(i + 1)
                if following is not None and following >= end:
                    return end
        raise self._refusal(
            "the chat template renders it otherwise when messages follow, so its end is not certain; "
            "cut the conversation there, or use another template",
            i,
        )

    def _as_last_turn(self, i: int, text: str) -> str:
        """The part of `text`, a rendering up to message i, that follows the prompt for it; empty if that is unknown."""
        prompt = self._prompt(i)
        if prompt is not None:
            return text[len(prompt) :] if text.startswith(prompt) else ""
        return text.partition(self.header.text)[2] if i == 0 else ""

    def _content_place(self, i: int) -> int | None:
        """Where the content of message i begins, found by writing something before it; None where that changes what
        precedes it."""
        probe = "xBEGINx"
        while probe in self.text:
            probe += "x"
        changed = [*self._data]
        changed[i] = {**changed[i], "content": probe + changed[i].get("content", "")}
        try:
            text = self.layout.render(changed).text
        except jinja2.TemplateError:
            return None
        at = text.find(probe)
        return at if at >= 0 and text[:at] == self.text[:at] else None

    def _marked(self) -> Iterator[tuple[int, int, int]]:
        for i, (start, end) in zip(self._owners(), self.whole.marked, strict=True):
            prompt = self._prompt(i)
            if prompt is not None and self.text.startswith(prompt):
                start = max(start, len(prompt))
            self._ends[i] = end
            if self.messages[i].train > 0 and start < end:
                yield i, start, end

    def _owners(self) -> list[int]:
        """Which message each marked block belongs to: the assistant's in order, or by how many there are up to each."""
        owners = [i for i, message in enumerate(self.messages) if message.role == "assistant"]
        if len(owners) == len(self.whole.marked):
            return owners
        owners = []
        for i in range(len(self.messages)):
            upto = self._first(i + 1)
            if upto is not None:
                owners += [i] * (len(upto.marked) - len(owners))
        if len(owners) != len(self.whole.marked) or any(self.messages[i].role != "assistant" for i in owners):
            raise self._refusal("it is not certain which messages the template's {% generation %} blocks belong to")
        return owners

    def _refusal(self, reason: str, turn: int | None = None) -> ChatFormatError:
        return ChatFormatError(reason, turn, self.conversation.id)

"""Calls of tools in what a model writes: how its template spells them, found as text streams in.

The spelling is read off the template by letting it render a call that is known: ChatML's and Qwen's tagged objects,
Llama's bare one, Mistral's marked list. A template that knows no tools is helped out: they are told in the system
message, and calls and their answers written as text in ChatML's way.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxchat.chat.conversation import Message, ToolCall
from jaxchat.chat.template import ChatFormat, ChatFormatError

_NAME, _KEY, _VALUE = "xNAMEx", "xKEYx", "xVALUEx"
_TOOL = {
    "type": "function",
    "function": {"name": _NAME, "description": "", "parameters": {"type": "object", "properties": {}}},
}
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Spelling:
    """How calls are written. before, after: what encloses a call, or with `listed` the list of them; before is empty
    for a bare object, which must then be all that is said. arguments: the key of the object of arguments. in_words:
    the template knows no tools."""

    before: str = "<tool_call>"
    after: str = "</tool_call>"
    arguments: str = "arguments"
    listed: bool = False
    in_words: bool = False

    def messages(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> list[Message]:
        """The messages as the template is to be given them, with `tools` only where it knows what those are."""
        if not self.in_words:
            return list(messages)
        said = [_in_words(message, self) for message in messages]
        if not tools:
            return said
        told = _told(tools)
        if said and said[0].role == "system":
            return [replace(said[0], content=f"{said[0].content}\n\n{told}"), *said[1:]]
        return [Message("system", told), *said]

    def write(self, call: ToolCall) -> str:
        arguments = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)
        return f'{self.before}{{"name": {json.dumps(call.name)}, "{self.arguments}": {arguments}}}{self.after}'


def spelling(chat: ChatFormat) -> Spelling:
    """How `chat`'s template writes the assistant's calls."""
    ask = [Message("user", "U")]
    call = Message("assistant", None, tool_calls=(ToolCall(_NAME, {_KEY: _VALUE}, "call00000"),))
    in_words = Spelling(in_words=True)
    try:
        if chat.text(ask, [_TOOL]) == chat.text(ask):
            return in_words
        reply = chat.text([*ask, call], [_TOOL])[len(chat.text(ask, [_TOOL])) :]
    except ChatFormatError:
        return in_words
    at = reply.find("{")
    name = reply.find(_NAME)
    if at < 0 or name < at:
        return in_words
    listed = reply[:at].rstrip().endswith("[")
    start = reply.rindex("[", 0, at) if listed else at
    try:
        written, end = _DECODER.raw_decode(reply, start)
    except ValueError:
        return in_words
    one = written[0] if listed else written
    arguments = next((key for key, value in one.items() if value == {_KEY: _VALUE}), None)
    if arguments is None or one.get("name") != _NAME:
        return in_words
    # Before a call stands its marker, last in what precedes it; the header of the reply is none.
    marker = re.search(r"(\S+)\s*$", reply[:start])
    header = chat.text(ask, [_TOOL], True)[len(chat.text(ask, [_TOOL])) :]
    before = marker.group(1) if marker and start > len(header.rstrip()) else ""
    if before and before in header:
        before = ""
    after = re.match(r"\s*(</\S+?>)", reply[end:])
    return Spelling(before, after.group(1) if before and after else "", arguments, listed)


class CallReader:
    """Text in, as it is written; what is content and the calls in it out.

    What may be the beginning of a call is kept back until that is certain; a call is given whole. What looks like one
    and is none is content, to the letter. `names`: the tools on offer.
    """

    def __init__(self, spelling: Spelling, names: frozenset[str], *, at_most: int | None = None) -> None:
        self.spelling, self.names, self.at_most = spelling, names, at_most
        self.calls: list[ToolCall] = []
        self._held = ""
        self._said = False  # content was given

    def write(self, text: str, *, last: bool = False) -> Iterator[str | ToolCall]:
        """What follows from more text; `last` when there is no more."""
        self._held += text
        while self._held:
            found = self._next(last)
            if found is None:
                return
            if isinstance(found, str):
                if found.strip() or not self.calls:  # white space between calls is nobody's
                    self._said = self._said or bool(found.strip())
                    yield found
            else:
                for call in found:
                    if self.at_most is None or len(self.calls) < self.at_most:
                        self.calls.append(call)
                        yield call

    def _next(self, last: bool) -> str | list[ToolCall] | None:
        """Takes the next piece off what is held: content, or calls; None where more must be seen."""
        before = self.spelling.before
        if not before:
            return self._bare(last)
        at = self._held.find(before)
        if at > 0:
            return self._take(at)
        if at < 0:
            return self._take(len(self._held) - (0 if last else _begun(self._held, before)))
        value, end = _json(self._held, len(before))
        if value is None:
            return self._take(len(self._held)) if last or end == 0 else None
        after = self.spelling.after
        rest = self._held[end:].lstrip()
        if after and not rest.startswith(after):
            if not last and after.startswith(rest):
                return None
            return self._closed(value, end) if last or rest else None
        return self._closed(value, len(self._held) - len(rest) + len(after))

    def _bare(self, last: bool) -> str | list[ToolCall] | None:
        """A bare object is a call only where it is all that is said."""
        if self._said or self.calls or not self._held.lstrip().startswith("{"):
            if not self._held.strip() and not last:
                return None
            return self._take(len(self._held))
        value, end = _json(self._held, 0)
        if value is None:
            return self._take(len(self._held)) if last or end == 0 else None
        if not last and not self._held[end:].strip():
            return None
        if self._held[end:].strip():
            return self._take(len(self._held))
        return self._closed(value, len(self._held))

    def _closed(self, value: Any, end: int) -> str | list[ToolCall]:
        calls = self._calls(value)
        if calls is None:
            return self._take(end) or ""
        self._held = self._held[end:]
        return calls

    def _calls(self, value: Any) -> list[ToolCall] | None:
        rows = value if isinstance(value, list) else [value]
        calls = []
        for row in rows:
            if not isinstance(row, dict) or row.get("name") not in self.names:
                return None
            arguments = row.get(self.spelling.arguments, row.get("arguments", row.get("parameters", {})))
            if not isinstance(arguments, str | dict):
                return None
            calls.append(ToolCall(row["name"], arguments, call_id()))
        return calls or None

    def _take(self, count: int) -> str | None:
        text, self._held = self._held[:count], self._held[count:]
        return text or None


def call_id() -> str:
    """Nine letters and figures, which is what Mistral's templates ask for and others allow."""
    return "".join(secrets.choice("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") for _ in range(9))


def _begun(text: str, marker: str) -> int:
    """How many characters at the end of `text` the marker may begin with."""
    return next((n for n in range(min(len(marker) - 1, len(text)), 0, -1) if text.endswith(marker[:n])), 0)


def _json(text: str, start: int) -> tuple[Any, int]:
    """The object or list that begins at `start`, behind white space, and its end; (None, 0) where none can come of it,
    (None, 1) where more text may make it one."""
    at = start + len(text[start:]) - len(text[start:].lstrip())
    if at == len(text):
        return None, 1
    if text[at] not in "{[":
        return None, 0
    try:
        return _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        # An unfinished text is told from a wrong one by its brackets alone: strict enough, since the end decides.
        return None, 1 if _open(text[at:]) else 0


def _open(text: str) -> bool:
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", text, flags=re.DOTALL)
    return '"' in bare or bare.count("{") + bare.count("[") > bare.count("}") + bare.count("]")


def _told(tools: Sequence[dict[str, Any]]) -> str:
    """The words of templates/chatml.jinja."""
    rows = "".join(json.dumps(tool, ensure_ascii=False) + "\n" for tool in tools)
    return (
        f"You can call these functions:\n<tools>\n{rows}</tools>\nTo call one, write "
        '<tool_call>{"name": its name, "arguments": {...}}</tool_call> on a line.'
    )


def _in_words(message: Message, spelled: Spelling) -> Message:
    if message.role == "tool":
        return Message("user", f"<tool_response>\n{message.content or ''}\n</tool_response>")
    if message.tool_calls:
        calls = "\n".join(spelled.write(call) for call in message.tool_calls)
        return Message(message.role, f"{message.content}\n{calls}" if message.content else calls)
    return message

"""A conversation to text by a Jinja chat template, in the environment that Hugging Face transformers gives templates.

Templates are code by strangers: they run in Jinja's immutable sandbox and see plain data only.
"""

from __future__ import annotations

import contextvars
import datetime
import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.runtime
import jinja2.sandbox

from jaxchat.chat.conversation import Message, ToolCall
from jaxchat.errors import InputError


@dataclass(frozen=True)
class Rendering:
    """`text`, and the (start, end) characters of each `{% generation %}` block in it, in order."""

    text: str
    marked: tuple[tuple[int, int], ...]


class ChatTemplate:
    """A compiled chat template. Raises InputError for one that is no Jinja."""

    def __init__(self, source: str):
        self.source = source
        try:
            self._template = _compile(source)
        except jinja2.TemplateSyntaxError as error:
            raise InputError(f"the chat template is not valid Jinja, line {error.lineno}: {error.message}") from None

    @property
    def has_marks(self) -> bool:
        """Whether it says itself, with `{% generation %}`, what the assistant writes."""
        return re.search(r"\{%[-+]?\s*generation\s*[-+]?%\}", self.source) is not None

    def render(self, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> Rendering:
        """The text of `messages`, which are as `as_template_data` makes them. `variables`: the special tokens, `tools`,
        `documents`, `add_generation_prompt` and the template's own options.

        Whatever the template raises, or does wrong, comes out as a jinja2.TemplateError.
        """
        follower = _Follower()
        token = _following.set(follower)
        try:
            for block in self._template.generate({**variables, "messages": messages}):
                follower.blocks.append(block)
        except jinja2.TemplateError:
            raise
        except Exception as error:  # None + "text", a call of what is no function
            raise jinja2.TemplateRuntimeError(f"{type(error).__name__}: {error}") from error
        finally:
            _following.reset(token)
        text = "".join(follower.blocks)
        if any(text[start : start + len(body)] != body for start, body in follower.marked):
            raise jinja2.TemplateRuntimeError("a {% generation %} block inside a macro or a set block has no place")
        return Rendering(text, tuple((start, start + len(body)) for start, body in follower.marked))


# Names that a message's reasoning goes by; the first is the one that templates read, gpt-oss's read the second.
_REASONING = ("reasoning_content", "thinking", "reasoning")


def as_template_data(message: Message) -> dict[str, Any]:
    """The message as templates see it, and as it would be given to transformers' `apply_chat_template`: what it has not
    is absent, tool calls are in OpenAI's form, and their arguments are an object."""
    row: dict[str, Any] = {"role": message.role, "content": message.content, "name": message.name}
    if message.tool_calls:
        row["tool_calls"] = [_call(call) for call in message.tool_calls]
    row["tool_call_id"] = message.tool_call_id
    row = {key: value for key, value in {**message.extra, **row}.items() if value is not None}
    reasoning = next((row[name] for name in _REASONING if name in row), None)
    if reasoning is not None:
        row = {"thinking": reasoning, **row, "reasoning_content": reasoning}
    return row


def _call(call: ToolCall) -> dict[str, Any]:
    row: dict[str, Any] = {} if call.id is None else {"id": call.id}
    return {**row, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


class _Follower:
    """What one rendering has written so far, and its `{% generation %}` blocks as (start, text)."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.marked: list[tuple[int, str]] = []


# Compiled templates are shared between threads; each rendering follows itself alone.
_following: contextvars.ContextVar[_Follower] = contextvars.ContextVar("following")


class _GenerationTag(jinja2.ext.Extension):
    """`{% generation %}...{% endgeneration %}`: renders what it encloses and notes where that stands in the text."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_note"), [], [], body).set_lineno(line)

    def _note(self, caller: Any) -> str:
        text = caller()
        follower = _following.get()
        follower.marked.append((sum(map(len, follower.blocks)), text))
        return text


class _Namespace(jinja2.utils.Namespace):
    """Jinja's, refusing names with an underscore in front: they would reach into Python."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        for name in dict(*rest, **kwargs):
            _refuse_private(name)
        jinja2.utils.Namespace.__init__(self, *rest, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)


def _refuse_private(name: str) -> None:
    if name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace holds no name that begins with an underscore: {name!r}")


class _Dict:
    """`dict(...)` for templates, without the attributes of Python's."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Jinja's own would escape HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """Jinja's, with a short way for `loop.first` and its like: templates read them at every message, and the sandbox's
    checks of each were two thirds of all rendering."""

    _LOOP = frozenset({"first", "last", "index", "index0", "length", "revindex", "revindex0", "previtem", "nextitem"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        if type(obj) is jinja2.runtime.LoopContext and attribute in self._LOOP:
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)


def _environment() -> jinja2.Environment:
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = _tojson
    environment.globals |= {
        "raise_exception": _raise_exception,
        "strftime_now": _strftime_now,
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    return environment


@functools.lru_cache(maxsize=64)
def _compile(source: str) -> jinja2.Template:
    return _environment().from_string(source)

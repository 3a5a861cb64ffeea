"""A conversation to token ids and the exact mask of what the assistant wrote: the one place where that happens.

Ids are those of tokenizing the whole rendered text, so they equal transformers' `apply_chat_template`. The mask is
found in characters first and carried over to tokens.

What is trained on, of a turn of the assistant with `train` above 0:

- from where the prompt for it ends: the template's rendering of all that precedes it, with the generation prompt. For
  a template that knows no generation prompt it is the header that it writes before a reply, where it writes one;
- to the end of what closes it (`<|im_end|>`, `</s>`), that included. White space which the template puts after that,
  such as ChatML's new line, is not the assistant's: whoever serves the model has stopped by then.

So `prompt(messages[:i])` followed by the trained tokens of message i is a prefix of the ids, which is how the model is
asked at the end. A mask is exact or refused, with a ChatFormatError that names the message:

- what the template itself refuses (two turns of the user in a row, in some);
- a conversation whose text up to a turn is not the prompt for that turn: a template that moves the system text to the
  last user's turn, or that drops earlier reasoning of which there is some, would train on contexts that never occur;
- a turn which the template closes with nothing, since a model trained on it would never stop;
- a token that reaches over either end of a turn. Such a reply begins with white space that the tokenizer reads together
  with the header's (`\\n` + `\\n\\n`, say): strip it in cleaning.

A template with `{% generation %}` marks says itself what the assistant wrote: its marks are followed, as transformers
follows them, except that the prompt is never trained on, even where it is marked.

Text is read as transformers reads it by default: who types `<|im_end|>` gets that token, in training, chatting and
serving alike. That cannot move the mask, which is found by rendering and not by looking for markers in what people
wrote; who serves strangers must look at what they type.

Not seen: a tokenizer that reads a header otherwise at a text's end than before a reply, though no token reaches over
the header's end (GPT-2's pattern makes two new lines one token at the end, and two before a word). The mask stays
exact; `prompt` then takes the tokens that stand before a reply that begins with a letter, which are not those that
transformers gives to the prompt alone. Of the templates here that is Llama 3's on a GPT-2-like vocabulary.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from jaxchat.chat.conversation import Conversation, Message, ToolCall
from jaxchat.chat.masking import ChatFormatError, Header, Layout, Mask
from jaxchat.chat.render import ChatTemplate, as_template_data
from jaxchat.chat.tokenizer import Tokenizer
from jaxchat.errors import InputError
from jaxchat.files import resolve

__all__ = ["ChatFormat", "ChatFormatError", "Example", "built_in_template", "load_template"]

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Example:
    """A tokenized conversation of n tokens.

    `weights[t]` is the weight of predicting `ids[t]` from what precedes it: 0 where it is not trained on, and always 0
    at t = 0. `turns[j]` is the index of message j's first token; text that no message wrote (BOS, a default system
    prompt) counts to message 0, and a message that is merged into its neighbour begins where that one does.
    """

    ids: np.ndarray  # int32[n]
    weights: np.ndarray  # float32[n]
    turns: tuple[int, ...]


def built_in_template(name: str) -> str:
    """A template that ships with the package, by name. Raises InputError naming those that exist."""
    templates = {file.stem: file for file in sorted(_TEMPLATES.glob("*.jinja"))}
    if name not in templates:
        raise InputError(f"no chat template {name!r} ships with jaxchat; there are {', '.join(templates)}")
    return templates[name].read_text(encoding="utf-8")


def load_template(name: str) -> str:
    """What a person names: a Jinja file (package:NAME/FILE too), or a template that ships with the package."""
    path = resolve(name)
    return path.read_text(encoding="utf-8") if path.is_file() else built_in_template(name)


class ChatFormat:
    """A tokenizer and a chat template: conversations to ids, and to examples with the mask.

    `template` None: the tokenizer's own, of which `tool_use`, if it has one, serves conversations with tools.
    `variables` are given to the template beside the special tokens (`enable_thinking`, `date_string`).
    Raises InputError without a template, or for one that is not Jinja.
    """

    def __init__(self, tokenizer: Tokenizer, template: str | None = None, variables: Mapping[str, Any] | None = None):
        sources = dict(tokenizer.chat_templates) if template is None else {"default": template}
        if "default" not in sources:
            raise InputError("the tokenizer has no chat template; give one, such as jaxchat's own `chatml`")
        self.tokenizer = tokenizer
        self.variables = {**tokenizer.special_tokens, **(variables or {})}
        self._templates = {name: ChatTemplate(source) for name, source in sources.items()}
        markers = [text for text in tokenizer.added_tokens if not text.isspace()]
        self._markers = re.compile("|".join(map(re.escape, sorted(markers, key=len, reverse=True))) or "(?!)")
        self._headers: dict[str, Header] = {}

    @property
    def template(self) -> str:
        """The template's source."""
        return self._templates["default"].source

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of all that decides an example, but for the day's date in templates that tell it."""
        sources = {name: template.source for name, template in self._templates.items()}
        key = json.dumps([self.tokenizer.fingerprint, sources, self.variables], sort_keys=True, default=str)
        return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()

    def text(
        self,
        messages: Sequence[Message],
        tools: Sequence[dict[str, Any]] = (),
        add_generation_prompt: bool = False,
        documents: Sequence[dict[str, Any]] = (),
    ) -> str:
        """The rendered text, as transformers' `apply_chat_template(tokenize=False)` gives it. Raises ChatFormatError
        where the template refuses the messages."""
        if not messages:
            raise ChatFormatError("there are no messages to render")
        layout = self._layout(tools, documents)
        try:
            return layout.render([as_template_data(message) for message in messages], add_generation_prompt).text
        except jinja2.TemplateError as error:
            raise ChatFormatError(f"the chat template refuses these messages ({error})") from None

    def prompt_text(
        self,
        messages: Sequence[Message],
        tools: Sequence[dict[str, Any]] = (),
        documents: Sequence[dict[str, Any]] = (),
    ) -> str:
        """The rendered text that asks for the assistant's next turn, also of a template that knows no such prompt."""
        header = self._header(tools)
        return self.text(messages, tools, True, documents) + ("" if header.given else header.text)

    def prompt(
        self,
        messages: Sequence[Message],
        tools: Sequence[dict[str, Any]] = (),
        documents: Sequence[dict[str, Any]] = (),
    ) -> list[int]:
        """Ids that ask for the assistant's next turn: `messages` and the header of the reply."""
        text = self.prompt_text(messages, tools, documents)
        ids, offsets = self.tokenizer.encode_with_offsets(text + self._header(tools).before_reply + "A")
        inside = [end <= len(text) for _, end in offsets]
        kept = inside.index(False) if False in inside else len(ids)
        if kept < len(ids) and offsets[kept][0] >= len(text):
            return ids[:kept]
        return self.tokenizer.encode(text)

    def example(self, conversation: Conversation) -> Example:
        """Ids and mask of a whole conversation. Raises ChatFormatError where that cannot be exact; see the module."""
        mask = Mask(self._layout(conversation.tools), self._header(conversation.tools), conversation)
        ids, offsets = self.tokenizer.encode_with_offsets(mask.text)
        starts, ends = np.array(offsets, np.int64).reshape(-1, 2).T
        weights = np.zeros(len(ids), np.float32)
        for turn, start, end in mask.trained():
            first = int(np.searchsorted(starts, start, "left"))
            after = int(np.searchsorted(ends, end, "right"))
            for at, crossed in (
                (start, first > 0 and ends[first - 1] > start),
                (end, after < len(ids) and starts[after] < end),
            ):
                if crossed:
                    raise ChatFormatError(
                        f"a token reaches over an end of the reply, at {mask.text[max(0, at - 12) : at + 12]!r}; "
                        "strip the white space around the reply's text",
                        turn,
                        conversation.id,
                    )
            weights[first:after] = conversation.messages[turn].train
        weights[:1] = 0
        turns = np.minimum(np.searchsorted(ends, mask.boundaries(), "right"), len(ids))
        return Example(np.array(ids, np.int32), weights, tuple(turns.tolist()))

    @functools.cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids at which generation stops: the tokens with which the template closes a reply or a tool call, and EOS."""
        found = set() if self.tokenizer.eos_id is None else {self.tokenizer.eos_id}
        call = Message("assistant", "", tool_calls=(ToolCall("f", {}, "call00000"),))
        for tools in ((), ({"type": "function", "function": {"name": "f", "parameters": {}}},)):
            closings = [self._header(tools).closing]
            try:
                called = self.text([Message("user", "U"), call], tools).rstrip()
                closings += [match.group() for match in self._markers.finditer(called) if match.end() == len(called)]
            except ChatFormatError:
                pass
            found |= {
                self.tokenizer.added_tokens[text] for closing in closings for text in self._markers.findall(closing)
            }
        return frozenset(found)

    def _layout(self, tools: Sequence[Any] = (), documents: Sequence[Any] = ()) -> Layout:
        given = {"tools": list(tools) or None, "documents": list(documents) or None}

        def variables(add_generation_prompt: bool) -> dict[str, Any]:
            return {**self.variables, **given, "add_generation_prompt": add_generation_prompt}

        return Layout(self._templates[self._name(tools)], variables, self._markers)

    def _name(self, tools: Sequence[Any]) -> str:
        return "tool_use" if tools and "tool_use" in self._templates else "default"

    def _header(self, tools: Sequence[Any]) -> Header:
        name = self._name(tools)
        if name not in self._headers:
            self._headers[name] = self._layout().header() if name == "default" else self._layout(tools).header()
        return self._headers[name]

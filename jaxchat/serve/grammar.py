"""Answers held to a JSON schema, or to calls of tools, token by token: llguidance over every tokenizer of ours."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxchat.chat.tokenizer import Tokenizer
from jaxchat.serve.errors import unusable
from jaxchat.serve.tool_calls import Spelling

# White space as json.dumps writes it, which is what models have read most; a free choice of it would let a weak model
# go on with spaces for ever.
_JSON = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_SCHEMA_BYTES = 64 * 1024
_CALLS = 8  # in one answer at most: what forces a call would let a weak model call for ever


class Grammars:
    """Makes constraints for one model. vocab_size: of its logits. ends: tokens that end an answer."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, ends: Sequence[int]) -> None:
        self.tokenizer, self.vocab_size = tokenizer, vocab_size
        self.ends = sorted(ends) or ([] if tokenizer.eos_id is None else [tokenizer.eos_id])

    @functools.cached_property
    def _words(self) -> Any:
        """Made at the first use: it takes a second."""
        from llguidance import LLTokenizer

        return LLTokenizer(self.tokenizer.as_fast().to_str(), n_vocab=self.vocab_size, eos_token=self.ends or None)

    def token_bytes(self, token: int) -> bytes:
        """The text of one token, which may be part of a character."""
        if token in self._added:
            return self._added[token]
        return bytes(self._words.decode_bytes([token]))

    @functools.cached_property
    def _added(self) -> dict[int, bytes]:
        return {i: text.encode() for text, i in self.tokenizer.added_tokens.items()}

    def json_object(self) -> Matcher:
        """Any JSON object."""
        return self.json_schema({"type": "object"})

    def json_schema(self, schema: dict[str, Any]) -> Matcher:
        """Raises ApiError for a schema that is none, or has what cannot be kept to."""
        return self._matcher(f"start: %json {_with_layout(schema)}", "response_format")

    def calls(self, spelling: Spelling, tools: Sequence[dict[str, Any]], *, several: bool) -> Matcher:
        """One call or more of these tools, and nothing else."""
        one = " | ".join(f"call{i}" for i in range(len(tools)))
        rules = []
        for i, tool in enumerate(tools):
            function = tool["function"]
            call = {
                "type": "object",
                "properties": {
                    "name": {"const": function["name"]},
                    spelling.arguments: function.get("parameters") or {"type": "object"},
                },
                "required": ["name", spelling.arguments],
                "additionalProperties": False,
            }
            rules.append(f"call{i}: %json {_with_layout(call)}")
        before, after = self._literal(spelling.before), self._literal(spelling.after)
        many = several and bool(spelling.before)
        if spelling.listed:
            more = f'(", " call){{0,{_CALLS - 1}}}' if many else ""
            whole = f'{before} "[" call {more} "]" {after}'
        else:
            more = f'("\\n" {before} call {after}){{0,{_CALLS - 1}}}' if many else ""
            whole = f"{before} call {after} {more}"
        return self._matcher("\n".join([f"start: {whole}", f"call: {one}", *rules]), "tools")

    def _literal(self, text: str) -> str:
        """Text in Lark's syntax; its parts that are one token are that token."""
        if not text:
            return ""
        added = sorted(self.tokenizer.added_tokens, key=len, reverse=True)
        pattern = "|".join(map(re.escape, added)) or "(?!)"
        parts, end = [], 0
        for match in re.finditer(pattern, text):
            parts += [_text(text[end : match.start()]), self._token(match.group())]
            end = match.end()
        return " ".join(part for part in [*parts, _text(text[end:])] if part)

    def _token(self, text: str) -> str:
        i = self.tokenizer.added_tokens[text]
        return f"<[{i}]>" if self._words.is_special_token(i) else _text(text)

    def _matcher(self, lark: str, param: str) -> Matcher:
        from llguidance import LLMatcher

        if len(lark) > _SCHEMA_BYTES:
            raise unusable(f"the schemas are longer than {_SCHEMA_BYTES // 1024} KiB; make them smaller", param)
        matcher = LLMatcher(self._words, LLMatcher.grammar_from_lark(lark), log_level=0)
        if matcher.is_error():
            reason = matcher.get_error().strip().splitlines()[0]
            raise unusable(f"an answer cannot be held to that schema: {reason}", param, "invalid_schema")
        return Matcher(matcher)


class Matcher:
    """One answer's place in its grammar: a sample.request.Constraint."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def mask(self) -> np.ndarray:
        return np.frombuffer(self._matcher.compute_bitmask(), np.uint32)

    def accept(self, token: int) -> None:
        if not self._matcher.consume_token(token):
            raise ValueError(f"the grammar does not go on by token {token}: {self._matcher.get_error()}")

    def another(self) -> Matcher:
        """The same, for another answer to the same request; only before any token."""
        return Matcher(self._matcher.deep_copy())


def _with_layout(schema: dict[str, Any]) -> str:
    return json.dumps({**schema, "x-guidance": _JSON})


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text else ""

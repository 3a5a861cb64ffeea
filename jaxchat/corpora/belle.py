"""BELLE's Chinese instructions, in the forms it and its kin were published in; JSON lines or arrays.

`{"instruction", "input", "output"}`, where in the multi-turn set `instruction` holds the whole talk before the last
answer, marked `Human:` and `Assistant:`; `{"input": [...], "output": [...]}` turn by turn (Chinese-Vicuna);
`{"conversations": [{"from", "value"}, ...]}` (the 3.5M set); and seed tasks with `instances`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.corpora.instructions import Instructions, given_input, id_of
from jaxchat.corpora.records import rest_of, text_of
from jaxchat.corpora.turn_list import TurnLists

_SPEAKER = re.compile(r"(?:^|\n)[ \t]*(Human|Assistant)[ \t]*[:：]")


@dataclass(frozen=True)
class Belle(Instructions):
    """Chinese instructions and talks with a model."""

    def conversations(self, record: Any) -> Sequence[Conversation]:
        if not isinstance(record, dict):
            raise ValueError("not an object")
        name = id_of(record, "id")
        meta = rest_of(record, "id", "instruction", "input", "output", "instances", "conversations")
        if isinstance(record.get("instances"), list):
            return list(self.instances(record, meta))
        if "conversations" in record:
            return [TurnLists().conversation(record["conversations"], id=name, meta=meta)]
        if isinstance(record.get("input"), list):
            return [Conversation(name, _turn_by_turn(record), meta=meta)]
        instruction, answer = text_of(record, "instruction"), text_of(record, "output")
        if talk := _talk(instruction):
            return [Conversation(name, (*talk, Message("assistant", answer)), meta=meta)]
        return [self.answered(instruction, given_input(record), answer, id=name, meta=meta)]


def _turn_by_turn(record: dict[str, Any]) -> tuple[Message, ...]:
    asked, answers = record["input"], record.get("output")
    if not isinstance(answers, list) or len(answers) != len(asked):
        raise ValueError("`output` is not a list as long as `input`")
    if not asked or not all(isinstance(text, str) and text.strip() for text in (*asked, *answers)):
        raise ValueError("`input` and `output` are not texts")
    return tuple(message for q, a in zip(asked, answers) for message in (Message("user", q), Message("assistant", a)))


def _talk(instruction: str) -> tuple[Message, ...]:
    """The turns in an instruction that holds a talk, without the `Assistant:` that asks for the answer; () where the
    instruction is no talk."""
    before, *parts = _SPEAKER.split(instruction)
    turns = [
        Message("assistant" if speaker == "Assistant" else "user", text.strip())
        for speaker, text in zip(parts[::2], parts[1::2])
        if text.strip()
    ]
    return tuple(turns) if turns and not before.strip() and turns[0].role == "user" == turns[-1].role else ()

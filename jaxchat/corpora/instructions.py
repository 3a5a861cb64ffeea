"""What the formats of single instructions share: alpaca, dolly, belle, firefly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.corpora.records import JsonReader, text_of
from jaxchat.corpora.turns import JOINTS, Joint

# What generated rows say where there is no input, in lower case and without brackets and stops.
NO_INPUT = {"noinput", "no input", "none", "n/a", "nan", "null", "无", "無", "无输入", "不需要输入"}


@dataclass(frozen=True)
class Instructions(JsonReader):
    """Formats whose records are an instruction, what it is about, and the answer."""

    join: Joint = "blank-line"
    """What stands between an instruction and its input."""

    def asked(self, instruction: str, about: str) -> str:
        return JOINTS[self.join].join(text for text in (instruction, about) if text.strip())

    def answered(self, instruction: str, about: str, answer: str, **rest: Any) -> Conversation:
        messages = (Message("user", self.asked(instruction, about)), Message("assistant", answer))
        return Conversation(**{"id": "", "messages": messages, **rest})

    def instances(self, record: dict[str, Any], meta: dict[str, Any]) -> Iterator[Conversation]:
        """Self-instruct's seed tasks: an instruction, and a list of inputs and outputs."""
        instruction = text_of(record, "instruction")
        for i, instance in enumerate(record["instances"], 1):
            name = record.get("id")
            name = f"{name}:{i}" if isinstance(name, str) and len(record["instances"]) > 1 else name
            yield self.answered(
                instruction,
                given_input(instance),
                text_of(instance, "output"),
                id=name if isinstance(name, str) else "",
                meta=meta,
            )


def given_input(record: Any, key: str = "input") -> str:
    """The input, "" where the record says in words that there is none."""
    text = text_of(record, key, optional=True)
    return "" if text.strip().strip("<>[]().").lower() in NO_INPUT else text


def id_of(record: dict[str, Any], *keys: str) -> str:
    """The record's name under the first of `keys` that has one."""
    for key in keys:
        if isinstance(record.get(key), str | int) and not isinstance(record[key], bool) and str(record[key]).strip():
            return str(record[key])
    return ""

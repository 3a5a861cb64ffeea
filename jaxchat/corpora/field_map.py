"""Any dataset of records -> conversations, by saying which field holds what.

Either one field is the list of turns, or one (or several) is what the user says and another what the assistant answers.
Where nothing is said the usual names of fields are looked for. A field inside another is named with a dot.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.corpora.instructions import given_input, id_of
from jaxchat.corpora.preference import Preference
from jaxchat.corpora.records import rest_of
from jaxchat.corpora.turn_list import ROLE_KEYS, ROLE_NAMES, TEXT_KEYS, TurnLists
from jaxchat.corpora.turns import JOINTS, assistant_turns

LISTS = ("messages", "conversations", "conversation", "dialog", "dialogue", "turns", "utterances", "chat", "data")
PAIRS = (
    (("instruction", "input"), "output"),
    (("instruction", "context"), "response"),
    (("instruction",), "response"),
    (("prompt",), "completion"),
    (("prompt",), "response"),
    (("question",), "answer"),
    (("question",), "response"),
    (("query",), "response"),
    (("query",), "answer"),
    (("input",), "output"),
    (("input",), "target"),
    (("inputs",), "targets"),
    (("human",), "assistant"),
    (("user",), "assistant"),
)


@dataclass(frozen=True)
class FieldMap(TurnLists):
    """Records of any form, and the options that say what their fields are."""

    messages: str = ""
    """The field that holds the list of turns: objects with a role and a text, pairs of them, or texts by turns."""
    role_field: str = ""
    """In a turn, the field that says who speaks, where it has no usual name."""
    text_field: str = ""
    """In a turn, the field that holds what is said, where it has no usual name."""
    speaker: str = ""
    """Who in the list of turns becomes the assistant: a name, or the first, second or last to speak, or alternate; by
    default who bears an assistant's name, and otherwise the second."""
    user: str = ""
    """Without `messages`: the field that the user says, or several, with commas between their names."""
    assistant: str = ""
    """Without `messages`: the field that the assistant answers."""
    rejected: str = ""
    """The field with a worse answer, where the data are preferences."""
    system: str = ""
    """The field with the system message."""
    id: str = ""
    """The field that names the conversation."""

    def conversations(self, record: Any) -> Sequence[Conversation]:
        if not isinstance(record, dict):
            raise ValueError("not an object")
        record = {str(key): plain(value) for key, value in record.items()}
        name = id_of(record, "id", "conversation_id", "prompt_id", "uuid") if not self.id else ""
        if self.id and (value := field(record, self.id)) is not None:
            name = str(value)
        system = field(record, self.system, optional=True) if self.system else record.get("system")
        if self.messages or self.user or self.assistant:
            made, used = self._named(record)
        else:
            made, used = self._guessed(record)
        if isinstance(system, str) and system.strip() and made.messages[0].role != "system":
            head = Message("system", system)
            worse = (head, *made.rejected) if made.rejected else ()
            made = dataclasses.replace(made, messages=(head, *made.messages), rejected=worse)
            used = (*used, self.system or "system")
        meta = rest_of(record, *(part.partition(".")[0] for part in used), self.id or "id")
        return [dataclasses.replace(made, id=made.id or name, meta={**meta, **made.meta})]

    def _named(self, record: dict[str, Any]) -> tuple[Conversation, tuple[str, ...]]:
        if self.messages:
            return self._talk(field(record, self.messages)), (self.messages,)
        if not (self.user and self.assistant):
            raise ValueError("an option names the user's or the assistant's field and not the other's")
        asked = tuple(part.strip() for part in self.user.split(",") if part.strip())
        return self._pair(record, asked, self.assistant)

    def _guessed(self, record: dict[str, Any]) -> tuple[Conversation, tuple[str, ...]]:
        if "rejected" in record and ("chosen" in record or isinstance(record.get("messages"), list)):
            (made,) = Preference().conversations(record)
            return made, tuple(record)
        if "question_id" in record and "turns" in record:
            raise ValueError("a benchmark's questions, which have no answers")
        for key in LISTS:
            if isinstance(record.get(key), list | dict):
                return self._talk(record[key]), (key,)
        for asked, answered in PAIRS:
            if asked[0] in record and answered in record:
                return self._pair(record, asked, answered)
        raise ValueError(
            f"no usual field; its fields are {', '.join(record)}: name the turns' by --messages, "
            "or what is asked and answered by --user and --assistant"
        )

    def _pair(
        self, record: dict[str, Any], asked: Sequence[str], answered: str
    ) -> tuple[Conversation, tuple[str, ...]]:
        texts = [_text(field(record, asked[0]), asked[0])]
        for name in asked[1:]:
            value = field(record, name, optional=True)
            texts.append(given_input({name: value}, name))
        answer = _text(field(record, answered), answered)
        prompt = Message("user", JOINTS[self.join].join(text for text in texts if text.strip()))
        used = (*asked, answered)
        if not (prompt.content or "").strip():
            raise ValueError(f"`{asked[0]}` is empty")
        if not answer.strip():
            raise ValueError(f"`{answered}` is empty")
        worse: tuple[Message, ...] = ()
        if self.rejected:
            worse = (prompt, Message("assistant", _text(field(record, self.rejected), self.rejected)))
            used = (*used, self.rejected)
        return Conversation("", (prompt, Message("assistant", answer)), rejected=worse), used

    def _talk(self, turns: Any) -> Conversation:
        turns = _columns_turned(turns)
        if not isinstance(turns, list) or not turns:
            return self.conversation(turns)
        if self.role_field or self.text_field:
            turns = [self._usual(turn) for turn in turns]
        pairs = [_speaker_and_text(turn) for turn in turns]
        spoken = [pair for pair in pairs if pair is not None]
        if len(spoken) < len(pairs):
            if self.speaker in ("first", "second") and all(isinstance(turn, str) for turn in turns):
                spoken = [(str(i % 2), turn) for i, turn in enumerate(turns)]
            else:
                return self.conversation(turns)
        speakers = [name for name, _ in spoken]
        roles = {ROLE_NAMES.get(name.strip().lower()) for name in speakers}
        # In data of tasks, a "system" that talks all through with the user is what answers.
        answers = roles == {"user", "system"} and speakers[-1] != speakers[0] and len(speakers) > 2
        if self.speaker or None in roles:
            sides = assistant_turns(speakers, self.speaker or "second")
        elif answers or (roles == {"user", "system"} and speakers[0].strip().lower() == "user"):
            sides = [ROLE_NAMES[name.strip().lower()] == "system" for name in speakers]
        else:
            return self.conversation(turns)
        return self.conversation([["assistant" if side else "user", text] for side, (_, text) in zip(sides, spoken)])

    def _usual(self, turn: Any) -> Any:
        if not isinstance(turn, dict):
            return turn
        turn = dict(turn)
        if self.role_field:
            role = field(turn, self.role_field)
            turn = {key: value for key, value in turn.items() if key not in ROLE_KEYS}
            turn["role"] = str(role)
        if self.text_field:
            turn["content"] = field(turn, self.text_field)
        return turn


def field(record: Any, name: str, *, optional: bool = False) -> Any:
    """The value of the field; a dot leads into an object. ValueError where there is none, unless `optional`."""
    if isinstance(record, dict) and name in record:
        return record[name]
    first, dot, rest = name.partition(".")
    if dot and isinstance(record, dict) and first in record:
        return field(record[first], rest, optional=optional)
    if optional:
        return None
    keys = ", ".join(record) if isinstance(record, dict) else "none"
    raise ValueError(f"no field {name}; its fields are {keys}")


def plain(value: Any) -> Any:
    """A value of a table as JSON has it: bytes as text where they are, dates and the like as what they are shown as."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return f"<{len(value):,} bytes>"
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def _text(value: Any, name: str) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise ValueError(f"`{name}` is not text")
    return value


def _columns_turned(turns: Any) -> Any:
    """Tables keep a list of objects as an object of lists, one a field; turned back into the list."""
    if not isinstance(turns, dict) or not all(isinstance(column, list) for column in turns.values()):
        return turns
    if len({len(column) for column in turns.values()}) != 1:
        return turns
    return [dict(zip(turns, row)) for row in zip(*turns.values())]


def _speaker_and_text(turn: Any) -> tuple[str, str] | None:
    """Who speaks and what, where the turn is no more than that."""
    if isinstance(turn, list) and len(turn) == 2 and isinstance(turn[0], str | int) and isinstance(turn[1], str):
        return str(turn[0]), turn[1]
    if isinstance(turn, dict) and not turn.get("tool_calls"):
        role = next((key for key in ROLE_KEYS if isinstance(turn.get(key), str | int)), None)
        text = next((key for key in TEXT_KEYS if isinstance(turn.get(key), str)), None)
        if role is not None and text is not None:
            return str(turn[role]), turn[text]
    return None

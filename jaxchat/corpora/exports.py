"""What a person's own exports from chat programs share: one chat that goes on for years, cut into conversations.

A conversation is what is said without a longer pause. One person of the chat becomes the assistant, the same all
through it. What is no text (a picture, a notice that somebody joined) is left out, and counted with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from jaxchat.chat.conversation import Conversation
from jaxchat.corpora.ledger import Dropped, Found, Rejected
from jaxchat.corpora.turns import Talk

NOTICE = "a notice of the program, no message"


@dataclass(frozen=True)
class Said:
    """A message of a chat, and the row it comes from. `seconds` since 1970, None where the time is not known; `media`:
    what it is where it is no text ("photo"); `mine`: whether the export's owner wrote it, where the format says."""

    file: str
    position: int
    row: Any
    speaker: str
    text: str
    seconds: float | None = None
    media: str = ""
    mine: bool | None = None


@dataclass
class Chat:
    """What is known of a chat as a whole; `people` are in the order in which they first spoke."""

    source: str
    name: str = ""
    meta: dict[str, Any] = field(default_factory=dict)
    people: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Export(Talk):
    """A chat program's export, and the options that all of them have."""

    assistant: str = "second"
    """Who becomes the assistant: the first or second person to speak in the chat, a person by name, or alternate
    (whoever answers). All others are the user."""
    gap_hours: float = 8.0
    """A pause of more hours than this begins a new conversation; 0: a chat is one conversation."""
    max_messages: int = 1000
    """So many messages of a chat begin a new conversation, whatever the pause; 0: never."""
    media: Literal["drop", "mark"] = "drop"
    """Pictures, calls, files and the like: dropped, or a word in brackets that says what was there."""
    names: Literal["none", "prefix"] = "none"
    """In chats of more than two people, put the user's names before what they say ("Ann: hello")."""

    def conversations(self, chat: Chat, items: Iterable[Said | Rejected]) -> Iterator[Found | Rejected]:
        """An item for every row of a chat, whose messages come in the order in which they were sent."""
        waiting: list[Said] = []
        last: float | None = None
        for item in items:
            if isinstance(item, Rejected):
                yield item
                continue
            if item.media and not (self.media == "mark" and item.media != NOTICE) and not item.text.strip():
                why = item.media if item.media == NOTICE else f"no text: {item.media}"
                yield Dropped(item.file, item.position, why, item.row)
                continue
            if not item.text.strip() and not item.media:
                yield Rejected(item.file, item.position, "no text", item.row)
                continue
            pause = item.seconds - last if item.seconds is not None and last is not None else 0.0
            if waiting and (
                (self.gap_hours and pause > self.gap_hours * 3600)
                or (self.max_messages and len(waiting) >= self.max_messages)
            ):
                yield from self._conversation(chat, waiting)
                waiting = []
            waiting.append(item)
            last = item.seconds if item.seconds is not None else last
            if item.speaker not in chat.people:
                chat.people.append(item.speaker)
        if waiting:
            yield from self._conversation(chat, waiting)

    def _conversation(self, chat: Chat, said: list[Said]) -> Iterator[Found | Rejected]:
        try:
            sides = self._sides(chat, said)
            crowd = self.names == "prefix" and len({one.speaker for one in said}) > 2
            messages = self.of_sides(
                (side, self._text(one, named=crowd and not side)) for side, one in zip(sides, said)
            )
            if not any(message.role == "assistant" for message in messages):
                raise ValueError("the assistant says nothing in it")
        except ValueError as reason:
            for one in said:
                yield Dropped(one.file, one.position, str(reason), one.row)
            return
        rows: dict[str, list[int]] = {}
        for one in said:
            rows.setdefault(one.file, []).append(one.position)
        meta = {"chat": chat.name, **chat.meta} if chat.name else dict(chat.meta)
        if (seconds := said[0].seconds) is not None:
            meta["begins"] = _iso(seconds)
        name = f"{said[0].file}:{said[0].position}"
        yield Found(Conversation(name, messages, source=chat.source, meta=meta), rows)

    def _sides(self, chat: Chat, said: list[Said]) -> list[bool]:
        if self.assistant == "me":
            if all(one.mine is None for one in said):
                raise ValueError("the export does not say whose messages are its owner's; name the assistant")
            return [bool(one.mine) for one in said]
        if self.assistant in ("alternate", "last"):
            from jaxchat.corpora.turns import assistant_turns

            return assistant_turns([one.speaker for one in said], self.assistant)
        if self.assistant in ("first", "second"):
            place = 0 if self.assistant == "first" else 1
            who = chat.people[place] if len(chat.people) > place else None
            return [one.speaker == who for one in said]
        name = self.assistant.strip().casefold()
        return [one.speaker.strip().casefold() == name for one in said]

    def _text(self, said: Said, named: bool) -> str:
        text = said.text if said.text.strip() else f"[{said.media}]"
        return f"{said.speaker}: {text}" if named and said.speaker else text


def _iso(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return ""


def seconds_of(value: Any) -> float | None:
    """Seconds since 1970 of a time as programs write it: seconds or milliseconds, as a number or its digits, or an ISO
    date (UTC where it names no zone). None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        text, value = value, None
        try:
            value = float(text)
        except ValueError:
            return _from_iso(text)
    if not isinstance(value, int | float) or not 0 < value < 1e14:
        return None
    return value / 1000 if value > 1e11 else float(value)


def _from_iso(text: str) -> float | None:
    text = text.strip().replace("/", "-")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            moment = datetime.strptime(text, "%Y-%m-%d %H:%M:%S")
        except ValueError:
            return None
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None

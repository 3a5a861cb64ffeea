"""Turns of people -> messages of a user and an assistant.

Formats in which people talk with people say who speaks, not who is to be imitated. Their readers extend Talk, whose
options say which side becomes the assistant and what becomes of several turns of one side in a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from jaxchat.chat.conversation import Message
from jaxchat.corpora import Reader

Consecutive = Literal["merge", "keep"]
Joint = Literal["newline", "blank-line", "space"]
JOINTS: dict[str, str] = {"newline": "\n", "blank-line": "\n\n", "space": " "}


@dataclass(frozen=True)
class Talk(Reader):
    """A format of people talking with people, and the options that all such formats have."""

    assistant: str = "second"
    """Who becomes the assistant: the first, second or last to speak (as a person, with all that they say), alternate
    (whoever answers: the side changes with every change of speaker), or a speaker by name. All others are the user."""
    consecutive: Consecutive = "merge"
    """What becomes of several turns of one side in a row: one message, or a message each."""
    join: Joint = "newline"
    """What stands between the turns that are merged."""
    min_turns: int = 2
    """Conversations with fewer messages (once merged) are dropped."""

    def messages(self, turns: Sequence[tuple[str, str]]) -> tuple[Message, ...]:
        """The messages that `turns` (speaker, text) are. ValueError with the reason where an option leaves all of them
        out, for a Dropped."""
        spoken = [(speaker, text) for speaker, text in turns if text.strip()]
        sides = assistant_turns([speaker for speaker, _ in spoken], self.assistant)
        return self.of_sides(zip(sides, (text for _, text in spoken)))

    def of_sides(self, turns: Iterable[tuple[bool, str]]) -> tuple[Message, ...]:
        """The messages of turns whose sides are known: (is the assistant's, text). ValueError as in `messages`."""
        messages = messages_of(turns, self.consecutive, self.join)
        if len(messages) < self.min_turns:
            raise ValueError(f"fewer than {self.min_turns} turns")
        return messages


def assistant_turns(speakers: Sequence[str], which: str = "second") -> list[bool]:
    """For each turn whether it is the assistant's: see Talk.assistant. All are the user's where only one person speaks
    and the second is asked for. ValueError where a speaker is named who does not speak; case makes no difference."""
    if which == "alternate":
        sides: list[bool] = []
        for i, speaker in enumerate(speakers):
            sides.append(bool(sides) and sides[-1] != (speaker != speakers[i - 1]))
        return sides
    if which in ("first", "last"):
        who = speakers[0 if which == "first" else -1] if speakers else None
    elif which == "second":
        who = next((speaker for speaker in speakers if speaker != speakers[0]), None)
    else:
        name = which.strip().casefold()
        who = next((speaker for speaker in speakers if speaker.strip().casefold() == name), None)
        if who is None:
            raise ValueError(f"nobody called {which} speaks")
    return [speaker == who for speaker in speakers]


def messages_of(
    turns: Iterable[tuple[bool, str]], consecutive: Consecutive = "merge", join: Joint = "newline"
) -> tuple[Message, ...]:
    """Messages of turns (is the assistant's, text). Turns without text are left out, white space is left as it is."""
    spoken = [(side, text) for side, text in turns if text.strip()]
    if consecutive == "keep":
        return tuple(Message("assistant" if side else "user", text) for side, text in spoken)
    return tuple(
        Message("assistant" if side else "user", JOINTS[join].join(text for _, text in run))
        for side, run in groupby(spoken, key=lambda turn: turn[0])
    )

"""Answers that people judged one by one, thumb up or down, as chat pages export their feedback; and pairs of them.

    {"prompt", "completion", "label": true}          {"messages": [..., {"role": "assistant", ...}], "rating": "down"}

A pair is an answer that was liked and one that was not, to the same prompt. Of several votes on one answer (by `id`)
the last counts; "none" takes back those before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.corpora.instructions import id_of
from jaxchat.corpora.ledger import Dropped, Found, Rejected
from jaxchat.corpora.records import rest_of
from jaxchat.corpora.rows import Row
from jaxchat.corpora.turn_list import tools_of, turn_messages

_LABELS = ("label", "rating", "feedback", "vote", "thumb", "thumbs", "reaction")
_ANSWERS = ("completion", "response", "answer")
_UP = {"true", "1", "1.0", "up", "thumbs_up", "thumbs up", "thumbsup", "like", "liked", "good", "positive", "👍"}
_DOWN = {"false", "0", "0.0", "-1", "-1.0", "down", "thumbs_down", "thumbs down", "thumbsdown", "dislike", "disliked",
         "bad", "negative", "👎"}  # fmt: skip
_TAKEN_BACK = "none"


class Vote(NamedTuple):
    """`prompt` names what was asked, the same for the same messages and tools; `answer` what was judged. `liked`: None
    where earlier votes are taken back."""

    prompt: str
    answer: str
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]
    liked: bool | None
    meta: dict[str, Any]


def is_vote(record: Any) -> bool:
    return isinstance(record, dict) and _label(record) is not None and _answer(record) is not None


def _label(record: dict[str, Any]) -> str | None:
    return next((key for key in _LABELS if record.get(key) is not None), None)


def _answer(record: dict[str, Any]) -> str | None:
    if "prompt" in record:
        return next((key for key in _ANSWERS if key in record), None)
    return "messages" if isinstance(record.get("messages"), list) and "rejected" not in record else None


def vote_of(record: dict[str, Any]) -> Vote:
    """What was judged, and how. ValueError with the reason where it cannot be told."""
    label, answer = _label(record), _answer(record)
    assert label is not None and answer is not None
    said = str(record[label]).strip().lower()
    if said not in {*_UP, *_DOWN, _TAKEN_BACK}:
        raise ValueError(f"`{label}` is {str(record[label])[:40]!r}, neither up nor down")
    messages = _messages(record[answer], "assistant")
    if answer != "messages":
        messages = (*_messages(record["prompt"], "user"), *messages)
    if len(messages) < 2 or messages[-1].role != "assistant":
        raise ValueError("it does not end with the assistant's answer to something")
    if not any((message.content or "").strip() for message in messages[:-1]):
        raise ValueError("the prompt is empty")
    if not (messages[-1].tool_calls or (messages[-1].content or "").strip()):
        raise ValueError("the answer is empty")
    tools = tools_of(record)
    asked = json.dumps([tools, [[m.role, m.content, [repr(call) for call in m.tool_calls]] for m in messages[:-1]]])
    name = hashlib.blake2b(asked.encode(), digest_size=12).hexdigest()
    meta = rest_of(record, "prompt", label, answer, "id", "tools")
    liked = None if said == _TAKEN_BACK else said in _UP
    return Vote(name, id_of(record, "id"), messages, tools, liked, meta)


def _messages(value: Any, role: str) -> tuple[Message, ...]:
    if isinstance(value, str):
        return tuple(turn_messages([{"role": role, "content": value}]))
    if isinstance(value, list):
        return tuple(turn_messages(value))
    raise ValueError("neither a text nor a list of messages")


def pairs(judged: Iterable[tuple[Row, Vote]]) -> Iterator[Found | Rejected]:
    """An item for each of the answers to one prompt: each that was liked beside one that was not, as many pairs as
    there are of the more frequent kind. They belong together, so they are held out together."""
    votes = list(judged)
    last = {(vote.answer, vote.messages[-1].content): row for row, vote in votes if vote.answer}
    counted = [(row, vote) for row, vote in votes if last.get((vote.answer, vote.messages[-1].content), row) is row]
    liked, others = ([pair for pair in counted if pair[1].liked is side] for side in (True, False))
    used: set[int] = set()
    for i in range(max(len(liked), len(others)) if liked and others else 0):
        (better, up), (worse, down) = liked[i % len(liked)], others[i % len(others)]
        if up.messages == down.messages:
            continue
        used |= {id(better), id(worse)}
        rows: dict[str, list[int]] = {}
        for row in (better, worse):
            rows.setdefault(row.file, []).append(row.position)
        meta = {**up.meta, "group": f"preference {up.prompt}"}
        if "model" in up.meta and "model" in down.meta:
            meta |= {"chosen_model": meta.pop("model"), "rejected_model": down.meta["model"]}
        name = f"{better.file}:{better.position}:{worse.position}"
        yield Found(Conversation(name, up.messages, up.tools, "preference", meta, down.messages), rows)
    counts = {id(row) for row, _ in counted}
    for row, vote in votes:
        if id(row) not in used:
            reason = "no other answer to its prompt was judged otherwise"
            if id(row) not in counts:
                reason = "judged anew later on"
            elif vote.liked is None:
                reason = "its vote was taken back"
            yield Dropped(row.file, row.position, reason, row.value)

"""The chain of steps over a chunk of conversations: what both runners run.

Numbers are counted under flat names (tuples), so that they can be added up in any order; stats.py makes stats.json of
them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.curation.chunks import Chunk, place
from jaxchat.curation.near_duplicates import WHOLE, Item, clusters
from jaxchat.curation.step import Dropped, Kept, Step
from jaxchat.curation.steps import Prepared

Counts = Counter[tuple[str, ...]]


class Row(NamedTuple):
    """A line of an output file, without its end, and the conversation's position, by which lines are ordered."""

    position: int
    line: bytes


class Entry(NamedTuple):
    """What a conversation is compared with others by."""

    position: int
    id: str
    digest: bytes
    items: tuple[Item, ...]


class Earlier(NamedTuple):
    """An earlier conversation for which one is dropped, or `part` of one."""

    position: int
    id: str
    part: int = WHOLE


@dataclass
class Done:
    """A chunk that the chain has been over."""

    number: int
    kept: list[Row] = field(default_factory=list)
    dropped: list[Row] = field(default_factory=list)
    rejected: list[Row] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    counts: Counts = field(default_factory=Counter)


def clean_chunk(chunk: Chunk, prepared: Prepared) -> Done:
    """Every line of the chunk ends in `kept`, `dropped` or `rejected`."""
    done = Done(chunk.number)
    counts = done.counts
    for position, line in chunk.lines():
        counts["rows_in",] += 1
        at = {"file": chunk.file.name, "position": place(position)[1]}
        try:
            conversation = Conversation.from_json(json.loads(line.decode()))
            if not conversation.messages:
                raise ValueError("`messages` is empty")
        except (ValueError, RecursionError) as error:
            reason = _unreadable(error)
            counts["rejected", reason.partition(":")[0]] += 1
            row = {**at, "reason": reason, "row": line.decode(errors="backslashreplace")}
            done.rejected.append(Row(position, _dumped(row)))
            continue
        if not conversation.id:
            conversation = replace(conversation, id=f"{chunk.file.name}:{at['position']}")
        _count(counts, "in", conversation)
        for n, step in enumerate(prepared.steps):
            outcome = step.apply(conversation)
            if isinstance(outcome, Dropped):
                conversation = _hidden(conversation, prepared.steps[n:])
                row = dropped_row(at, step.name, outcome.reason, conversation, outcome.detail)
                done.dropped.append(Row(position, row))
                counts["dropped", step.name, outcome.reason] += 1
                break
            _count_step(counts, step.name, conversation, outcome)
            conversation = outcome.conversation
        else:
            _count(counts, "out", conversation)
            done.kept.append(Row(position, _dumped(conversation.to_json())))
            digest = prepared.exact.key(conversation) if prepared.exact else b""
            items = tuple(prepared.near.items(conversation)) if prepared.near else ()
            if digest or items:
                done.entries.append(Entry(position, conversation.id, digest, items))
    return done


def without_duplicates(
    done: Done,
    exact: Mapping[int, Earlier],
    near: Mapping[int, Mapping[int, Earlier]],
    prepared: Prepared,
    file_name: str,
) -> Done:
    """The chunk less the conversations that are duplicates, its counts being what that adds to those there were.

    `exact`: position -> the earlier one; `near`: position -> part -> the earlier one.
    """
    if not exact and not near:
        return replace(done, entries=[], counts=Counter())
    result = Done(done.number, dropped=list(done.dropped), rejected=done.rejected)
    for row in done.kept:
        position = row.position
        same, parts = exact.get(position), near.get(position, {})
        if same is None and not parts:
            result.kept.append(row)
            continue
        conversation = Conversation.from_json(json.loads(row.line))
        why = _duplicate(same, parts, prepared)
        if why is None:
            spoilt = [part for part in parts if part != WHOLE]
            messages = _untrained(conversation.messages, spoilt)
            assert prepared.near is not None
            result.counts["found", prepared.near.name, "answers not to train on"] += len(spoilt)
            result.kept.append(Row(position, _dumped(replace(conversation, messages=messages).to_json())))
            continue
        step, reason, earlier = why
        at = {"file": file_name, "position": place(position)[1]}
        result.dropped.append(
            Row(position, dropped_row(at, step, reason, conversation, f"of {earlier.id}", earlier.id))
        )
        result.counts["dropped", step, reason] += 1
        gone: Counts = Counter()
        _count(gone, "out", conversation)
        result.counts.subtract(gone)
    result.dropped.sort()
    return result


def _duplicate(
    same: Earlier | None, parts: Mapping[int, Earlier], prepared: Prepared
) -> tuple[str, str, Earlier] | None:
    if same is not None:
        assert prepared.exact is not None
        return prepared.exact.name, prepared.exact.reason, same
    near = prepared.near
    assert near is not None
    if WHOLE in parts:
        return near.name, near.reason, parts[WHOLE]
    return (near.name, near.answer_reason, min(parts.values())) if near.answers == "drop" else None


def cluster_sizes(
    prepared: Prepared, exact: Mapping[int, Earlier], near: Mapping[int, Mapping[int, Earlier]]
) -> dict[str, dict[str, int]]:
    """By step, and by id of the conversation that stays, how many whole conversations are dropped for it."""
    whole = {position: parts[WHOLE] for position, parts in near.items() if WHOLE in parts and position not in exact}
    result = {}
    for step, lost in ((prepared.exact, exact), (prepared.near, whole)):
        if step is not None:
            ids = {earlier.position: earlier.id for earlier in lost.values()}
            sizes = clusters({position: earlier.position for position, earlier in lost.items()})
            named: Counter[str] = Counter()
            for position, size in sizes.items():
                named[ids[position]] += size
            result[step.name] = dict(named)
    return result


def _untrained(messages: tuple[Message, ...], parts: Iterable[int]) -> tuple[Message, ...]:
    parts = set(parts)
    return tuple(replace(message, train=0.0) if i in parts else message for i, message in enumerate(messages))


def dropped_row(
    at: Mapping[str, Any], step: str, reason: str, conversation: Conversation, detail: str = "", of: str | None = None
) -> bytes:
    row: dict[str, Any] = {**at, "id": conversation.id, "step": step, "reason": reason}
    if detail:
        row["detail"] = detail
    if of is not None:
        row["of"] = of
    return _dumped({**row, "row": conversation.to_json()})


def _hidden(conversation: Conversation, rest: Iterable[Step]) -> Conversation:
    """The conversation as it may be written down: what the steps to come would hide, is hidden."""
    for step in rest:
        if step.hides:
            outcome = step.apply(conversation)
            if isinstance(outcome, Kept):
                conversation = outcome.conversation
            else:  # it is dropped for what is in it, so nothing of it may be written
                return replace(conversation, messages=(), rejected=(), tools=(), meta={})
    return conversation


def _count_step(counts: Counts, step: str, before: Conversation, kept: Kept) -> None:
    after = kept.conversation
    if after.messages is not before.messages or after.rejected is not before.rejected:
        counts["changed", step] += 1
    for kind, n in kept.counts.items():
        counts["found", step, kind] += n


def _count(counts: Counts, side: str, conversation: Conversation) -> None:
    counts["conversations", side] += 1
    counts["preferences", side] += bool(conversation.rejected)
    counts["messages", side] += len(conversation.messages)
    for message in conversation.messages:
        counts["characters", side] += len(message.content or "")
        counts["roles", side, message.role] += 1
    counts["sources", side, conversation.source] += 1
    if side == "out":
        counts["languages", side, str(conversation.meta.get("language") or "und")] += 1


def _dumped(row: Any) -> bytes:
    text = json.dumps(row, ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a character: as an escape
        return json.dumps(row).encode()


def _unreadable(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8: at byte {error.start}"
    if isinstance(error, RecursionError):
        return "not JSON: nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} at character {error.pos + 1}"
    return str(error)

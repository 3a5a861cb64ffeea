"""What is in a folder of conversations and what was left out of it, as numbers; report_page.py makes a page of them."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxchat.chat.conversation import Conversation, read_conversations
from jaxchat.chat.tokenizer import Tokenizer
from jaxchat.curation.annotation import SUMMARY
from jaxchat.errors import InputError
from jaxchat.files import replacing
from jaxchat.progress import track

EXAMPLES, EXAMPLE_SIZE = 3, 280
_LICENCE_KEYS = ("license", "licence")
_BATCH = 512


def report(folder: Path, tokenizer: Tokenizer | None = None, *, tokenizer_name: str = "") -> dict[str, Any]:
    """Writes report.html and report.json, which is returned, into the folder of conversations that `data import` or
    `data clean` made.

    Read from conversations.jsonl, stats.json, dropped.jsonl, rejected.jsonl and annotations.json; of what is not there
    the report says nothing. Raises InputError for a folder without conversations, or files that cannot be read.
    """
    from jaxchat.curation.report_page import page

    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of conversations")
    stats = _json(folder / "stats.json")
    made: dict[str, Any] = {
        "folder": folder.resolve().name,
        **_rows(stats),
        "before": stats.get("before"),
        **_contents(folder, tokenizer),
        "tokenizer": tokenizer_name or None,
        "format": stats.get("format"),
        "read_from": stats.get("sources") or stats.get("files") or [],
        "steps": stats.get("steps") or [],
        "dropped": _left_out(folder / "dropped.jsonl"),
        "rejected": _left_out(folder / "rejected.jsonl"),
        "duplicates": stats.get("duplicates") or {},
        "personal_data": stats.get("personal_data") or {},
        "names": next((step["found"] for step in stats.get("steps") or () if step["name"] == "entities"), {}),
        "annotations": _json(folder / SUMMARY) or None,
    }
    with replacing(folder / "report.json") as file:
        json.dump(made, file, ensure_ascii=False, indent=2)
    with replacing(folder / "report.html") as file:
        file.write(page(made))
    return made


def _rows(stats: Mapping[str, Any]) -> dict[str, Any]:
    return {name: stats.get(name) for name in ("rows_in", "rows_used", "rows_rejected", "rows_dropped")}


def _contents(folder: Path, tokenizer: Tokenizer | None) -> dict[str, Any]:
    numbers: Counter[str] = Counter()
    roles: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    sources: dict[str, Counter[str]] = defaultdict(Counter)
    turns: Counter[int] = Counter()
    sizes: dict[str, Counter[int]] = defaultdict(Counter)
    token_sizes: Counter[int] = Counter()
    waiting: list[Conversation] = []

    def count_tokens() -> None:
        if tokenizer is None or not waiting:
            return
        texts = [(i, m.role, m.content) for i, c in enumerate(waiting) for m in c.messages if m.content]
        each = [0] * len(waiting)
        for (i, role, _), ids in zip(texts, tokenizer.encode_batch([text for *_, text in texts])):
            each[i] += len(ids)
            numbers[f"tokens {role}"] += len(ids)
        numbers["tokens"] += sum(each)
        token_sizes.update(map(_bin, each))
        waiting.clear()

    for conversation in track(read_conversations(folder), label="counting", unit="conversations"):
        numbers["conversations"] += 1
        numbers["messages"] += len(conversation.messages)
        numbers["preferences"] += bool(conversation.rejected)
        numbers["with tools"] += bool(conversation.tools)
        turns[len(conversation.messages)] += 1
        languages[str(conversation.meta.get("language") or "not told")] += 1
        sources[conversation.source or "not named"][_licence(conversation)] += 1
        for message in conversation.messages:
            roles[message.role] += 1
            size = len(message.content or "")
            numbers["characters"] += size
            sizes[message.role][_bin(size)] += 1
        if tokenizer is not None:
            waiting.append(conversation)
            if len(waiting) >= _BATCH:
                count_tokens()
    count_tokens()
    return {
        "conversations": numbers["conversations"],
        "messages": numbers["messages"],
        "characters": numbers["characters"],
        "preferences": numbers["preferences"],
        "with_tools": numbers["with tools"],
        "roles": _largest(roles),
        "languages": _largest(languages),
        "sources": {
            name: {"conversations": sum(some.values()), "licences": _largest(some)}
            for name, some in sorted(sources.items(), key=lambda item: (-sum(item[1].values()), item[0]))
        },
        "turns": {str(size): turns[size] for size in sorted(turns)},
        "message_characters": {role: _ordered(sizes[role]) for role in sorted(sizes)},
        "tokens": None
        if tokenizer is None
        else {
            "total": numbers["tokens"],
            "by_role": {role: n for role in roles if (n := numbers[f"tokens {role}"])},
            "conversation_tokens": _ordered(token_sizes),
        },
    }


def _bin(size: int) -> int:
    """The power of two that `size` lies below: 0, 1, 2, 4, 8 ... (a bin holds its half of it upwards)."""
    return 1 << size.bit_length() if size else 0


def _ordered(bins: Mapping[int, int]) -> dict[str, int]:
    """With the empty bins between the first and the last. The keys are bins' upper ends, not included."""
    if not bins:
        return {}
    edges = [0, *(1 << i for i in range(1, max(bins).bit_length() + 1))]
    wanted = [edge for edge in edges if min(bins) <= edge <= max(bins)]
    return {str(edge): bins.get(edge, 0) for edge in wanted}


def _licence(conversation: Conversation) -> str:
    return next((str(v) for key in _LICENCE_KEYS if (v := conversation.meta.get(key))), "not stated")


def _left_out(path: Path) -> list[dict[str, Any]]:
    """A row a step and reason, the commonest first: `step`, `reason`, `count`, `examples` (where, what)."""
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for row in _lines(path):
        # What stands in brackets or after a colon is a row's own, as an error's place.
        reason = str(row.get("reason") or "no reason given").partition(" (")[0].partition(": ")[0]
        key = (str(row.get("step") or ""), reason)
        group = groups.setdefault(key, {"step": key[0], "reason": key[1], "count": 0, "examples": []})
        group["count"] += 1
        if len(group["examples"]) < EXAMPLES:
            where = f"{row.get('file', '')}, {row.get('position', '')}".strip(", ")
            detail = str(row.get("detail") or (row["reason"] if row.get("reason") != reason else ""))
            group["examples"].append({"where": where, "detail": detail, "text": _shown(row.get("row"))})
    return sorted(groups.values(), key=lambda group: (-group["count"], group["step"], group["reason"]))


def _shown(row: Any) -> str:
    """The beginning of what was left out, as a person would read it."""
    if isinstance(row, dict) and isinstance(row.get("messages"), list):
        turns = [m for m in row["messages"] if isinstance(m, dict)]
        text = "\n".join(f"{turn.get('role')}: {turn.get('content')}" for turn in turns)
    elif isinstance(row, dict):  # the longest value first: what was said
        values = {key: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for key, v in row.items() if v}
        ordered = sorted(values.items(), key=lambda item: -len(item[1]))
        text = "\n".join(f"{key}: {' '.join(value.split())}" for key, value in ordered)
    else:
        text = row if isinstance(row, str) else "" if row is None else json.dumps(row, ensure_ascii=False)
    return text if len(text) <= EXAMPLE_SIZE else text[:EXAMPLE_SIZE].rstrip() + " …"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except ValueError:
                raise InputError(f"{path}, line {number}: not JSON; remove the line or the file") from None
            if isinstance(row, dict):
                yield row


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); remove it or make it anew") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object; remove it or make it anew")
    return value


def _largest(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def headline(made: Mapping[str, Any]) -> Sequence[str]:
    """A line for a terminal."""
    tokens = f", {made['tokens']['total']:,} tokens" if made["tokens"] else ""
    return [f"{made['conversations']:,} conversations, {made['messages']:,} messages{tokens}"]

"""Reads a corpus into a folder of conversations, with all that was left out beside it and every row accounted for."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

from jaxchat.corpora import Reader, Source, make_reader
from jaxchat.corpora.ledger import Dropped, Found, Ledger, Rejected
from jaxchat.errors import InputError
from jaxchat.files import new_folder
from jaxchat.progress import Bar

FILES = ("conversations.jsonl", "rejected.jsonl", "dropped.jsonl")
# How many kinds of reasons stats.json counts; each row's own stands beside it in rejected.jsonl and dropped.jsonl.
REASONS, MOST_REASONS = 20, 10_000


def import_corpus(
    format: str,
    paths: Sequence[Path | str],
    out: Path | str,
    options: Mapping[str, Any] | Reader | None = None,
    *,
    licence: str = "",
) -> dict[str, Any]:
    """Reads `paths` as `format` (a name in READERS) and writes the folder `out`, whole or not at all:

    conversations.jsonl, one conversation a line, with `meta.rows` naming the rows it was made of; rejected.jsonl and
    dropped.jsonl, one row a line with file, position and reason; stats.json, which is also returned: `rows_in` =
    `rows_used` + `rows_rejected` + `rows_dropped`, `conversations`, of them `preferences`, `messages`, `roles`,
    `characters`, `reasons`.

    `options` are the reader's, by name, or the reader itself. `licence` becomes `meta.license` of conversations whose
    rows do not say theirs. Raises InputError when `out` is taken, a path or option
    is no good, or not a single row is of this format. Rows that an option drops are: they make an empty folder.
    """
    reader = options if isinstance(options, Reader) else make_reader(format, options)
    files = reader.files([Path(path) for path in paths])
    with new_folder(out) as folder:
        total = sum(path.stat().st_size for path in {file.path for file in files})
        with Bar(f"reading {format}", total, "bytes") as bar:
            stats = {
                "format": format,
                "options": asdict(reader),
                "files": [file.name for file in files],
                **_write(reader, files, folder, bar, licence),
            }
        if not stats["conversations"] and not stats["rows_dropped"]:
            why = "; ".join(
                f"{' '.join(reason.split())[:120]} ({n} rows)" for reason, n in list(stats["reasons"].items())[:3]
            )
            where = files[0].path if len(files) == 1 else f"{len(files)} files"
            raise InputError(f"{where}: no conversation to be had as {format}: {why or 'no rows at all'}")
        with open(folder / "stats.json", "w", encoding="utf-8") as file:
            json.dump(stats, file, ensure_ascii=False, indent=2)
    return stats


def _write(reader: Reader, files: Sequence[Source], folder: Path, bar: Bar, licence: str) -> dict[str, Any]:
    # An archive's index is read again for each of its members, and what lies before a member in a .7z.
    ledger = Ledger(on_bytes=lambda n: bar.advance(min(n, (bar.total or 0) - bar.done)))
    conversations, preferences, messages, characters = 0, 0, 0, 0
    roles: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    with ExitStack() as stack:
        found, rejected, dropped = (
            stack.enter_context(open(folder / name, "w", encoding="utf-8", newline="\n")) for name in FILES
        )
        for item in reader.read(files, ledger):
            ledger.enter(item)
            if isinstance(item, Found):
                conversation = item.conversation
                conversations += 1
                preferences += bool(conversation.rejected)
                messages += len(conversation.messages)
                roles.update(message.role for message in conversation.messages)
                characters += sum(len(message.content or "") for message in conversation.messages)
                rows = {file: list(positions) for file, positions in item.rows.items()}
                meta = {"license": licence, **conversation.meta} if licence else conversation.meta
                conversation = replace(conversation, meta={**meta, "rows": rows})
                found.write(json.dumps(conversation.to_json(), ensure_ascii=False) + "\n")
            else:
                kind = _kind(item.reason)
                reasons[kind if kind in reasons or len(reasons) < MOST_REASONS else "other"] += 1
                _write_row(dropped if isinstance(item, Dropped) else rejected, item)
    return {
        **ledger.counts(),
        "conversations": conversations,
        "preferences": preferences,
        "messages": messages,
        "roles": dict(sorted(roles.items())),
        "characters": characters,
        "reasons": dict(reasons.most_common(REASONS)),
    }


def _kind(reason: str) -> str:
    """The reason without what is this row's alone: an id in brackets at its end, where in a row an error stands."""
    return re.sub(r" \(.*\)$| at (?:character|byte) \d+$|, after .*$", "", reason, flags=re.DOTALL)


def _write_row(file: IO[str], item: Rejected) -> None:
    """ASCII alone where the row holds bytes or halves of characters that UTF-8 has no place for."""
    text = json.dumps(item.to_json(), ensure_ascii=False, default=str)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(item.to_json(), default=str)
    file.write(text + "\n")

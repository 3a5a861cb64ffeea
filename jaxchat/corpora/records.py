"""JSON records in every shape that corpora and chat programs write them, in constant memory.

A file of records is JSON lines, one array, or objects one after the other however they are broken into lines; in an
export of a chat program the records are an array somewhere inside one big object. JsonReader is what the formats share
in which a record is a conversation.
"""

from __future__ import annotations

import codecs
import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxchat.chat.conversation import Conversation
from jaxchat.corpora import Reader
from jaxchat.corpora.ledger import Dropped, Found, Ledger, Rejected
from jaxchat.corpora.rows import (
    _DECODER,
    _STRUCTURE,
    CHUNK,
    Row,
    Source,
    _half_character,
    _not_json,
    _opened,
    _read,
    _Text,
    json_elements,
    json_lines,
)

Path = tuple[str | int, ...]
# Arrays of objects that stand beside the messages in what chat programs export, and hold none.
BESIDE = ("members", "participants", "users", "contacts", "pinnedMessages", "emojis", "roles")


class LeftOut(ValueError):  # noqa: N818 (what became of a record, no fault)
    """A record that was read well and that an option leaves out."""


@dataclass(frozen=True)
class JsonReader(Reader):
    """A format in which one record holds one conversation, or several."""

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".json", ".ndjson")

    def conversations(self, record: Any) -> Sequence[Conversation]:
        """What `record` holds; ids and sources may be left empty. ValueError with the reason to reject it, LeftOut to
        drop it."""
        raise NotImplementedError

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        for source in files:
            for row in json_records(source, ledger):
                if isinstance(row, Row):
                    yield from found(row, self.conversations, type(self).__name__.lower())
                else:
                    yield row


def found(row: Row, conversations: Any, format: str) -> Iterator[Found | Rejected]:
    """What `conversations` makes of the row, each named for where it stands unless it has a name."""
    try:
        made = conversations(row.value)
        if not made:
            raise ValueError("no conversation in it")
    except LeftOut as reason:
        yield Dropped(row.file, row.position, str(reason), row.value)
        return
    except ValueError as reason:
        yield row.reject(str(reason))
        return
    for i, conversation in enumerate(made, 1):
        own = f"{row.file}:{row.position}" + (f":{i}" if len(made) > 1 else "")
        yield Found(
            dataclasses.replace(conversation, id=conversation.id or own, source=conversation.source or format),
            {row.file: (row.position,)},
        )


def text_of(record: Any, key: str, *, optional: bool = False) -> str:
    """The text under `key`. ValueError where there is none; with `optional` that, null and blank are ""."""
    if not isinstance(record, dict):
        raise ValueError("not an object")
    value = record.get(key)
    if value is None and optional:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"no `{key}`; its keys are {', '.join(record)}" if value is None else f"`{key}` is not text")
    if not value.strip() and not optional:
        raise ValueError(f"`{key}` is empty")
    return value if value.strip() else ""


def rest_of(record: dict[str, Any], *used: str) -> dict[str, Any]:
    """The record's other keys, for a conversation's `meta`, where they say something."""
    return {key: value for key, value in record.items() if key not in used and value not in (None, "", [], {})}


def json_records(source: Source, ledger: Ledger) -> Iterator[Row | Rejected]:
    """The records of a file of JSON lines, of one array, or of objects that stand one behind the other."""
    form = json_form(source)
    if form == "array":
        yield from json_elements(source, ledger)
    elif form in ("lines", "object"):
        yield from json_lines(source, ledger)
    else:
        yield from _objects(source, ledger)


def json_form(source: Source) -> str:
    """Told by the beginning: "array", "lines" (a value each), "object" (one line alone, or one too long to see what
    follows) or "objects" (over several lines)."""
    with _opened(source, Ledger()) as file:
        head = _read(source, lambda: file.read(CHUNK))
    head = head.removeprefix(codecs.BOM_UTF8).lstrip()
    first, _, rest = head.partition(b"\n")
    next_ = rest.lstrip()[:1]
    if first[:1] == b"[":
        return "lines" if next_ == b"[" and _whole(first) else "array"
    if first[:1] == b"{" and next_ == b"":
        return "object"
    if first[:1] != b"{" or next_ == b"{" or _whole(first):
        return "lines"
    return "objects"


def _whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _objects(source: Source, ledger: Ledger) -> Iterator[Row | Rejected]:
    with _opened(source, ledger) as file:
        text, position = _Text(source, file), 0
        while text.peek():
            position += 1
            ledger.read(source.name, position)
            value, reason, end = None, "", -1
            while end < 0:
                try:
                    value, end = _DECODER.raw_decode(text.text, text.at)
                    reason = ""
                except (ValueError, RecursionError) as error:
                    reason = _not_json(error, text.at)
                    end = _behind_brackets(text)
                if end < 0 and not text.fill():
                    yield Rejected(source.name, position, f"the file ends inside it; {reason}", text.rest())
                    return
            raw, text.at = text.text[text.at : end], end
            if not reason and not raw.isascii():
                reason = _not_utf8(raw)
            reason = reason or _half_character(raw, value)
            yield Rejected(source.name, position, reason, raw) if reason else Row(source.name, position, value)


def _not_utf8(raw: str) -> str:
    try:
        raw.encode()
    except UnicodeEncodeError as error:
        return f"a byte that is not UTF-8, after {raw[max(0, error.start - 20) : error.start]!r}"
    return ""


def _behind_brackets(text: _Text) -> int:
    """Where the brackets that open here are closed again; -1: not in this window."""
    depth = 0
    for match in _STRUCTURE.finditer(text.text, text.at):
        mark = match.group()
        if mark == '"':
            return -1
        depth += (mark in "{[") - (mark in "}]")
        if mark in "{[}]" and depth <= 0:
            return match.end()
    return -1


def json_tree(
    source: Source, ledger: Ledger, at: Iterable[tuple[str, ...]]
) -> Iterator[tuple[Path, Row | Rejected | None]]:
    """A big JSON value with the arrays in it whose elements are the rows: those that stand `at` one of these paths (of
    keys, with * for any key or any element).

    Yields every row, and each other value on the way there whole as a Row of position 0, with its path; before an
    element or object that holds rows is gone into, its path with None. A row's path is its array's. What cannot be read
    is rejected, and counts as a row; so does an array of objects beside those that are looked for, lest the rows of a
    misspelt one are lost.
    """
    with _opened(source, ledger) as file:
        walk = _Walk(source, ledger, _Text(source, file), tuple(at))
        if walk.text.peek() not in ("[", "{"):
            walk.broken = True
            yield (), walk.reject("neither a JSON array nor an object")
        else:
            yield from walk.value((), "")
        if not walk.broken and walk.text.peek():
            yield (), walk.reject("text behind the end")


class _Walk:
    def __init__(self, source: Source, ledger: Ledger, text: _Text, at: tuple[tuple[str, ...], ...]):
        self.source, self.ledger, self.text, self.at = source, ledger, text, at
        self.position, self.broken = 0, False
        self.bearing: set[Path] = set()  # the objects gone into that have an array of rows
        self.damaged: set[Path] = set()  # and those whose array has a row that cannot be read

    def value(self, path: Path, closing: str) -> Iterator[tuple[Path, Row | Rejected | None]]:
        mark = self.text.peek()
        leads = [wanted for wanted in self.at if _matches(path, wanted[: len(path)]) and len(wanted) >= len(path)]
        if mark == "[" and any(len(wanted) == len(path) for wanted in leads):
            self.bearing.add(path[:-1])
            yield from self.rows(path)
        elif mark == "[" and any(wanted[len(path)] == "*" for wanted in leads if len(wanted) > len(path)):
            yield path, None
            yield from self.inside(path, "]")
        elif mark == "{" and any(len(wanted) > len(path) for wanted in leads):
            yield path, None
            yield from self.inside(path, "}")
        else:
            item = self.text.element(0, keyed=False, closing=closing)
            if isinstance(item, Rejected):
                item = self.reject(item.reason, item.row)
                self.broken = self.text.exhausted
            elif (
                self._beside_rows(path)
                and isinstance(item.value, list)
                and any(isinstance(e, dict) for e in item.value)
            ):
                self.bearing.add(path[:-1])
                item = self.reject(f"an array of objects under {path[-1]!r}, where none is known", item.value)
            elif any(wanted[len(path) - 1] == "*" for wanted in leads if len(wanted) > len(path) > 0):
                item = self.reject(f"no object, where one with {leads[0][-1]!r} is due", item.value)
            elif path[:-1] in self.damaged:
                # The array may have ended too early, and this be a field of the row that could not be read.
                yield path, self.reject("a value behind rows of which one cannot be read", {path[-1]: item.value})
            yield path, item

    def _beside_rows(self, path: Path) -> bool:
        return (
            bool(path)
            and path[-1] not in BESIDE
            and any(len(wanted) == len(path) and _matches(path[:-1], wanted[:-1]) for wanted in self.at)
        )

    def rows(self, path: Path) -> Iterator[tuple[Path, Row | Rejected | None]]:
        self.text.at += 1
        while (mark := self.text.peek()) != "]":
            if mark == ",":
                self.text.at += 1
            elif not mark:
                yield path, self.ends_before("]")
                return
            else:
                self.position += 1
                self.ledger.read(self.source.name, self.position)
                item = self.text.element(self.position, keyed=False, closing="]")
                yield path, item
                if isinstance(item, Rejected):
                    self.damaged.add(path[:-1])
                    if self.text.exhausted:
                        self.broken = True
                        return
        self.text.at += 1

    def inside(self, path: Path, closing: str) -> Iterator[tuple[Path, Row | Rejected | None]]:
        """The values of an object or array. One of several objects that each should have rows, and has no array of
        them, is rejected with all that stands in it: it may be a row that a damaged file has in its place."""
        due = [w for w in self.at if len(w) == len(path) + 1 and w[-2:-1] == ("*",) and _matches(path, w[:-1])]
        if not due or closing == "]":
            yield from self.members(path, closing)
            return
        aside = {}
        for inner, item in self.members(path, closing):
            if isinstance(item, Row) and not item.position and len(inner) == len(path) + 1:
                aside[str(inner[-1])] = item.value
            yield inner, item
        if path not in self.bearing and aside:
            self.position += 1
            self.ledger.read(self.source.name, self.position)
            reason = f"no array under {due[0][-1]!r} in it"
            yield path, Rejected(self.source.name, self.position, reason, aside)
        self.bearing.discard(path)

    def members(self, path: Path, closing: str) -> Iterator[tuple[Path, Row | Rejected | None]]:
        self.text.at += 1
        n = -1
        while (mark := self.text.peek()) != closing:
            if mark == ",":
                self.text.at += 1
                continue
            if not mark:
                yield path, self.ends_before(closing)
                return
            n += 1
            key = n if closing == "]" else self.key()
            if key is None:
                self.broken = True
                yield path, self.reject("not JSON: no key and colon where one is due")
                return
            yield from self.value((*path, key), closing)
            if self.broken:
                return
        self.text.at += 1

    def key(self) -> str | None:
        while True:
            try:
                key, end = _DECODER.raw_decode(self.text.text, self.text.at)
                end = self.text._behind_space(end)
                if end < len(self.text.text):
                    break
            except (ValueError, RecursionError):
                pass
            if not self.text.fill():
                return None
        if not isinstance(key, str) or self.text.text[end] != ":":
            return None
        self.text.at = end + 1
        return key.encode(errors="surrogatepass").decode(errors="replace")  # it may stand in what is written

    def ends_before(self, closing: str) -> Rejected:
        self.broken = True
        return self.reject(f"the file ends before its closing {closing}", "")

    def reject(self, reason: str, row: Any = None) -> Rejected:
        """A row of its own for what cannot be read; without `row` all that is left of the file."""
        self.position += 1
        self.ledger.read(self.source.name, self.position)
        return Rejected(self.source.name, self.position, reason, self.text.rest() if row is None else row)


def _matches(path: Path, wanted: tuple[str, ...]) -> bool:
    return len(path) == len(wanted) and all(w in ("*", p) for p, w in zip(path, wanted))

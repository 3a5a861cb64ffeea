"""The Cornell Movie-Dialogs Corpus: `movie_lines.txt`, `movie_conversations.txt` that names its lines in order, and
what is known of the films in `movie_titles_metadata.txt`. Fields stand between ` +++$+++ `; the text is ISO-8859-1.

A row is a line of any of these files. ConvoKit's form of the corpus (`utterances.jsonl`) is read as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, ClassVar, Literal, NamedTuple

from jaxchat.chat.conversation import Conversation
from jaxchat.corpora.convokit import BESIDE, beside, is_convokit, read_convokit
from jaxchat.corpora.grouping import grouped
from jaxchat.corpora.ledger import Dropped, Found, Ledger, Rejected
from jaxchat.corpora.rows import Row, Source, lines
from jaxchat.corpora.threaded import Threaded
from jaxchat.errors import InputError

LINES, TALKS, TITLES = "movie_lines.txt", "movie_conversations.txt", "movie_titles_metadata.txt"
SEPARATOR = " +++$+++ "
_IDS = re.compile(r"\[\s*'[^']*'(?:\s*,\s*'[^']*')*\s*\]")


@dataclass(frozen=True)
class Cornell(Threaded):
    """Dialogues of two characters. Naming one file reads those beside it, too."""

    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".jsonl")

    encoding: Literal["iso-8859-1", "windows-1252", "utf-8"] = "iso-8859-1"
    """Of the raw files; ConvoKit's are UTF-8."""

    @property
    def wanted(self) -> str:
        return f"{LINES}, {TALKS} or utterances.jsonl"

    def fits(self, file: PurePath) -> bool:
        return is_convokit(file) or Source(Path(file), "").file_name in (LINES, TALKS, TITLES)

    def files(self, paths: Sequence[Path]) -> list[Source]:
        return super().files(beside(paths, (LINES, TALKS, TITLES, *BESIDE)))

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        kinds: dict[str, list[Source]] = {LINES: [], TALKS: [], TITLES: []}
        convokit: list[Source] = []
        for file in files:
            kinds.get(file.file_name, convokit).append(file)
        if convokit:
            yield from read_convokit(self, convokit, ledger, "cornell", title=True)
        if not any(kinds.values()):
            return
        for name in (LINES, TALKS):
            if not kinds[name]:
                raise InputError(f"{files[0].path.parent}: no {name} here; the corpus needs {LINES} and {TALKS}")
        yield from self._raw(kinds, ledger)

    def _raw(self, kinds: dict[str, list[Source]], ledger: Ledger) -> Iterator[Found | Rejected]:
        films = _Films(kinds[TITLES], ledger, self.encoding)
        yield from films.rejected
        shared = _Shared()
        for talk, group in grouped(self._in_place(kinds, ledger)):
            if talk < 0:
                yield from (Rejected(*item) for item in group)
            else:
                yield from shared.settle(self._talk(list(group), films))
        yield from shared.unused()
        yield from films.unused()

    def _in_place(self, kinds: dict[str, list[Source]], ledger: Ledger) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Lines and conversations by the number of the conversation; -1: rows that stand in none."""
        for _, group in grouped(self._by_line(kinds, ledger)):
            line, named = None, []
            for item in group:
                if item[0] == "place":
                    named.append(item[1:])
                elif item[0] == "aside":
                    yield item[1], item[2]
                elif line is None:
                    line = item[1:]
                else:
                    yield -1, (item[1], item[2], f"another line has the same id ({item[3]})", item[-1])
            if line is None:
                continue
            if not named:
                yield -1, (line[0], line[1], "no conversation names this line", line[-1])
            for talk, place in named:
                yield talk, ("line", place, len(named) > 1, *line)

    def _by_line(self, kinds: dict[str, list[Source]], ledger: Ledger) -> Iterator[tuple[str, tuple[Any, ...]]]:
        number = 0
        for row in _rows(kinds[TALKS], ledger, self.encoding):
            item = row if isinstance(row, Rejected) else _conversation(row)
            if isinstance(item, Rejected):
                yield "", ("aside", -1, (item.file, item.position, item.reason, item.row))
                continue
            yield "", ("aside", number, ("talk", *item))
            for place, name in enumerate(item[-1]):
                yield name, ("place", number, place)
            number += 1
        for row in _rows(kinds[LINES], ledger, self.encoding):
            item = row if isinstance(row, Rejected) else _line(row)
            if isinstance(item, Rejected):
                yield "", ("aside", -1, (item.file, item.position, item.reason, item.row))
            else:
                yield item[2], ("line", *item)

    def _talk(self, items: list[tuple[Any, ...]], films: _Films) -> _Settled:
        _, file, position, row, film, names = next(item for item in items if item[0] == "talk")
        spoken = sorted((Line(*item[1:]) for item in items if item[0] == "line"), key=lambda line: line.place)
        with_text = [line for line in spoken if line.text.strip()]
        blank = [Rejected(line.file, line.position, "no text", line.row) for line in spoken if not line.text.strip()]
        places = {line.place for line in spoken}
        if missing := [name for place, name in enumerate(names) if place not in places]:
            talk = Rejected(file, position, f"a line is not in the input ({missing[0]})", row)
            why = f"its conversation was rejected ({file}, row {position})"
            return _Settled([talk], [Rejected(line.file, line.position, why, line.row) for line in spoken], spoken)
        by_name = len({line.name for line in spoken}) == len({line.speaker for line in spoken})
        try:
            messages = self.messages([(line.name if by_name else line.speaker, line.text) for line in with_text])
        except ValueError as reason:
            talk = Dropped(file, position, str(reason), row)
            left = [Dropped(line.file, line.position, str(reason), line.row) for line in with_text]
            return _Settled([talk], [*left, *blank], spoken)
        rows: dict[str, list[int]] = {file: [position]}
        for line in with_text:
            rows.setdefault(line.file, []).append(line.position)
        meta = films.of(film, rows)
        conversation = Conversation(names[0], messages, source="cornell", meta=meta)
        return _Settled([Found(conversation, rows)], list(blank), spoken)


class Line(NamedTuple):
    place: int
    shared: bool
    file: str
    position: int
    id: str
    speaker: str
    name: str
    text: str
    row: str


class _Settled(NamedTuple):
    """What became of a conversation and, beside what it used, of its lines."""

    talk: list[Found | Rejected]
    left: list[Rejected]
    lines: list[Line]


class _Shared:
    """Lines that several conversations name have one fate: used, if any of these conversations is."""

    def __init__(self) -> None:
        self._used: set[tuple[str, int]] = set()
        self._left: dict[tuple[str, int], Rejected] = {}

    def settle(self, settled: _Settled) -> Iterator[Found | Rejected]:
        yield from settled.talk
        shared = {(line.file, line.position) for line in settled.lines if line.shared}
        left = {(item.file, item.position): item for item in settled.left}
        self._used |= shared - left.keys()
        for row, item in left.items():
            if row in shared:
                self._left.setdefault(row, item)
            else:
                yield item

    def unused(self) -> Iterator[Rejected]:
        yield from (item for row, item in self._left.items() if row not in self._used)


class _Films:
    """The films by id: what is known of them, in which row, and whether a conversation used it."""

    def __init__(self, files: Sequence[Source], ledger: Ledger, encoding: str):
        self.rejected: list[Rejected] = []
        self._rows: dict[str, Row] = {}
        self._used: set[str] = set()
        for row in _rows(files, ledger, encoding):
            if isinstance(row, Rejected):
                self.rejected.append(row)
            elif len(fields := _fields(row.value)) != 6:
                self.rejected.append(row.reject(f"{len(fields)} fields, not 6"))
            elif fields[0] in self._rows:
                self.rejected.append(row.reject(f"another film has the same id ({fields[0]})"))
            else:
                self._rows[fields[0]] = row

    def of(self, film: str, rows: dict[str, list[int]]) -> dict[str, Any]:
        """The film's `meta`; its row is entered among `rows`."""
        row = self._rows.get(film)
        if row is None:
            return {"film": film}
        self._used.add(film)
        rows.setdefault(row.file, []).append(row.position)
        _, title, year, _, _, genres = _fields(row.value)
        return {"film": film, "title": title, "year": year, "genres": re.findall(r"'([^']*)'", genres)}

    def unused(self) -> Iterator[Rejected]:
        for film, row in self._rows.items():
            if film not in self._used:
                yield Dropped(row.file, row.position, "no conversation that is kept is from this film", row.value)


def _rows(files: Sequence[Source], ledger: Ledger, encoding: str) -> Iterator[Row | Rejected]:
    for file in files:
        yield from lines(file, ledger, encoding)


def _fields(line: str) -> list[str]:
    """Of a line whose last field is empty, editors like to take the space before it away."""
    return (line + " " if line.endswith(SEPARATOR.rstrip()) else line).split(SEPARATOR)


def _conversation(row: Row) -> tuple[Any, ...] | Rejected:
    fields = _fields(row.value)
    if len(fields) != 4:
        return row.reject(f"{len(fields)} fields, not 4")
    if not _IDS.fullmatch(fields[3].strip()):
        return row.reject("no list of line ids in its last field")
    return row.file, row.position, row.value, fields[2], re.findall(r"'([^']*)'", fields[3])


def _line(row: Row) -> tuple[Any, ...] | Rejected:
    fields = _fields(row.value)
    if len(fields) < 5:
        return row.reject(f"{len(fields)} fields, not 5")
    name, speaker, _, character = fields[:4]
    return row.file, row.position, name, speaker, character, SEPARATOR.join(fields[4:]), row.value

"""CSV records of big files, one at a time; a broken one is rejected by itself and reading goes on with the next line.

A quote that is never closed would swallow the rest of a file: a record that does not come out right is given up after
its first line, and what follows that line is read anew.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain

from jaxchat.corpora.ledger import Ledger, Rejected
from jaxchat.corpora.rows import LONGEST, Row, Source, raw_lines
from jaxchat.errors import InputError

# Lines that one record may be spread over.
MOST_LINES = 2000


def csv_records(
    source: Source, ledger: Ledger, wanted: Sequence[str], delimiter: str = ",", encoding: str = "utf-8"
) -> Iterator[Row | Rejected]:
    """The records, as dictionaries by the names in the header; the position is the line a record begins on.

    `wanted` are columns that the header must have: InputError names those that it lacks. Blank lines between records
    are passed over. Bytes that are not of the encoding reject their record.
    """
    csv.field_size_limit(LONGEST)
    lines = _Lines(source, ledger, encoding)
    header: list[str] | None = None
    while (first := lines.take()) is not None:
        position, text = first
        if not text.strip():
            continue
        if header is None:
            header = _header(source, text, wanted, delimiter)
            continue
        ledger.read(source.name, position)
        fields, reason, read = _record(lines, text, len(header), delimiter)
        record = "".join([text, *read]).rstrip("\r\n")
        if (
            not reason
            and (bad := next((i for i, c in enumerate(record) if "\udc80" <= c <= "\udcff"), None)) is not None
        ):
            reason = f"not {encoding.upper()}, after {record[max(0, bad - 20) : bad]!r}"
        if reason:
            yield Rejected(source.name, position, reason, record if not read else text.rstrip("\r\n"))
            lines.put_back(position + 1, read)
        else:
            yield Row(source.name, position, dict(zip(header, fields)))


def _header(source: Source, text: str, wanted: Sequence[str], delimiter: str) -> list[str]:
    text = text.encode(errors="surrogateescape").decode(errors="replace")  # names may stand in what is written
    try:
        names = [name.strip() for name in next(csv.reader([text], delimiter=delimiter))]
    except (csv.Error, StopIteration):
        raise InputError(f"{source.path}: its first line is no row of column names, {text[:60]!r}") from None
    if missing := [name for name in wanted if name not in names]:
        has = ", ".join(name for name in names if name)[:200]
        raise InputError(f"{source.path}: no column {', '.join(missing)} in its first line, which has {has}")
    return [name or f"column {i}" for i, name in enumerate(names, 1)]


def _record(lines: _Lines, first: str, columns: int, delimiter: str) -> tuple[list[str], str, list[str]]:
    """(fields, why they are no record, further lines that were read for it)."""
    read: list[str] = []

    def further() -> Iterator[str]:
        while len(read) < MOST_LINES and (line := lines.take()) is not None:
            read.append(line[1])
            yield line[1]

    try:
        fields = next(csv.reader(chain([first], further()), delimiter=delimiter, strict=True))
    except (csv.Error, StopIteration) as error:
        return [], f"not CSV: {str(error).split(' - ')[0] or 'no fields'}", read
    if len(fields) != columns:
        return fields, f"{len(fields)} fields where the header has {columns}", read
    return fields, "", read


class _Lines:
    """Lines with their numbers, which can be put back."""

    def __init__(self, source: Source, ledger: Ledger, encoding: str):
        self._lines = raw_lines(source, ledger)
        self._encoding = encoding
        self._waiting: deque[tuple[int, str]] = deque()

    def take(self) -> tuple[int, str] | None:
        if self._waiting:
            return self._waiting.popleft()
        line = next(self._lines, None)
        return None if line is None else (line[0], line[1].decode(self._encoding, errors="surrogateescape"))

    def put_back(self, first: int, lines: Sequence[str]) -> None:
        self._waiting.extendleft(reversed(list(enumerate(lines, first))))

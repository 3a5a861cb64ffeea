"""Brings together what belongs together, from files far larger than memory: sorted runs on the disk, then merged.

What goes in are plain Python values (None, bool, int, float, str, bytes, tuple, list, dict), which is what JSON rows
are made of. The runs stand compressed in a temporary folder ($TMPDIR), which is gone when the last group was taken.
"""

from __future__ import annotations

import heapq
import io
import marshal
import tempfile
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar, cast

# Bytes of values, as marshalled, that are sorted in memory at a time; runs that are merged at a time.
RUN, FAN_IN = 1 << 25, 64
Key = TypeVar("Key", int, str, "tuple[Any, ...]")
Item = tuple[Any, int, bytes]


def grouped(items: Iterable[tuple[Key, Any]]) -> Iterator[tuple[Key, Iterator[Any]]]:
    """Groups (key, value) by key, in the order of the keys; within a group, values in the order they came.

    Keys compare with each other. A group's values are a stream, over once the next group is taken. Memory is a few
    RUNs, whatever the input; the disk holds what the input holds, compressed.
    """
    with tempfile.TemporaryDirectory(prefix="jaxchat-") as folder:
        ordered, waiting = [], 0
        runs: list[Path] = []
        for number, (key, value) in enumerate(items):
            packed = marshal.dumps(value)
            ordered.append((key, number, packed))
            waiting += len(packed) + 120
            if waiting >= RUN:
                runs.append(_write(ordered, Path(folder, f"{len(runs)}")))
                ordered, waiting = [], 0
        merged: Iterable[Item]
        if runs:
            runs.append(_write(ordered, Path(folder, f"{len(runs)}")))
            ordered = []
            merged = _merged(runs)
        else:
            ordered.sort(key=itemgetter(0, 1))
            merged = ordered
        for key, group in groupby(merged, key=itemgetter(0)):
            yield key, (marshal.loads(packed) for _, _, packed in group)


def read_twice(values: Iterable[Any]) -> Iterator[Any]:
    """The same values, the first of them once the last has been taken in: by then whoever makes them has seen all.
    They wait compressed on the disk."""
    with tempfile.TemporaryDirectory(prefix="jaxchat-") as folder:
        yield from _read(_write(values, Path(folder, "values"), already_sorted=True))


def _write(items: Iterable[Any], path: Path, already_sorted: bool = False) -> Path:
    import zstandard

    if not already_sorted:
        items = sorted(items, key=itemgetter(0, 1))
    with path.open("wb") as raw, zstandard.ZstdCompressor(level=1).stream_writer(raw) as packed:
        with io.BufferedWriter(cast(Any, packed), 1 << 16) as file:
            for item in items:
                marshal.dump(item, file)
    return path


def _read(path: Path) -> Iterator[Any]:
    import zstandard

    with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw, read_size=1 << 16) as unpacked:
        with io.BufferedReader(unpacked, 1 << 16) as file:
            while file.peek(1):
                yield marshal.load(file)
    path.unlink()


def _merged(runs: list[Path]) -> Iterator[Item]:
    while len(runs) > FAN_IN:  # fewer, longer runs, so that not too many files are open at once
        first, runs = list(islice(runs, FAN_IN)), runs[FAN_IN:]
        path = first[0].with_name(f"{first[0].name}-merged")
        runs.append(_write(heapq.merge(*map(_read, first), key=itemgetter(0, 1)), path, already_sorted=True))
    return heapq.merge(*map(_read, runs), key=itemgetter(0, 1))

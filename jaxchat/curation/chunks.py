"""Files of conversations in pieces of a fixed size, so that whoever reads them, in whatever number, reads the same."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from jaxchat.chat.conversation import conversation_files
from jaxchat.errors import InputError

# Bytes of a piece: about a second's work.
SIZE = 1 << 20
LONGEST_FILE = 1 << 40  # lines
Opener = Callable[[str], IO[bytes]]


@dataclass(frozen=True)
class File:
    """A file to read, the name that its rows go by, and its place among all files."""

    path: str
    name: str
    number: int


@dataclass(frozen=True)
class Chunk:
    """Whole lines of a file, the first of them being line `line` (from 1)."""

    number: int
    """Chunks in the order of their conversations."""
    file: File
    line: int
    start: int
    size: int
    data: bytes | None = None
    """The lines, where the file cannot be read from its middle."""

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """(position, line) of the lines that are not blank; positions are in the order of all conversations of all
        files, see `place`."""
        data = self.data
        if data is None:
            with open(self.file.path, "rb") as file:
                file.seek(self.start)
                data = file.read(self.size)
        for number, line in enumerate(data.split(b"\n"), self.line):
            if line.strip():
                yield self.file.number * LONGEST_FILE + number, line


def place(position: int) -> tuple[int, int]:
    """A position's file number and line."""
    return divmod(position, LONGEST_FILE)


def local_files(sources: Sequence[Path]) -> list[File]:
    """The files of conversations in folders, or files. InputError where there are none or one is named twice."""
    paths = [file.absolute() for source in sources for file in conversation_files(source)]
    if len(set(paths)) < len(paths):
        twice = next(path for i, path in enumerate(paths) if path in paths[:i])
        raise InputError(f"{twice} is named twice; name it once")
    # The folder's name tells files apart that are all called conversations.jsonl.
    return [File(str(path), f"{path.parent.name}/{path.name}", n) for n, path in enumerate(paths)]


def chunks(file: File, opener: Opener | None = None) -> Iterator[Chunk]:
    """The chunks of one file. With an `opener` (of remote files), or compressed, they hold their lines."""
    inline = opener is not None or file.path.endswith(".zst")
    with _opened(file.path, opener) as stream:
        number = file.number << 24
        start, line = 0, 1
        while True:
            data = stream.read(SIZE)
            if not data:
                return
            if not data.endswith(b"\n"):
                data += stream.readline()
            if start == 0 and data.startswith(b"\xef\xbb\xbf"):
                data, start = data[3:], 3
            yield Chunk(number, file, line, start, len(data), data if inline else None)
            number, start, line = number + 1, start + len(data), line + data.count(b"\n")


def _opened(path: str, opener: Opener | None) -> IO[bytes]:
    try:
        raw = opener(path) if opener else open(path, "rb")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; name a file that can be read") from None
    if not path.endswith(".zst"):
        return raw
    import zstandard

    stream: Any = zstandard.ZstdDecompressor(max_window_size=1 << 31).stream_reader(
        cast(Any, raw), read_across_frames=True
    )
    return cast(IO[bytes], io.BufferedReader(stream, SIZE))

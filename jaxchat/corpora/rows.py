"""Reading big files row by row, in constant memory: lines, JSON lines, the elements of one big JSON array or object.

Files may be compressed (.gz, .bz2, .xz, .zst) or stand in an archive (.zip, .7z). Whatever cannot be read as a row is
yielded as Rejected, and reading goes on behind it. Every row is entered in the ledger as read before it is yielded.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import json
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from jaxchat.corpora.archives import DamagedError, opened_member
from jaxchat.corpora.ledger import Ledger, Rejected
from jaxchat.errors import InputError

# Bytes read at once, and the longest row taken into memory.
CHUNK, LONGEST = 1 << 20, 1 << 26
# How deep a row's values may be nested.
DEEPEST = 200
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


@dataclass(frozen=True)
class Source:
    """A file to read, and the short name that its rows go by; in an archive (`path`), the file is its `member`."""

    path: Path
    name: str
    member: str = ""

    @property
    def file_name(self) -> str:
        """The file's own name, in lower case and without what says that it is compressed."""
        name = PurePosixPath(self.member or self.path.name).name.lower()
        return name.removesuffix(next((suffix for suffix in COMPRESSED if name.endswith(suffix)), ""))


@dataclass(frozen=True)
class Row:
    """One row: what it holds, and in an object's elements the key it stands under."""

    file: str
    position: int
    value: Any
    key: str | None = None

    def reject(self, reason: str) -> Rejected:
        return Rejected(self.file, self.position, reason, self.value if self.key is None else {self.key: self.value})


def first_byte(source: Source) -> bytes:
    """The first byte that is no white space (and no byte order mark), b"" in an empty file."""
    with _opened(source, Ledger()) as file:
        while chunk := _read(source, lambda: file.read(CHUNK)):
            if text := chunk.removeprefix(codecs.BOM_UTF8).lstrip():
                return text[:1]
    return b""


def whole(source: Source, ledger: Ledger) -> str | bytes:
    """The whole of a file that is small by its nature; its bytes where they are not UTF-8. Rows are the caller's."""
    with _opened(source, ledger) as file:
        content = _read(source, lambda: file.read(LONGEST))
    if len(content) == LONGEST:
        raise InputError(f"{source.path}: larger than {LONGEST >> 20} MB; is it this format?")
    _refuse_utf16(source, content)
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError:
        return content


def raw_lines(source: Source, ledger: Ledger) -> Iterator[tuple[int, bytes]]:
    """All lines as they stand, with their numbers from 1; a byte order mark is left out."""
    with _opened(source, ledger) as file:
        position = 0
        while line := _read(source, lambda: file.readline(LONGEST)):
            position += 1
            if position == 1:
                _refuse_utf16(source, line)
                line = line.removeprefix(codecs.BOM_UTF8)
            if len(line) == LONGEST and not line.endswith(b"\n"):
                raise InputError(f"{source.path}, line {position}: longer than {LONGEST >> 20} MB; is it this format?")
            yield position, line


def lines(source: Source, ledger: Ledger, encoding: str = "utf-8") -> Iterator[Row | Rejected]:
    """The lines that are not blank, as text without the line's end; the position is the line's number."""
    for position, line in raw_lines(source, ledger):
        if not line.strip():
            continue
        ledger.read(source.name, position)
        try:
            yield Row(source.name, position, line.decode(encoding).rstrip("\r\n"))
        except UnicodeDecodeError as error:
            text = line.decode(encoding, errors="surrogateescape" if encoding == "utf-8" else "backslashreplace")
            yield Rejected(source.name, position, f"not {encoding.upper()} at byte {error.start}", text)


def json_lines(source: Source, ledger: Ledger) -> Iterator[Row | Rejected]:
    """JSON lines: one value a line."""
    for row in lines(source, ledger):
        if isinstance(row, Row):
            yield _decoded(row)
        else:
            yield row


def _decoded(row: Row) -> Row | Rejected:
    try:
        value = _DECODER.decode(row.value)
    except (ValueError, RecursionError) as error:
        return row.reject(_not_json(error))
    half = _half_character(row.value, value)
    return row.reject(half) if half else Row(row.file, row.position, value)


def json_elements(source: Source, ledger: Ledger) -> Iterator[Row | Rejected]:
    """The elements of the array, or the values by key of the object, that is the file: one at a time.

    A malformed element is rejected and reading goes on behind the comma that ends it.
    """
    with _opened(source, ledger) as file:
        text = _Text(source, file)
        opening = text.peek()
        if opening not in ("[", "{"):
            raise InputError(f"{source.path}: neither a JSON array nor an object; is it this format?")
        text.at += 1
        closing, position = ("]" if opening == "[" else "}"), 0
        while (mark := text.peek()) != closing:
            if mark == ",":
                text.at += 1
                continue
            position += 1
            ledger.read(source.name, position)
            if not mark:
                yield Rejected(source.name, position, f"the file ends before its closing {closing}", "")
                return
            item = text.element(position, keyed=opening == "{", closing=closing)
            yield item
            if isinstance(item, Rejected) and text.exhausted:
                return
        text.at += 1
        if text.peek():
            ledger.read(source.name, position + 1)
            yield Rejected(source.name, position + 1, f"text behind the closing {closing}", text.rest())


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; one whose key stands twice would keep the last value and lose the others."""
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"the key {twice[:40]!r} stands twice in an object")
    return result


_DECODER = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_each_key_once)
_SPACE = re.compile(r"[ \t\r\n]*")
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"|["{}\[\],]', re.DOTALL)
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


class _Text:
    """A window of decoded text over a file that may be far larger. Bytes that are not UTF-8 become lone surrogates, so
    that the element they stand in can be told and rejected, and the next one read."""

    def __init__(self, source: Source, file: IO[bytes]):
        self.source, self.file = source, file
        self.decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.text, self.at, self.ended = "", 0, False
        first = _read(source, lambda: file.read(CHUNK))
        _refuse_utf16(source, first)
        self.text = self.decoder.decode(first.removeprefix(codecs.BOM_UTF8))

    def fill(self) -> bool:
        """Reads on: as much again as is pending, so that an element of any length is tried few times."""
        if self.ended:
            return False
        self.text, self.at = self.text[self.at :], 0
        if len(self.text) > LONGEST:
            raise InputError(
                f"{self.source.path}: an element longer than {LONGEST >> 20} MB, or one whose brackets do not close; "
                f"it begins {self.text[:60]!r}"
            )
        chunk = _read(self.source, lambda: self.file.read(max(CHUNK, len(self.text))))
        self.ended = not chunk
        self.text += self.decoder.decode(chunk, final=self.ended)
        return True

    @property
    def exhausted(self) -> bool:
        return self.ended and self.at >= len(self.text)

    def peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            self.at = self._behind_space(self.at)
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.fill():
                return ""

    def element(self, position: int, keyed: bool, closing: str) -> Row | Rejected:
        """The element that begins here; stops at the comma or bracket behind it."""
        while True:
            row = None
            try:
                key, value, end = self._decode(keyed)
                end = self._behind_space(end)
                behind = self.text[end : end + 1]
                if behind in (",", closing) if behind else self.ended:
                    row = Row(self.source.name, position, value, key)
                reason = "not JSON: no comma behind it"
            except (ValueError, RecursionError) as error:
                reason = _not_json(error, self.at)
            if row is None:
                end = self._end_of_malformed()
            if end < 0:
                if self.fill():
                    continue
                return Rejected(self.source.name, position, f"the file ends inside it; {reason}", self.rest())
            raw, self.at = self.text[self.at : end], end
            if bad := _ESCAPED_BYTE.search(raw):
                around = raw[max(0, bad.start() - 20) : bad.start()]
                return Rejected(self.source.name, position, f"a byte that is not UTF-8, after {around!r}", raw)
            if row and (half := _half_character(raw, [row.key, row.value])):
                return Rejected(self.source.name, position, half, raw.rstrip())
            return row or Rejected(self.source.name, position, reason, raw.rstrip())

    def rest(self) -> str:
        """What is left, up to the longest row taken into memory."""
        while len(self.text) - self.at <= LONGEST and self.fill():
            pass
        rest, self.at = self.text[self.at :], len(self.text)
        return rest.rstrip()

    def _decode(self, keyed: bool) -> tuple[str | None, Any, int]:
        key, at = None, self.at
        if keyed:
            key, at = _DECODER.raw_decode(self.text, at)
            colon = self._behind_space(at)
            if not isinstance(key, str) or self.text[colon : colon + 1] != ":":
                raise ValueError("no key and colon before it")
            at = self._behind_space(colon + 1)
        return key, *_DECODER.raw_decode(self.text, at)

    def _behind_space(self, at: int) -> int:
        return cast(re.Match[str], _SPACE.match(self.text, at)).end()

    def _end_of_malformed(self) -> int:
        """Where the element that begins here ends, judged by its brackets and quotes alone; -1: not in this window."""
        depth = 0
        for match in _STRUCTURE.finditer(self.text, self.at):
            mark = match.group()
            if mark == '"':  # a string that is not closed in this window
                return -1
            if mark in "{[":
                depth += 1
            elif mark in "}]":
                if depth == 0:
                    return max(match.start(), self.at + 1)  # a stray bracket is an element of its own
                depth -= 1
            elif mark == "," and depth == 0:
                return match.start()
        return -1


def inner_json(text: str) -> Any:
    """The value of JSON text that stands inside a row. ValueError where it is none that can be written again."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None
    if reason := _half_character(text, value):
        raise ValueError(reason)
    return value


def _half_character(text: str, value: Any) -> str:
    """Why `value`, decoded from the JSON `text`, cannot be written again, "" where it can: JSON may escape one half of
    a surrogate pair without the other, and is read deeper than it can be written by who is deep in calls already."""
    if text.count("[") + text.count("{") > DEEPEST:
        depth = deepest = 0
        for match in _STRUCTURE.finditer(text):
            depth += (match.group() in "{[") - (match.group() in "}]")
            deepest = max(deepest, depth)
        if deepest > DEEPEST:
            return "not JSON: nested too deeply"
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            before = error.object[max(0, error.start - 20) : error.start]
            return f"half of a surrogate pair, no character, after {before!r}"
    return ""


def _not_json(error: Exception, start: int = 0) -> str:
    """Why decoding failed; `start`: where in the decoded text the row began."""
    if isinstance(error, RecursionError):
        return "not JSON: nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} at character {error.pos - start + 1}"
    return f"not JSON: {error}"


class _Metered(io.RawIOBase):
    """A raw file that tells the ledger how many of its bytes were read, compressed as they are."""

    def __init__(self, raw: io.RawIOBase, ledger: Ledger):
        self.raw, self.ledger = raw, ledger

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.raw.seekable()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.raw.seek(offset, whence)

    def tell(self) -> int:
        return self.raw.tell()

    def readinto(self, buffer: Any) -> int:
        n = self.raw.readinto(buffer) or 0
        self.ledger.on_bytes(n)
        return n

    def close(self) -> None:
        self.raw.close()
        super().close()


@contextmanager
def _opened(source: Source, ledger: Ledger) -> Iterator[IO[bytes]]:
    with ExitStack() as stack:
        try:
            raw = cast(io.RawIOBase, stack.enter_context(open(source.path, "rb", buffering=0)))
        except OSError as error:
            raise InputError(f"{source.path}: {error.strerror}; name a file that can be read") from None
        file: Any = stack.enter_context(io.BufferedReader(_Metered(raw, ledger), CHUNK))
        if source.member:
            file = stack.enter_context(opened_member(source.path, file, source.member))
        match PurePosixPath(source.member or source.path.name).suffix.lower():
            case ".gz":
                file = stack.enter_context(gzip.GzipFile(fileobj=file))
            case ".bz2":
                file = stack.enter_context(bz2.BZ2File(file))
            case ".xz":
                file = stack.enter_context(lzma.LZMAFile(file))
            case ".zst":
                file = stack.enter_context(io.BufferedReader(_Unzstd(file), CHUNK))
        yield file


class _Unzstd(io.RawIOBase):
    """The content of zstd frames one behind the other; EOFError where the file ends inside one, as downloads do."""

    # Bytes taken at a time: few, since each may stand for thousands.
    TAKEN = 1 << 13

    def __init__(self, file: IO[bytes]):
        import zstandard

        # Pushshift's dumps were written with windows of 2 GB.
        self.unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 31)
        self.file = file
        self.frame: Any = None
        self.taken, self.given = b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.given:
            self.taken = self.taken or self.file.read(self.TAKEN)
            if not self.taken:
                if self.frame is not None:
                    raise EOFError("the file ends inside a compressed frame")
                return 0
            frame: Any = self.frame or self.unpacker.decompressobj()
            self.given = memoryview(frame.decompress(self.taken))
            self.frame, self.taken = (None, frame.unused_data) if frame.eof else (frame, b"")
        n = min(len(buffer), len(self.given))
        buffer[:n], self.given = self.given[:n], self.given[n:]
        return n


_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, DamagedError)


def _read(source: Source, read: Callable[[], bytes]) -> bytes:
    """One read, where a damaged compressed file is the input's fault."""
    try:
        return read()
    except Exception as error:
        if isinstance(error, _DAMAGE) or type(error).__name__ == "ZstdError":
            raise InputError(f"{source.path}: cannot be read ({error}); is the file whole?") from None
        raise


def _refuse_utf16(source: Source, first: bytes) -> None:
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{source.path}: is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)")

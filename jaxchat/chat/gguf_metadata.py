"""The header of a GGUF file: the key-value pairs that describe a tokenizer and a model's shape, and where tensors lie.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little endian).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxchat.errors import InputError

# Value types by their number in the file; 8 is a string, 9 an array.
_SCALARS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 32


@dataclass(frozen=True)
class GgufTensor:
    """Where a tensor lies: its shape (the slowest axis first, as NumPy counts), the number of its block format, and its
    first byte in the file."""

    shape: tuple[int, ...]
    kind: int
    start: int


def read_gguf_metadata(path: str | Path) -> dict[str, Any]:
    """All key-value pairs of a GGUF file: str, int, float, bool, list[str], or a numpy array for an array of numbers.

    50,000 tokens and their merges take about 0.1 s. Raises InputError for what is no GGUF file or a truncated one.
    """
    with _opened(Path(path)) as header:
        return header.read()


def read_gguf_header(path: str | Path) -> tuple[dict[str, Any], dict[str, GgufTensor]]:
    """The same, and every tensor by name."""
    with _opened(Path(path)) as header:
        metadata = header.read()
        return metadata, header.read_tensors(metadata.get("general.alignment", _ALIGNMENT))


@contextmanager
def _opened(path: Path) -> Iterator[_Header]:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield _Header(data, path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:  # mmap of an empty file, or text that is not UTF-8
        raise InputError(f"{path} is not a readable GGUF file ({error}); download it again") from None
    except (struct.error, IndexError):
        raise InputError(f"{path} ends in the middle of its header; download it again") from None


class _Header:
    """Reads forward through the header's bytes."""

    def __init__(self, data: mmap.mmap, path: Path):
        self.data, self.path, self.at = data, path, 0

    def read(self) -> dict[str, Any]:
        if self.data[:4] != b"GGUF":
            raise InputError(f"{self.path} is not a GGUF file: it does not begin with the bytes GGUF")
        self.at = 4
        version = self._number("<u4")
        if version not in (2, 3):
            raise InputError(f"{self.path} is GGUF version {version}; versions 2 and 3 are read: convert it again")
        self.tensors = self._number("<u8")
        pairs = self._number("<u8")
        metadata = {}
        for _ in range(pairs):
            key = self._string()
            metadata[key] = self._value(self._number("<u4"))
        return metadata

    def read_tensors(self, alignment: int) -> dict[str, GgufTensor]:
        """After `read`. The tensors' data begins behind their list, at the next multiple of `alignment`."""
        listed = []
        for _ in range(self.tensors):
            name = self._string()
            shape = tuple(self._numbers("<u8", self._number("<u4")).tolist())[::-1]
            listed.append((name, shape, self._number("<u4"), self._number("<u8")))
        start = -(-self.at // alignment) * alignment
        return {name: GgufTensor(shape, kind, start + offset) for name, shape, kind, offset in listed}

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            item, count = self._number("<u4"), self._number("<u8")
            if item == _STRING:
                return self._strings(count)
            if item == _ARRAY:
                return [self._value(_ARRAY) for _ in range(count)]
            return self._numbers(self._dtype(item), count)
        return self._number(self._dtype(kind))

    def _dtype(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise InputError(f"{self.path} holds a value of type {kind}, which GGUF does not define; download it again")
        return _SCALARS[kind]

    def _number(self, dtype: str) -> Any:
        return self._numbers(dtype, 1)[0].item()

    def _numbers(self, dtype: str, count: int) -> np.ndarray:
        size = np.dtype(dtype).itemsize * count
        if self.at + size > len(self.data):
            raise IndexError
        numbers = np.frombuffer(self.data[self.at : self.at + size], dtype)
        self.at += size
        return numbers

    def _string(self) -> str:
        return self._strings(1)[0]

    def _strings(self, count: int) -> list[str]:
        data, at, end = self.data, self.at, len(self.data)
        strings = []
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(data, at)
            start, at = at + 8, at + 8 + length
            if at > end:
                raise IndexError
            strings.append(data[start:at].decode())
        self.at = at
        return strings

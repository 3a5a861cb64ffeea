"""A file of tensors, read a rectangle at a time through the page cache.

A mapped page counts as a process's own memory once it is touched, and stays: a model read that way would take its
file's size on top of its arrays. So what was read is copied, and its pages are let go again.
"""

from __future__ import annotations

import math
import mmap
from pathlib import Path

import numpy as np

from jaxchat.errors import InputError
from jaxchat.hub.layout import Index


class MappedFile:
    """Raises InputError when the file cannot be opened or is empty. `size`: its bytes."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
        self.size = len(self._map)

    def read(self, start: int, dtype: np.dtype, shape: tuple[int, ...], index: Index) -> np.ndarray:
        """A copy of a rectangle of the array of `shape` that begins at the byte `start`. An index may be shorter than
        the shape; the other axes are whole."""
        whole = np.frombuffer(self._map, dtype, math.prod(shape), start).reshape(shape)
        part = np.array(whole[index], order="C")
        del whole
        first = start // mmap.PAGESIZE * mmap.PAGESIZE
        if hasattr(self._map, "madvise"):  # a hint, which not all systems know
            length = start + dtype.itemsize * math.prod(shape) - first
            self._map.madvise(mmap.MADV_DONTNEED, first, length)
        return part

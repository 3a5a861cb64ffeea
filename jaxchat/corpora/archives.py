"""Archives (.zip, .7z) read as the folders they are: a member at a time, as a stream, never unpacked to the disk."""

from __future__ import annotations

import io
import os
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from jaxchat.errors import InputError

ARCHIVES = (".zip", ".7z")


def members(path: Path) -> list[str]:
    """The files in the archive, sorted by name, without those that systems add (`__MACOSX`, hidden files).

    Raises InputError where it is damaged or wants a password.
    """
    try:
        with path.open("rb") as file:
            names = _names(path, file)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); is the file whole?") from None
    return sorted(name for name in names if not _added_by_a_system(PurePosixPath(name)))


def _added_by_a_system(name: PurePosixPath) -> bool:
    return "__MACOSX" in name.parts or name.name.startswith(".")


def _names(path: Path, file: IO[bytes]) -> list[str]:
    if path.suffix.lower() == ".zip":
        with _reading(path), zipfile.ZipFile(file) as archive:
            return [info.filename for info in archive.infolist() if not info.is_dir()]
    with _reading(path), _seven_zip(file) as archive:
        return [info.filename for info in archive.list() if not info.is_directory]


@contextmanager
def opened_member(path: Path, file: IO[bytes], member: str) -> Iterator[IO[bytes]]:
    """The bytes of one member of the archive that `file` holds, from its beginning."""
    if path.suffix.lower() == ".zip":
        with _reading(path):
            archive = zipfile.ZipFile(file)
            stream = archive.open(member)
        with archive, stream:
            yield stream
    else:
        with _streamed(path, file, member) as stream:
            yield stream


def _seven_zip(file: IO[bytes]) -> Any:
    try:
        import py7zr
    except ImportError:
        raise InputError("reading .7z files needs the package py7zr; pip install py7zr") from None
    return py7zr.SevenZipFile(cast(Any, file), "r")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Damage found on the way is the input's fault. py7zr meets it with whatever error its parsing runs into."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if "password" in str(error).lower() or type(error).__name__ == "PasswordRequired":
            raise InputError(f"{path}: wants a password; unpack it and name the files") from None
        if not _is_damage(error):
            raise
        raise InputError(f"{path}: cannot be read ({error or type(error).__name__}); is the file whole?") from None


def _is_damage(error: BaseException) -> bool:
    kinds = (
        zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, KeyError, IndexError,
        TypeError, AttributeError, OverflowError, struct.error, AssertionError, MemoryError, RuntimeError,
    )  # fmt: skip
    return isinstance(error, kinds) or type(error).__module__.split(".")[0] in ("py7zr", "_lzma", "lzma", "pyppmd")


class DamagedError(Exception):
    """What a member's stream raises where the archive breaks off or does not unpack."""


@contextmanager
def _streamed(path: Path, file: IO[bytes], member: str) -> Iterator[IO[bytes]]:
    """py7zr pushes what it unpacks; here it pushes into a pipe, from a thread of its own, and the caller pulls."""
    import py7zr
    from py7zr.io import Py7zIO, WriterFactory

    class Pushed(Py7zIO):
        def __init__(self) -> None:
            self.written = 0

        def write(self, s: bytes | bytearray) -> int:
            view = memoryview(s)
            while view:
                view = view[os.write(write_end, view) :]
            self.written += len(s)
            return len(s)

        def read(self, size: int | None = None) -> bytes:
            return b""

        def seek(self, offset: int, whence: int = 0) -> int:
            return 0

        def flush(self) -> None:
            return None

        def size(self) -> int:
            return self.written

    class Factory(WriterFactory):
        def create(self, filename: str) -> Py7zIO:
            return Pushed()

    def unpack() -> None:
        try:
            with py7zr.SevenZipFile(cast(Any, file), "r") as archive:
                archive.extract(targets=[member], factory=Factory())
        except BaseException as error:  # handed to the reading thread
            failed.append(error)
        finally:
            os.close(write_end)

    failed: list[BaseException] = []
    read_end, write_end = os.pipe()
    thread = threading.Thread(target=unpack, name=f"unpack {path.name}", daemon=True)
    thread.start()
    stream = io.BufferedReader(_Checked(os.fdopen(read_end, "rb", buffering=0), thread, failed), 1 << 20)
    try:
        yield cast(IO[bytes], stream)
    finally:
        with suppress(Exception):
            stream.close()  # a thread still writing then meets a broken pipe, and ends
        thread.join()


class _Checked(io.RawIOBase):
    """The reading end of the pipe; at its end, the error that ended the writing is raised."""

    def __init__(self, pipe: Any, thread: threading.Thread, failed: list[BaseException]):
        self.pipe, self.thread, self.failed = pipe, thread, failed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n = self.pipe.readinto(buffer) or 0
        if not n:
            self.thread.join()
            if self.failed:
                error = self.failed[0]
                raise DamagedError(str(error) or type(error).__name__)
        return n

    def close(self) -> None:
        self.pipe.close()
        super().close()

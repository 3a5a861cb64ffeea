"""A list of a folder's files with their sizes and checksums, by which a damaged file is found before it is used.

Orbax commits a checkpoint whole, but does not notice a value that has changed on the disk since, and meets a file that
was cut off with a page of its own inner errors.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

from jaxchat.files import replacing

NAME = "files.json"
CHUNK = 1 << 22


def write_manifest(folder: Any, checksums: bool) -> None:
    """Lists the files in the subfolders of `folder` (an epath.Path) in its files.json: path, bytes and, with
    `checksums`, CRC-32 of the content."""
    files = {
        str(path.relative_to(folder)): [path.stat().length, _checksum(path) if checksums else None]
        for inner in sorted(folder.iterdir())
        if inner.is_dir()
        for path in _files(inner)
    }
    text = json.dumps({"files": files}, indent=1) + "\n"
    if "://" in str(folder):
        (folder / NAME).write_text(text)  # an object store writes whole files
    else:
        with replacing(str(folder / NAME)) as file:
            file.write(text)


def damage(folder: Any, inside: str) -> str | None:
    """What is wrong with the subfolder `inside` of `folder`, or None when all of it is as it was written."""
    try:
        files = json.loads((folder / NAME).read_text())["files"].items()
        files = [(str(name), int(size), crc) for name, (size, crc) in files]
    except FileNotFoundError:
        return f"it has no {NAME}, so it was never finished"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"its {NAME} is damaged"
    except OSError as error:
        return f"its {NAME} cannot be read ({error})"
    for name, size, crc in files:
        if not name.startswith(f"{inside}/"):
            continue
        try:
            found = (folder / name).stat().length
            if found != size:
                return f"{name} has {found:,} bytes of {size:,}"
            if crc is not None and _checksum(folder / name) != crc:
                return f"{name} is not what was written"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({error})"
    return None


def _files(folder: Any) -> Iterator[Any]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _checksum(path: Any) -> int:
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc

"""Where conversations come from: one file a format.

A reader is a frozen dataclass. Its fields are the format's options, `files` finds the files to read among the paths it
is given, and `read` yields a Found, Rejected or Dropped item for every row (see ledger.py), in constant memory. To add
a format, write such a class in a file of its own and name it in READERS.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, ClassVar, Literal, cast

from jaxchat.corpora.archives import ARCHIVES, members
from jaxchat.corpora.ledger import Dropped, Found, Ledger, Rejected
from jaxchat.corpora.rows import COMPRESSED, Source
from jaxchat.errors import InputError

__all__ = [
    "READERS",
    "Dropped",
    "Found",
    "Ledger",
    "Reader",
    "Rejected",
    "Source",
    "is_format",
    "make_reader",
    "reader_class",
]

READERS: dict[str, str] = {
    "alpaca": "jaxchat.corpora.alpaca:Alpaca",
    "belle": "jaxchat.corpora.belle:Belle",
    "chatterbot": "jaxchat.corpora.chatterbot:Chatterbot",
    "chitchat": "jaxchat.corpora.chitchat:Chitchat",
    "convokit": "jaxchat.corpora.convokit:Convokit",
    "cornell": "jaxchat.corpora.cornell:Cornell",
    "dailydialog": "jaxchat.corpora.dailydialog:Dailydialog",
    "discord": "jaxchat.corpora.discord:Discord",
    "dolly": "jaxchat.corpora.dolly:Dolly",
    "firefly": "jaxchat.corpora.firefly:Firefly",
    "hf": "jaxchat.corpora.hf:Hf",
    "lccc": "jaxchat.corpora.lccc:Lccc",
    "messages": "jaxchat.corpora.messages:Messages",
    "oasst": "jaxchat.corpora.oasst:Oasst",
    "preference": "jaxchat.corpora.preference:Preference",
    "reddit": "jaxchat.corpora.reddit:Reddit",
    "sharegpt": "jaxchat.corpora.sharegpt:Sharegpt",
    "slack": "jaxchat.corpora.slack:Slack",
    "stackexchange": "jaxchat.corpora.stackexchange:Stackexchange",
    "telegram": "jaxchat.corpora.telegram:Telegram",
    "tfds": "jaxchat.corpora.tfds:Tfds",
    "twitter": "jaxchat.corpora.twitter:Twitter",
    "ultrachat": "jaxchat.corpora.ultrachat:Ultrachat",
    "wechat": "jaxchat.corpora.wechat:Wechat",
    "whatsapp": "jaxchat.corpora.whatsapp:Whatsapp",
}

# Those whose datasets have names: `hf:NAME` is the format hf with the option name=NAME.
NAMED = ("hf", "tfds")


@dataclasses.dataclass(frozen=True)
class Reader:
    """A format. A subclass gives its `suffixes` (of files to look for in a folder) and `read`; it raises `version`
    whenever the same file comes to give other conversations, so that what was read before is read anew."""

    version: ClassVar[int] = 1
    suffixes: ClassVar[tuple[str, ...]] = ()

    def files(self, paths: Sequence[Path]) -> list[Source]:
        """The files to read: those named, and in a folder or an archive those that `fits` takes, sorted by path."""
        if not paths:
            raise InputError("no file to read; name one or a folder of them")
        found: list[tuple[Path, str]] = []
        for path in paths:
            if not path.exists():
                raise InputError(f"{path}: no such file or folder")
            files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
            inside: list[tuple[Path, str]] = []
            for file in files:
                if file.suffix.lower() in ARCHIVES:
                    inside += [(file, name) for name in members(file) if self.fits(PurePosixPath(name))]
                elif path.is_file() or self.fits(PurePosixPath(file)):
                    inside.append((file, ""))
            if not inside:
                raise InputError(f"{path}: no {self.wanted} in this {'folder' if path.is_dir() else 'archive'}")
            found += inside
        return named(found)

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        """Yields an item for every row of `files`; what reads a row enters it in `ledger` first."""
        raise NotImplementedError

    @property
    def wanted(self) -> str:
        """What `fits` takes, in words."""
        return f"{' or '.join(self.suffixes)} file"

    def fits(self, file: PurePath) -> bool:
        """Whether a file found in a folder or archive is of this format, by its name: compressed or not."""
        plain = file.with_suffix("") if file.suffix.lower() in COMPRESSED else file
        return plain.suffix.lower() in self.suffixes


def named(files: Sequence[Path | tuple[Path, str]]) -> list[Source]:
    """The files, each once, by names as short as tell them apart: without the folders that all have in common. A file
    in an archive is the archive's path and the member's name."""
    pairs = (file if isinstance(file, tuple) else (file, "") for file in files)
    unique = list(dict.fromkeys((path.absolute(), member) for path, member in pairs))
    parts = [(*path.parts, *PurePosixPath(member).parts) if member else path.parts for path, member in unique]
    depth = 0
    while len({part[depth] for part in parts if len(part) > depth + 1}) == 1 and all(
        len(part) > depth + 1 for part in parts
    ):
        depth += 1
    return [Source(path, "/".join(part[depth:]), member) for (path, member), part in zip(unique, parts)]


def is_format(word: str) -> bool:
    """Whether `word` is a format: a name in READERS, or one of NAMED, a colon and the name of a dataset."""
    prefix, colon, name = word.partition(":")
    return word in READERS or bool(colon and name and prefix in NAMED)


def reader_class(format: str) -> type[Reader]:
    """The reader of `format` (see is_format). InputError naming the nearest when there is none."""
    if is_format(format):
        format = format.partition(":")[0]
    if format not in READERS:
        near = difflib.get_close_matches(format, READERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it is one of {', '.join(sorted(READERS))}"
        raise InputError(f"no format is called {format}; {hint}")
    module, _, name = READERS[format].partition(":")
    return getattr(importlib.import_module(module), name)


def make_reader(format: str, options: Mapping[str, Any] | None = None) -> Reader:
    """The reader of `format` with `options`, whose values may be text as a command line has it.

    InputError for an option that does not exist (naming the nearest) or a value that is not of its type.
    """
    cls = reader_class(format)
    types = typing.get_type_hints(cls)
    known = {field.name: types[field.name] for field in dataclasses.fields(cls)}
    values = {}
    for name, value in (options or {}).items():
        name = name.replace("-", "_")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known) or 'none'}"
            raise InputError(f"the format {format} has no option {name}; {hint}")
        values[name] = _of_type(value, known[name], f"{format}'s option {name}")
    if ":" in format:
        values.setdefault("name", format.partition(":")[2])
    return cls(**values)


def _of_type(value: Any, wanted: Any, where: str) -> Any:
    if isinstance(wanted, types.UnionType):  # T | None
        if value is None or str(value).lower() == "none":
            return None
        (wanted,) = (kind for kind in typing.get_args(wanted) if kind is not types.NoneType)
    if typing.get_origin(wanted) is Literal:
        choices = typing.get_args(wanted)
        if value in choices:
            return value
        raise InputError(f"{where} is one of {', '.join(map(str, choices))}, not {value}")
    if wanted is bool:
        if str(value).lower() in ("true", "false", "yes", "no", "1", "0"):
            return str(value).lower() in ("true", "yes", "1")
    else:
        try:
            return cast(type, wanted)(value)
        except ValueError:
            pass
    raise InputError(f"{where} is {getattr(wanted, '__name__', wanted)}, not {value}")

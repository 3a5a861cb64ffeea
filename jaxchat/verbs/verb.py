"""What a verb is, and what all verbs share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from tyro.conf import Positional, arg

from jaxchat.absent_tpu import look_for_no_tpu
from jaxchat.errors import InputError
from jaxchat.large_pages import begin_again_with_large_pages

T = TypeVar("T")


@dataclass(frozen=True)
class Made:
    """What a verb leaves: the line that says so, and what a program would read with --json."""

    line: str
    data: Any
    lines: bool = False
    """`data` is a list, written as one object a line."""
    exit_code: int = 0
    speaks: bool = True
    """Whether this process says so: of several that work together, the first."""


@dataclass(frozen=True, kw_only=True)
class Verb:
    """What all verbs share. The first line of a verb's docstring is its summary in the help."""

    usage: ClassVar[str]
    computes: ClassVar[bool] = False
    """Whether it runs a model: its process then asks for large pages."""

    json: Annotated[str | None, arg(metavar="FILE|-")] = None
    """Also write the result as JSON to this file, or with - to standard output."""

    @classmethod
    def parser(cls, argv: Sequence[str]) -> type[Verb]:
        """The class to parse `argv` as: with more fields where they depend on the arguments themselves."""
        return cls

    @classmethod
    def prepare(cls, argv: Sequence[str]) -> int | None:
        """What its process does before anything is imported; an exit status where that was all there was to do."""
        if cls.computes:
            look_for_no_tpu()
            begin_again_with_large_pages()
        return None

    def run(self) -> Made:
        raise NotImplementedError


ModelName = Positional[Annotated[str, arg(metavar="MODEL")]]
NewFolder = Annotated[Path, arg(metavar="DIR")]


def some(given: tuple[T, ...], name: str) -> tuple[T, ...]:
    if not given:
        raise InputError(f"no {name} is given; name one or more")
    return given


def with_field(cls: type[Verb], name: str, kind: Any, default: Any) -> type[Verb]:
    """`cls` with one more field, whose type is known only now."""
    field = (name, kind, dataclasses.field(default=default))
    made = dataclasses.make_dataclass(cls.__name__, [field], bases=(cls,), frozen=True, kw_only=True)
    made.__doc__ = cls.__doc__
    made.__module__ = cls.__module__
    return made


def documented(cls: type[Verb], more: str) -> type[Verb]:
    """`cls` with one more paragraph in its help."""
    made = dataclasses.make_dataclass(cls.__name__, [], bases=(cls,), frozen=True, kw_only=True)
    made.__doc__ = f"{cls.__doc__}\n\n    {more}"
    made.__module__ = cls.__module__
    return made

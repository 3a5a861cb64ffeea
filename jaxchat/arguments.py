"""Words of a command line into a dataclass, by tyro, and every mistake in them into one sentence."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, get_args

import tyro
import tyro.constructors

from jaxchat.errors import InputError

T = TypeVar("T")


def parse(kind: type[T], argv: Sequence[str], program: str) -> T:
    """`argv` as a `kind`. What tyro would say at length about a mistake becomes one sentence."""
    if {"-h", "--help"} & set(argv):
        argv = ["--help"]  # with other words before it, tyro leaves those out of the help
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return _tyro(kind, argv, program)
    except SystemExit as exit:
        if not exit.code:
            raise
    known = re.findall(r"(?:^|  |, )(--[\w.-]+)(?=[ ,])", _drawn(kind, ["--help"], program), re.MULTILINE)
    raise InputError(f"{program}: {_unknown(argv, known) or _sentence(_drawn(kind, argv, program), argv)}")


def _tyro(kind: type[T], argv: Sequence[str], program: str) -> T:
    registry = tyro.constructors.ConstructorRegistry()
    registry.primitive_rule(_path_or_else)
    registry.primitive_rule(_one_by_name)
    return tyro.cli(kind, prog=program, args=argv, config=(tyro.conf.AvoidSubcommands,), registry=registry)


def _path_or_else(field: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """A field that is a path or a dataclass, such as a tokenizer that is there or one to be trained, takes a path."""
    members = get_args(field.type)
    if Path not in members or not any(dataclasses.is_dataclass(member) for member in members):
        return None
    optional = type(None) in members
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="{None}|PATH" if optional else "PATH",
        instance_from_str=lambda words: None if optional and words == ["None"] else Path(words[0]),
        is_instance=lambda value: isinstance(value, members),
        str_from_instance=lambda value: [str(value)],
    )


def _one_by_name(field: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """A field that is one of several dataclasses, some of them without fields, such as a backend, takes its name."""
    members = [member for member in get_args(field.type) if dataclasses.is_dataclass(member)]
    if members != list(get_args(field.type)) or all(dataclasses.fields(member) for member in members):
        return None
    by_name = {member.__name__.lower(): member for member in members if isinstance(member, type)}
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(by_name) + "}",
        instance_from_str=lambda words: by_name[words[0]](),
        is_instance=lambda value: isinstance(value, tuple(by_name.values())),
        str_from_instance=lambda value: [type(value).__name__.lower()],
        choices=tuple(by_name),
    )


def _drawn(kind: type, argv: Sequence[str], program: str) -> str:
    """What tyro prints, which has no colours nor boxes where it is not for a terminal, in very long lines."""
    output, columns = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000"
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), contextlib.suppress(SystemExit):
            _tyro(kind, argv, program)
    finally:
        os.environ.pop("COLUMNS")
        if columns is not None:
            os.environ["COLUMNS"] = columns
    return output.getvalue()


def _unknown(argv: Sequence[str], known: list[str]) -> str | None:
    """The complaint about the first flag that does not exist."""
    for word in argv:
        flag = word.partition("=")[0].replace("_", "-")
        if flag.startswith("--") and flag not in known:
            near = difflib.get_close_matches(flag, known, n=1)
            return f"there is no {flag}; " + (f"did you mean {near[0]}?" if near else "--help lists the options")
    return None


def _sentence(drawn: str, argv: Sequence[str]) -> str:
    """The complaint in what tyro drew: a title, a rule, the complaint, a rule, help."""
    _, complaint, *help = re.split(r"^ *-{5,} *$", drawn, flags=re.MULTILINE)
    text = " ".join(complaint.split())
    if text.startswith("Missing from"):
        return f"missing {' and '.join(re.findall(r'^ {6}([^ ].*?) *$', complaint, re.MULTILINE))}"
    if match := re.match(r"Missing value for argument '(.*?)'", text):
        return f"{match[1]} needs a value; one that begins with a dash is written {match[1]}=VALUE"
    if match := re.match(r"invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*?),?\)", text):
        choices = [choice.strip("' ") for choice in match[3].split(",")]
        near = difflib.get_close_matches(match[1], choices, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{match[2]} is one of {', '.join(choices)}, not {match[1]}{hint}"
    if match := re.match(r"Error parsing (--\S+): ", text):
        flag = match[1]
        metavar = re.search(rf"^ +{re.escape(flag)} (.*?) *$", "".join(help), re.MULTILINE)
        wanted = re.sub(r"^\{None\}\|(.*)", r"\1 or None", metavar[1]) if metavar else "another value"
        given = next((b for a, b in itertools.pairwise(argv) if a.replace("_", "-") == flag), None)
        given = given or next((a.partition("=")[2] for a in argv if a.replace("_", "-").startswith(f"{flag}=")), "this")
        return f"{flag} takes {wanted}, not {given}"
    return text

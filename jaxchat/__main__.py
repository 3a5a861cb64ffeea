"""The command line. Each verb is a dataclass of its arguments whose `run` imports the rooms it needs.

Every verb ends with a line that says what was made and where, and exit status 0; input it cannot use is one sentence on
standard error and exit status 2; an interrupt is exit status 130. This is the only file that knows tyro.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import itertools
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg

import jaxchat
from jaxchat.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Made:
    """What a verb leaves: the line that says so, and what a program would read with --json."""

    line: str
    data: Any
    lines: bool = False  # `data` is a list, written as one object a line


@dataclass(frozen=True, kw_only=True)
class Verb:
    """What all verbs share. The first line of a verb's docstring is its summary in the help."""

    usage: ClassVar[str]

    json: Annotated[str | None, arg(metavar="FILE|-")] = None
    """Also write the result as JSON to this file, or with - to standard output."""

    @classmethod
    def parser(cls, argv: Sequence[str]) -> type[Verb]:
        """The class to parse `argv` as: with more fields where they depend on the arguments themselves."""
        return cls

    def run(self) -> Made:
        raise NotImplementedError


Model = Annotated[str, arg(metavar="MODEL")]


@dataclass(frozen=True, kw_only=True)
class DataImport(Verb):
    """Read a corpus into a folder of conversations.

    DIR receives conversations.jsonl, rejected.jsonl and dropped.jsonl with reasons, and stats.json, which accounts for
    every row. `jaxchat data import FORMAT --help` lists the options of a format.
    """

    usage = "FORMAT [PATH ...] --out DIR"

    format: Positional[Annotated[str, arg(metavar="FORMAT")]]
    """What the files are to be read as."""
    paths: Positional[Annotated[tuple[Path, ...], arg(metavar="PATH ...")]] = ()
    """Files or folders; none for a corpus that comes as a Python package."""
    out: Annotated[Path, arg(metavar="DIR")]
    """The new folder."""

    @classmethod
    def parser(cls, argv: Sequence[str]) -> type[Verb]:
        from jaxchat.corpora import READERS, reader_class

        format = next((word for word in argv if word in READERS), None)
        if format is None:
            return _documented(cls, f"Formats: {', '.join(sorted(READERS))}.")
        reader = reader_class(format)
        return _with_field(cls, "reader", OmitArgPrefixes[reader], reader())

    def run(self) -> Made:
        from jaxchat.corpora import make_reader
        from jaxchat.corpora.importing import import_corpus

        reader = getattr(self, "reader", None) or make_reader(self.format)
        stats = import_corpus(self.format, self.paths, self.out, reader)
        aside = f" ({stats['rows_rejected']:,} rows rejected, {stats['rows_dropped']:,} dropped, each with its reason)"
        return Made(f"{stats['conversations']:,} conversations in {self.out}{aside}", stats)


VERBS: dict[str, type[Verb]] = {
    "data import": DataImport,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the verb that `arguments` (the process's own by default) name; returns the exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow, where it is used, reports its CPU kernels at 1
    try:
        return _dispatch(list(sys.argv[1:] if arguments is None else arguments))
    except InputError as error:
        return _refuse(str(error))
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output has gone: nothing is left to say
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        if error.filename is None:
            raise
        return _refuse(f"{error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        return 130


def _refuse(sentence: str) -> int:
    sentence = " ".join(sentence.split())
    print(sentence if sentence.startswith("jaxchat ") else f"jaxchat: {sentence}", file=sys.stderr)
    return 2


def _dispatch(argv: list[str]) -> int:
    words = next((n for n in (2, 1) if " ".join(argv[:n]) in VERBS), 0)
    name, rest = " ".join(argv[:words]), argv[words:]
    if not name:
        return _without_verb(argv)
    verb = _parse(VERBS[name].parser(rest), rest, f"jaxchat {name}")
    to_program = verb.json == "-"
    with contextlib.redirect_stdout(sys.stderr) if to_program else contextlib.nullcontext():
        made = verb.run()
        print(made.line)
    if verb.json is not None:
        _write_json(made, verb.json)
    return 0


def _without_verb(argv: list[str]) -> int:
    group = [verb for verb in VERBS if argv and verb.startswith(f"{argv[0]} ")]
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help(list(VERBS)))
    elif argv[0] == "--version":
        print(f"jaxchat {jaxchat.__version__}")
    elif group and (len(argv) == 1 or argv[1] in ("-h", "--help")):
        print(_help(group))
    else:
        asked = " ".join(argv[:2] if group else argv[:1])
        near = difflib.get_close_matches(asked, VERBS, n=1) or difflib.get_close_matches(" ".join(argv[:2]), VERBS, n=1)
        hint = f"did you mean jaxchat {near[0]}?" if near else "jaxchat --help lists them"
        raise InputError(f"no verb is called {asked}; {hint}")
    return 0


def _help(verbs: list[str]) -> str:
    lines = [f"jaxchat {jaxchat.__version__}: train your own chat assistant", ""]
    for name in verbs:
        lines.append(f"  jaxchat {name} {VERBS[name].usage}")
        lines.append(f"      {(VERBS[name].__doc__ or '').partition(chr(10))[0]}")
    return "\n".join([*lines, "", "jaxchat VERB --help lists a verb's options."])


def _write_json(made: Made, place: str) -> None:
    import json

    from jaxchat.files import replacing

    if made.lines:
        text = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in made.data)
    else:
        text = json.dumps(made.data, ensure_ascii=False, indent=2) + "\n"
    if place == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        with replacing(place) as file:
            file.write(text)


def _with_field(cls: type[Verb], name: str, kind: Any, default: Any) -> type[Verb]:
    """`cls` with one more field, whose type is known only now."""
    field = (name, kind, dataclasses.field(default=default))
    made = dataclasses.make_dataclass(cls.__name__, [field], bases=(cls,), frozen=True, kw_only=True)
    made.__doc__ = cls.__doc__
    made.__module__ = cls.__module__
    return made


def _documented(cls: type[Verb], more: str) -> type[Verb]:
    """`cls` with one more paragraph in its help."""
    made = dataclasses.make_dataclass(cls.__name__, [], bases=(cls,), frozen=True, kw_only=True)
    made.__doc__ = f"{cls.__doc__}\n\n    {more}"
    made.__module__ = cls.__module__
    return made


def _parse(kind: type[T], argv: Sequence[str], program: str) -> T:
    """`argv` as a `kind`. What tyro would say at length about a mistake becomes one sentence."""
    if {"-h", "--help"} & set(argv):
        argv = ["--help"]  # with other words before it, tyro leaves those out of the help
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return _tyro(kind, argv, program)
    except SystemExit as exit:
        if not exit.code:
            raise
    known = re.findall(r"(?:^|  )(--[\w.-]+)(?= )", _drawn(kind, ["--help"], program), re.MULTILINE)
    raise InputError(f"{program}: {_unknown(argv, known) or _sentence(_drawn(kind, argv, program), argv)}")


def _tyro(kind: type[T], argv: Sequence[str], program: str) -> T:
    return tyro.cli(kind, prog=program, args=argv, config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff))


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
        wanted = metavar[1] if metavar else "another value"
        given = next((b for a, b in itertools.pairwise(argv) if a.replace("_", "-") == flag), None)
        given = given or next((a.partition("=")[2] for a in argv if a.replace("_", "-").startswith(f"{flag}=")), "this")
        return f"{flag} takes {wanted}, not {given}"
    return text


if __name__ == "__main__":
    sys.exit(main())

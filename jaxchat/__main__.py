"""The command line: finds the verb, runs it, and says what came of it.

Every verb ends with a line that says what was made and where, and exit status 0; input it cannot use is one sentence on
standard error and exit status 2; an interrupt is exit status 130.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import sys
from collections.abc import Sequence

import jaxchat
from jaxchat.arguments import parse
from jaxchat.errors import InputError
from jaxchat.files import replacing
from jaxchat.verbs import VERBS
from jaxchat.verbs.verb import Made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the verb that `arguments` (the process's own by default) name; returns the exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow, where it is used, reports its CPU kernels at 1
    try:
        if arguments is None:
            name, rest = _verb(sys.argv[1:])
            status = VERBS[name].prepare(rest) if name else None
            if status is not None:
                return status
        status = _dispatch(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return status
    except InputError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone: say nothing more, as a program that SIGPIPE ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (OSError, MemoryError, RuntimeError) as error:
        sentence = _limit(error)
        if sentence is None:
            raise
        return _refuse(sentence)


def _limit(error: Exception) -> str | None:
    """The limit of the machine that an error stands for, if it does: no fault of the program's."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "no space is left on the disk; free some and give the same command again"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return (
            "out of memory; take fewer or shorter rows (--data.batch, --data.seq-len), more micro-batches "
            "(--accumulate), --remat full, or split the model over more devices (--mesh.fsdp)"
        )
    return None


def _refuse(sentence: str) -> int:
    sentence = " ".join(sentence.split())
    print(sentence if sentence.startswith("jaxchat ") else f"jaxchat: {sentence}", file=sys.stderr)
    return 2


def _verb(argv: list[str]) -> tuple[str, list[str]]:
    """The verb that `argv` begins with ("" for none), and the rest."""
    words = next((n for n in (2, 1) if " ".join(argv[:n]) in VERBS), 0)
    return " ".join(argv[:words]), argv[words:]


def _dispatch(argv: list[str]) -> int:
    name, rest = _verb(argv)
    if not name:
        return _without_verb(argv)
    verb = parse(VERBS[name].parser(rest), rest, f"jaxchat {name}")
    to_program = verb.json == "-"
    with contextlib.redirect_stdout(sys.stderr) if to_program else contextlib.nullcontext():
        made = verb.run()
        if made.speaks:
            print(made.line)
    if verb.json is not None and made.speaks:
        _write_json(made, verb.json)
    return made.exit_code


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


if __name__ == "__main__":
    sys.exit(main())

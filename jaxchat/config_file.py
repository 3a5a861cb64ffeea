"""Runs a config file: one Python file whose `config()` returns what is to be run."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import re
import sys
import traceback
from pathlib import Path
from typing import TypeVar

from jaxchat.errors import InputError

T = TypeVar("T")


def load_config(path: str | Path, kind: type[T]) -> T:
    """What `config()` of the Python file `path` returns. As for a script, its folder is where imports are found first.

    Raises InputError when there is no such file or function, when it fails (with the line of the file, and the nearest
    field for one that does not exist), and when it returns something else than a `kind`.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"{path}: no such config file")
    spec = importlib.util.spec_from_file_location(f"jaxchat_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is no Python file; a config's name ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.absolute()))
    try:
        spec.loader.exec_module(module)
        if not callable(getattr(module, "config", None)):
            raise InputError(f"{path} defines no function config(); write one that returns a {kind.__name__}")
        made = module.config()
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{_place(error, path)}: {_reason(error)}") from error
    finally:
        sys.path.remove(str(path.parent.absolute()))
    if not isinstance(made, kind):
        raise InputError(f"{path}: config() returns a {type(made).__name__}; it must return a {kind.__name__}")
    return made


def _place(error: Exception, path: Path) -> str:
    """The file and the innermost of its lines that led to the error."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).absolute() == path.absolute()]
    return f"{path}, line {lines[-1]}" if lines else str(path)


def _reason(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.msg}: {(error.text or '').strip()}"
    match = re.match(r"(?:.*\.)?(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if isinstance(error, TypeError) and match:
        fields = _fields(match[1], error)
        near = difflib.get_close_matches(match[2], fields, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; it has {', '.join(fields)}"
        return f"{match[1]} has no field {match[2]}{hint}"
    return f"{type(error).__name__}: {error}"


def _fields(name: str, error: Exception) -> list[str]:
    """The fields of the dataclass called `name`, as the code that failed knows it, or else any module."""
    failed = [frame.f_globals for frame, _ in traceback.walk_tb(error.__traceback__)]
    for names in [*reversed(failed), *(vars(module) for module in list(sys.modules.values()))]:
        kind = names.get(name)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return [field.name for field in dataclasses.fields(kind) if field.init]
    return []

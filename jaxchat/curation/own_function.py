"""Functions of one's own, named MODULE:FUNCTION on the command line: a scorer of texts, a recogniser of names."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from jaxchat.errors import InputError


@cache
def own_function(name: str, option: str) -> Callable[..., Any]:
    """The function, of an installed module or of one in the folder that one works in. InputError naming `option`."""
    module, _, function = name.partition(":")
    if os.getcwd() not in sys.path:  # a command that pip installed does not look there
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as error:  # whatever importing it runs into
        why = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{option} {name}: {why}; name an importable MODULE:FUNCTION") from None
    if not callable(found):
        raise InputError(f"{option} {name} is no function; name an importable MODULE:FUNCTION")
    return found

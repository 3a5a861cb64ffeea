"""The one exception that speaks to the person at the keyboard."""

from __future__ import annotations


class InputError(Exception):
    """Input the program cannot use. Its message is one sentence: what is wrong, where, what to change.

    The command line prints the message on standard error and exits 2, so no traceback is shown for it.
    """

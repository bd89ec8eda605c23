"""What the interpreter does about an exception that nobody caught: an exit code, and a report on stderr.

As CPython's ``_PyErr_PrintEx``, which prints with the interpreter's own hook.
"""

from __future__ import annotations

import os
import sys
import types
from typing import Any

INTERRUPTED = 130
_print = sys.__excepthook__
_LONG = 1 << 63


def conclude(error: BaseException) -> int:
    """The exit code of a program that ended with ``error``, which is reported."""
    if isinstance(error, SystemExit):
        return _exit_code(error)
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    vars(sys)["last_exc"] = error
    second = _raised_by_hook(error)
    if isinstance(second, SystemExit):
        return _exit_code(second)
    if second is not None:
        _say("Error in sys.excepthook:\n")
        show(second)
        _say("\nOriginal exception was:\n")
        show(error)
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1


def show(error: BaseException) -> None:
    """Print it with its traceback, if anything can be printed."""
    try:
        _print(type(error), error, error.__traceback__)
    except BaseException:
        return


def tell(message: str, error: BaseException) -> None:
    """Have the program's own hook, or Python's, tell an exception that changes nothing any more."""
    if sys.unraisablehook is sys.__unraisablehook__:  # it takes objects of a kind that cannot be made here
        _say(f"{message}:\n")
        show(error)
        return
    try:
        hooked: Any = types.SimpleNamespace(
            exc_type=type(error), exc_value=error, exc_traceback=error.__traceback__, err_msg=message, object=None
        )
        sys.unraisablehook(hooked)
    except BaseException:
        return


def _raised_by_hook(error: BaseException) -> BaseException | None:
    if not hasattr(sys, "excepthook"):
        _say("sys.excepthook is missing\n")
        show(error)
        return None
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except BaseException as second:
        # Our own frame is dropped.
        return second.with_traceback(second.__traceback__.tb_next if second.__traceback__ else None)
    return None


def _exit_code(error: SystemExit) -> int:
    """The code that Python would end with; a code that is no number goes to stderr."""
    code: object = error.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 255 if -_LONG <= code < _LONG else 255
    try:
        text = str(code)
    except BaseException:
        text = ""
    _say(f"{text}\n")
    return 1


def _say(text: str) -> None:
    """To the program's stderr, or to descriptor 2 where it has taken that away."""
    try:
        if getattr(sys, "stderr", None) is None:
            os.write(2, text.encode("utf-8", "backslashreplace"))
        else:
            print(text, end="", file=sys.stderr)
    except BaseException:
        return

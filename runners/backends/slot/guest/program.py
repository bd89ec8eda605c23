"""A Python program run as `python main.py` would run it, in a process that has booted already."""

from __future__ import annotations

import atexit
import builtins
import gc
import itertools
import linecache
import sys
import threading
import traceback
import types
from os import _exit
from typing import Any, NoReturn

MAIN = "/workspace/main.py"
_INTERRUPTED = 130
_modules_at_boot = 0


def note_boot() -> None:
    """Everything is imported that runs find imported."""
    global _modules_at_boot
    _modules_at_boot = len(sys.modules) - 1  # without the main module, which goes


def run(source: str, args: list[str], *, fork_start: bool = False) -> NoReturn:
    """Run the source as the main module and end the process with its exit code.

    Args:
        source: Python text.
        args: sys.argv behind the program's name.
        fork_start: Let multiprocessing fork: there is no file that a spawned interpreter could read.
    """
    code = _become_main(source, args, fork_start)
    _exit(_finish(code) & 255)


def _become_main(source: str, args: list[str], fork_start: bool) -> int:
    """Exit code; the main module is held by nothing of ours afterwards."""
    main = types.ModuleType("__main__")
    names = main.__dict__
    names["__builtins__"] = builtins
    names["__file__"] = MAIN
    sys.modules["__main__"] = main
    sys.argv = [MAIN, *args]
    sys.path.insert(0, "/workspace")
    linecache.cache[MAIN] = (lambda: source,)  # lazy entry: tracebacks show the user's lines
    if fork_start:
        _start_by_fork()
    gc.enable()
    return _execute(source, names)


def _start_by_fork() -> None:
    import multiprocessing

    if not multiprocessing.get_start_method(allow_none=True):
        multiprocessing.set_start_method("fork")


def _execute(source: str, names: dict[str, Any]) -> int:
    try:
        exec(compile(source.removeprefix("\ufeff"), MAIN, "exec", 0, True), names)
    except SystemExit as error:
        return exit_code(error)
    except BaseException as error:
        # Our own frame is dropped.
        report(error.with_traceback(error.__traceback__.tb_next if error.__traceback__ else None))
        return _INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
    return 0


def exit_code(error: SystemExit) -> int:
    """The code that python would end with; a code that is a text goes to stderr."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code
    print(error.code, file=sys.stderr)
    return 1


def report(error: BaseException) -> None:
    """Print an uncaught exception as python would, the program's own hook included."""
    if sys.excepthook is not sys.__excepthook__:
        try:
            sys.excepthook(type(error), error, error.__traceback__)
            return
        except BaseException as second:
            print("Error in sys.excepthook:", file=sys.stderr)
            traceback.print_exception(second)
            print("\nOriginal exception was:", file=sys.stderr)
    traceback.print_exception(error)


def _finish(code: int) -> int:
    """What the interpreter does at its end: threads, exit functions, destructors, buffers."""
    for step in (threading._shutdown, atexit._run_exitfuncs):  # type: ignore[attr-defined]
        try:
            step()
        except BaseException as error:
            report(error)
    if threading.active_count() == 1:  # daemon threads would still look for their names
        _forget_modules()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            code = code or 120
    return code


def _forget_modules() -> None:
    """Let destructors run and write what lies in the buffers of files that were never closed."""
    modules = sys.modules
    del modules["__main__"]
    for name in list(itertools.islice(modules, _modules_at_boot, None)):  # those of boot would be copied by a look
        if str(getattr(modules.get(name), "__file__", "")).startswith("/workspace"):
            del modules[name]
    gc.collect()

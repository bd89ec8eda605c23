"""A Python program run as `python main.py` would run it, in a process that has booted already."""

from __future__ import annotations

import _signal
import atexit
import builtins
import gc
import itertools
import linecache
import sys
import threading
import types
from os import F_OK, _exit, access, environ, getpid, kill, scandir
from typing import Any, NoReturn

from runners.backends.slot.guest import uncaught

FOLDER = "/workspace"
MAIN = f"{FOLDER}/main.py"
_SIGINT = 2
_NOT_FLUSHED = 120
"""Source: CPython, ``Py_RunMain``."""
_AT_START = frozenset(
    {
        "abc",
        "codecs",
        "encodings",
        "errno",
        "genericpath",
        "io",
        "linecache",
        "marshal",
        "os",
        "posix",
        "posixpath",
        "pwd",
        "site",
        "stat",
        "sys",
        "time",
        "zipimport",
    }
)
"""Modules that a bare interpreter has imported before it looks for a program's own."""
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
    code, is_interrupted = _become_main(source, args, fork_start)
    code = _finish(code)
    if is_interrupted:
        _signal.signal(_SIGINT, _signal.SIG_DFL)
        kill(getpid(), _SIGINT)
    _exit(code & 255)


def _become_main(source: str, args: list[str], fork_start: bool) -> tuple[int, bool]:
    """Exit code, and whether it is that of an interrupt; the main module is held by nothing of ours afterwards."""
    main = types.ModuleType("__main__")
    names = main.__dict__
    names["__builtins__"] = builtins
    names["__file__"] = MAIN
    sys.modules["__main__"] = main
    sys.argv = [MAIN, *args]
    sys.path[:0] = _first_places()
    make_way()
    linecache.cache[MAIN] = (lambda: source,)  # lazy entry: tracebacks show the user's lines
    if fork_start:
        _start_by_fork()
    gc.enable()
    error = _execute(source, names)
    if error is None:
        return 0, False
    return uncaught.conclude(error), isinstance(error, KeyboardInterrupt)


def _first_places() -> list[str]:
    """Where modules are looked for first: the program's folder, then what the run's environment names."""
    return [FOLDER, *filter(None, environ.get("PYTHONPATH", "").split(":"))]


def make_way() -> None:
    """Forget modules that were imported ahead where the program's folder has others of their names."""
    with scandir(FOLDER) as entries:
        for entry in entries:
            name = entry.name.removesuffix(".py")
            if name in sys.modules and name not in _AT_START and _is_module(entry.name):
                for known in [known for known in sys.modules if f"{known}.".startswith(f"{name}.")]:
                    del sys.modules[known]


def _is_module(name: str) -> bool:
    return name.endswith(".py") or access(f"{FOLDER}/{name}/__init__.py", F_OK)


def _start_by_fork() -> None:
    import multiprocessing

    if not multiprocessing.get_start_method(allow_none=True):
        multiprocessing.set_start_method("fork")


def _execute(source: str, names: dict[str, Any]) -> BaseException | None:
    """What nobody caught, without our own frame in its traceback."""
    try:
        exec(compile(source.removeprefix("\ufeff"), MAIN, "exec", 0, True), names)
    except BaseException as error:
        if isinstance(error, SyntaxError) and error.filename == MAIN and error.text is None:
            error.text = _line(source, error.lineno)
        return error.with_traceback(error.__traceback__.tb_next if error.__traceback__ else None)
    return None


def _line(source: str, number: int | None) -> str | None:
    """The compiler reads it from a file, which is not there."""
    lines = source.splitlines(keepends=True)
    return lines[number - 1] if number and number <= len(lines) else None


def _finish(code: int) -> int:
    """What the interpreter does at its end: threads, exit functions, destructors, buffers."""
    for step in (threading._shutdown, atexit._run_exitfuncs):  # type: ignore[attr-defined]
        try:
            step()
        except BaseException as raised:
            uncaught.show(raised)
    if threading.active_count() == 1:  # daemon threads would still look for their names
        _forget_modules()
    for name in ("stdout", "stderr"):
        error = _flush(getattr(sys, name, None))
        if error is not None:
            code = _NOT_FLUSHED
            if name == "stdout":
                uncaught.tell("Exception ignored while flushing sys.stdout", error)
    return code


def _flush(stream: Any) -> BaseException | None:
    """What kept a stream from being flushed."""
    try:
        if stream is not None and not getattr(stream, "closed", False):
            stream.flush()
    except BaseException as error:
        return error.with_traceback(error.__traceback__.tb_next if error.__traceback__ else None)
    return None


def _forget_modules() -> None:
    """Let destructors run and write what lies in the buffers of files that were never closed."""
    modules = sys.modules
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        vars(sys).pop(name, None)
    modules.pop("__main__", None)
    for name in list(itertools.islice(modules, _modules_at_boot, None)):  # those of boot would be copied by a look
        if str(getattr(modules.get(name), "__file__", "")).startswith(FOLDER):
            del modules[name]
    gc.collect()

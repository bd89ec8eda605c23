"""Runs one piece of code in a lasting namespace: last expression's value, top-level await, tracebacks without our frames."""

from __future__ import annotations

import ast
import builtins
import linecache
import os
import sys
import traceback
import types
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

RESULT_BYTES = 64 * 1024
"""Source: the contract: the repr of the last expression, at most 64 KiB."""
HISTORY_CHARACTERS = 1 << 20
INTERRUPTED = 130
_LONG = 1 << 63
_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_COROUTINE = 0x80  # inspect.CO_COROUTINE, without the cost of inspect
_FUTURES = 0x1FE0000  # all flags of `from __future__`, see the compiler's own PyCF_MASK
_OWN = __file__

# Taken before user code can replace them.
_compile, _eval, _repr, _isinstance = compile, eval, repr, isinstance


@dataclass(frozen=True)
class Outcome:
    """How a piece of code ended; ``result`` is the repr of its last expression, None for None."""

    exit_code: int
    result: str | None = None
    error: str | None = None


class Cells:
    """One namespace and one event loop for all pieces of code of a session."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._count = 0
        self._flags = 0
        self._loop: Any = None
        self._sources: dict[str, str] = {}
        self.module = types.ModuleType("__main__")
        self.namespace = self.module.__dict__
        self.namespace["__builtins__"] = builtins
        self.namespace["__file__"] = f"{folder}/main.py"
        sys.modules["__main__"] = self.module

    def run(self, code: str) -> Outcome:
        """Runs ``code`` to its end. Exceptions, exits and interrupts become outcomes; nothing is raised."""
        self._count += 1
        # Functions of earlier runs keep their own source: every run has a name of its own, and no file lies behind it.
        name = f"{self._folder}/main.py" + (f"#{self._count}" if self._count > 1 else "")
        self._remember(name, code)
        try:
            return Outcome(0, self._evaluate(code, name))
        except SystemExit as end:
            return Outcome(_exit_code(end))
        except KeyboardInterrupt as error:
            _show(error)
            return Outcome(INTERRUPTED, error="KeyboardInterrupt")
        except SyntaxError as error:
            error.text = error.text or self._line(error.filename, error.lineno)
            _show(error)
            return Outcome(1, error=_short(error))
        except BaseException as error:
            _show(error)
            return Outcome(1, error=_short(error))

    def _remember(self, name: str, code: str) -> None:
        self._sources[name] = code
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)

    def _line(self, name: str | None, number: int | None) -> str | None:
        """The compiler reads it from a file, which is not there."""
        lines = self._sources.get(name or "", "").splitlines(keepends=True)
        return lines[number - 1] if number and number <= len(lines) else None

    def history(self) -> tuple[int, dict[str, str]]:
        """Number of runs so far, and the newest ones' texts by file name, at most 1 MiB of them."""
        kept: dict[str, str] = {}
        room = HISTORY_CHARACTERS
        for name, code in reversed(self._sources.items()):
            room -= len(code)
            if room < 0:
                break
            kept[name] = code
        return self._count, dict(reversed(kept.items()))

    def continue_after(self, count: int, sources: dict[str, str]) -> None:
        """Goes on where another interpreter's ``history`` ended: restored functions show their own lines."""
        self._count += count
        for name, code in sources.items():
            self._remember(name, code)

    def _evaluate(self, code: str, name: str) -> str | None:
        flags = _AWAIT | self._flags
        tree = _compile(code, name, "exec", flags | ast.PyCF_ONLY_AST, dont_inherit=True)
        last = None
        if tree.body and _isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)
        body = _compile(tree, name, "exec", flags, dont_inherit=True)
        self._flags |= body.co_flags & _FUTURES
        # Compiled before the body runs: an error of syntax must not leave half a run behind.
        tail = None if last is None else _compile(last, name, "eval", _AWAIT | self._flags, dont_inherit=True)
        self._execute(body)
        if tail is None:
            return None
        value = self._execute(tail)
        if value is None:
            return None
        builtins.__dict__["_"] = value
        return _bounded(_repr(value))

    def _execute(self, code: types.CodeType) -> Any:
        value = _eval(code, self.namespace)
        return self._await(value) if code.co_flags & _COROUTINE else value

    def _await(self, awaited: Coroutine[Any, Any, Any]) -> Any:
        import asyncio

        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        task = self._loop.create_task(awaited)
        try:
            return self._loop.run_until_complete(task)
        except KeyboardInterrupt:
            if not task.done():
                task.cancel()
                self._loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
            raise


def _bounded(text: str) -> str:
    content = text.encode("utf-8", "replace")
    if len(content) <= RESULT_BYTES:
        return content.decode("utf-8")
    mark = "…"
    return content[: RESULT_BYTES - len(mark.encode())].decode("utf-8", "ignore") + mark


def _short(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:500].encode("utf-8", "replace").decode("utf-8")
    except Exception:
        return type(error).__name__


def _exit_code(end: SystemExit) -> int:
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 255 if -_LONG <= end.code < _LONG else 255
    print(end.code, file=sys.stderr)
    return 1


def _show(error: BaseException) -> None:
    """Prints what the interpreter would, without our own frames."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == _OWN:
        trace = trace.tb_next
    trace = _without_loop(trace)
    error.__traceback__ = trace
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    vars(sys)["last_exc"] = error
    try:
        if sys.excepthook is not sys.__excepthook__:
            sys.excepthook(type(error), error, trace)
        else:
            traceback.print_exception(error)
    except BaseException:
        _last_resort(error)


def _without_loop(trace: types.TracebackType | None) -> types.TracebackType | None:
    """An awaiting run passes through asyncio's loop first: the traceback starts where user code does."""
    start = trace
    while start is not None and f"{os.sep}asyncio{os.sep}" in start.tb_frame.f_code.co_filename:
        start = start.tb_next
    return start if start is not None else trace


def _last_resort(error: BaseException) -> None:
    try:
        os.write(2, f"{_short(error)}\n".encode("utf-8", "replace"))
    except OSError:
        pass

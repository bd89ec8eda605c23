"""Live Python session: one interpreter, one run after the other over descriptor 3, variables kept.

``serve()`` is called in a child forked from a warm master, or this file is run by a python of its own. User code shares
the process: it can break the channel, and then loses its own session alone.
"""

from __future__ import annotations

import binascii
import builtins
import io
import json
import marshal
import os
import signal
import site
import sys
import time
from collections.abc import Iterable
from typing import Any, NoReturn

CHANNEL = 3
_HERE = os.path.dirname(os.path.abspath(__file__))

if _HERE not in sys.path:
    sys.path.insert(0, _HERE)
import python_cell  # noqa: E402
import python_fork  # noqa: E402

# Taken before user code can replace them.
_read, _write, _getpid, _exit, _dup2, _close = os.read, os.write, os.getpid, os._exit, os.dup2, os.close
_dumps, _loads, _on, _environ = json.dumps, json.loads, signal.signal, os.environ


class Channel:
    """Length-prefixed JSON in both directions; the other end going away ends the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_inheritable(descriptor, False)
        os.register_at_fork(after_in_child=self._leave)

    def receive(self) -> dict[str, Any]:
        """The next request; waits for it."""
        size = int.from_bytes(self._exactly(4), "big")
        value: dict[str, Any] = _loads(self._exactly(size))
        return value

    def send(self, value: dict[str, Any]) -> None:
        """Sends one answer whole."""
        content = _dumps(value).encode()
        content = len(content).to_bytes(4, "big") + content
        while content:
            content = content[_write(self._descriptor, content) :]

    def _leave(self) -> None:
        """In a forked child: it must neither answer nor keep the channel open."""
        try:
            _close(self._descriptor)
        except OSError:
            pass

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            part = _read(self._descriptor, min(size, 1 << 20))
            if not part:
                _exit(0)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


class Streams:
    """Standard streams: unbuffered text on descriptors 1 and 2, a file of the run's own as standard input."""

    def __init__(self) -> None:
        self._out = self._text(1, "strict")
        self._err = self._text(2, "backslashreplace")
        self._in: Any = None

    @staticmethod
    def _text(descriptor: int, errors: str) -> Any:
        raw = io.FileIO(descriptor, "w", closefd=False)
        return io.TextIOWrapper(raw, encoding="utf-8", errors=errors, write_through=True)

    def prepare(self, stdin: bytes | None) -> None:
        """Before a run: the real streams, whatever the last one put there; ``stdin`` ends with its text."""
        if self._out.closed:
            self._out = self._text(1, "strict")
        if self._err.closed:
            self._err = self._text(2, "backslashreplace")
        sys.stdout = sys.__stdout__ = self._out  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = self._err  # type: ignore[misc]
        if stdin or self._in is None or self._in[0]:
            self._replace_input(stdin or b"")
        elif self._in[1].closed:
            self._in = (False, self._input())
        sys.stdin = sys.__stdin__ = self._in[1]  # type: ignore[misc]

    def _replace_input(self, content: bytes) -> None:
        if content:
            descriptor = os.open("/tmp", os.O_TMPFILE | os.O_RDWR, 0o600)
            with open(descriptor, "wb", closefd=False) as file:
                file.write(content)
            os.lseek(descriptor, 0, 0)
        else:
            descriptor = os.open("/dev/null", os.O_RDONLY)
        _dup2(descriptor, 0)
        _close(descriptor)
        self._in = (bool(content), self._input())

    @staticmethod
    def _input() -> Any:
        return io.TextIOWrapper(io.BufferedReader(io.FileIO(0, "r", closefd=False)), encoding="utf-8")

    def flush(self) -> None:
        """Puts out what a program left in streams of its own making."""
        for stream in {sys.stdout, sys.stderr, self._out, self._err}:
            try:
                stream.flush()
            except Exception:
                pass


class Environment:
    """Variables for one run alone."""

    def __init__(self) -> None:
        self._before: dict[str, str | None] = {}

    def enter(self, names: dict[str, str]) -> None:
        """Sets them, remembering what was there."""
        self._before = {name: _environ.get(name) for name in names}
        _environ.update(names)
        _heed_zone(names)

    def leave(self) -> None:
        """Puts back what was there; other changes of the program stay."""
        for name, value in self._before.items():
            if value is None:
                _environ.pop(name, None)
            else:
                _environ[name] = value
        _heed_zone(self._before)
        self._before = {}


def _heed_zone(names: Iterable[str]) -> None:
    """C's time functions look at TZ only when they are told to."""
    if "TZ" in names:
        time.tzset()


class Session:
    """The loop over requests. ``folder`` is the working directory."""

    def __init__(self, channel: Channel, folder: str) -> None:
        self._channel = channel
        self._folder = folder
        self._pid = _getpid()
        self._cells = python_cell.Cells(folder)
        self._streams = Streams()
        self._environment = Environment()
        self._handler: Any = signal.default_int_handler

    def serve(self) -> NoReturn:
        """Answers requests until the host closes the channel."""
        _on(signal.SIGINT, signal.SIG_IGN)
        self._streams.prepare(None)
        operations = {"run": self._run, "snapshot": self._snapshot, "restore": self._restore}
        while True:
            request = self._channel.receive()
            self._channel.send(operations[request["op"]](request))

    def _run(self, request: dict[str, Any]) -> dict[str, Any]:
        stdin = request.get("stdin")
        self._streams.prepare(None if stdin is None else binascii.a2b_base64(stdin))
        self._environment.enter(request.get("env") or {})
        sys.argv = [f"{self._folder}/main.py", *(request.get("args") or [])]
        outcome = self._interruptible(request["code"])
        if _getpid() != self._pid:
            self._end_child(outcome.exit_code)
        self._environment.leave()
        self._streams.flush()
        return {"id": request.get("id"), "exit": outcome.exit_code, "result": outcome.result, "error": outcome.error}

    def _interruptible(self, code: str) -> python_cell.Outcome:
        """Runs with the program's own handler of SIGINT in place; between runs the signal is ignored."""
        outcome = python_cell.Outcome(python_cell.INTERRUPTED, error="KeyboardInterrupt")
        try:
            try:
                _on(signal.SIGINT, self._handler or signal.SIG_DFL)
                outcome = self._cells.run(code)
            finally:
                self._handler = _on(signal.SIGINT, signal.SIG_IGN)
        except KeyboardInterrupt:  # it came when the code had ended already
            _on(signal.SIGINT, signal.SIG_IGN)
        return outcome

    def _end_child(self, exit_code: int) -> NoReturn:
        """A process that user code forked ran off the end of the code: it ends as a program would."""
        import atexit
        import threading

        try:
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
        except BaseException:
            pass
        self._streams.flush()
        _exit(exit_code)

    def _snapshot(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            import python_snapshot

            variables, lost = python_snapshot.take(self._cells.namespace)
            content = marshal.dumps((self._cells.history(), variables))
        except BaseException as error:
            return {"ok": False, "error": python_cell._short(error)}
        return {"ok": True, "content": binascii.b2a_base64(content, newline=False).decode(), "lost": lost}

    def _restore(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            import python_snapshot

            history, variables = marshal.loads(binascii.a2b_base64(request["content"]))
            self._cells.continue_after(*history)
            lost = python_snapshot.restore(self._cells.namespace, variables)
        except BaseException as error:
            return {"ok": False, "error": python_cell._short(error)}
        return {"ok": True, "lost": lost}


def serve(descriptor: int = CHANNEL, folder: str = "/workspace") -> NoReturn:
    """Serves one session on ``descriptor`` until the host closes it; the calling process is the session from now on."""
    os.chdir(folder)
    python_fork.prefer_fork()
    if not hasattr(builtins, "exit"):  # started without site
        site.setquit()
    sys.path[:] = [folder, *(path for path in sys.path if path not in ("", _HERE, folder))]
    sys.meta_path.append(_OwnModules())
    try:
        Session(Channel(descriptor), folder).serve()
    except BaseException as error:  # user code broke us; say so where its output goes
        _write(2, f"the session's driver ended: {error!r}\n".encode("utf-8", "replace"))
    finally:
        _exit(1)


class _OwnModules:
    """Finds ``python_snapshot`` beside this file though the folder is not on the program's path."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "python_snapshot":
            return None
        from importlib.util import spec_from_file_location

        return spec_from_file_location(name, f"{_HERE}/{name}.py")


if __name__ == "__main__":
    serve(folder=sys.argv[1] if len(sys.argv) > 1 else "/workspace")

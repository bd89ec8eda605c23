"""Drives the programs of runners/drivers as a slot would: pipes for the streams, a socket pair on descriptor 3."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import runners.drivers
from runners.languages import LANGUAGES, Program

DEADLINE_S = 60.0
LAUNCHER = """
import os, sys
given = int(sys.argv[1])
if given != 3:
    os.dup2(given, 3)
    os.close(given)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Makes the socket descriptor 3, then becomes the driver."""
DRIVERS = Path(runners.drivers.__file__).parent


def view(runtimes: Path, folder: Path) -> Path:
    """The runtimes as a sandbox would see them at /opt/rt, below ``folder``; go's cache takes what is written here."""
    made = folder / "rt"
    (made / "node" / "lib").mkdir(parents=True)
    for name in ("python", "deno", "go", "node/bin"):
        (made / name).symlink_to(runtimes / name)
    node = str(made / "node/bin/node")
    subprocess.run([node, DRIVERS / "extract_acorn.cjs", made / "node/lib"], check=True, timeout=DEADLINE_S)
    for source in (runtimes / "gocache").glob("*/*"):
        target = made / "gocache" / source.parent.name / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
    index = (runtimes / "gocache/importcfg").read_text()
    (made / "gocache/importcfg").write_text(index.replace("=/opt/rt/", f"={made}/"))
    return made


@dataclass(frozen=True)
class Ended:
    """How a one-shot ended."""

    exit_code: int
    stdout: str
    stderr: str
    told: bytes
    """What the driver said on descriptor 3."""


@dataclass(frozen=True)
class Place:
    """Where drivers run: the runtimes' view and a workspace."""

    runtimes: Path
    workspace: Path

    def start(self, program: Program, *more: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """Boots a driver; the other end of its descriptor 3 comes back."""
        ours, theirs = socket.socketpair()
        ours.settimeout(DEADLINE_S)
        argv = [*program.argv(runtimes=str(self.runtimes), drivers=str(DRIVERS)), *more]
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": "/tmp",
            "TMPDIR": str(self.workspace.parent),
            "LANG": "C.UTF-8",
            **program.env(runtimes=str(self.runtimes)),
        }
        environment |= {"DENO_DIR": str(self.runtimes.parent / "deno-dir")}
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LAUNCHER, str(theirs.fileno()), *argv],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
        theirs.close()
        return process, ours

    def once(self, language: str, code: str, *, stdin: bytes = b"", **request: Any) -> Ended:
        """Runs one program to its end."""
        driver = LANGUAGES[language].once
        assert driver is not None
        more = [str(self.runtimes)] if language == "go" else []
        process, channel = self.start(driver, *more)
        with channel:
            send(channel, {"code": code, "cwd": str(self.workspace), **request})
            channel.shutdown(socket.SHUT_WR)
            stdout, stderr = process.communicate(stdin, timeout=DEADLINE_S)
            told = b""
            while part := channel.recv(64):
                told += part
        return Ended(process.returncode, stdout.decode(), stderr.decode(), told)


def send(channel: socket.socket, value: object) -> None:
    """One frame."""
    content = json.dumps(value).encode()
    channel.sendall(len(content).to_bytes(4, "big") + content)


def receive(channel: socket.socket) -> dict[str, Any]:
    """One frame. Raises EOFError where the driver is gone."""

    def exactly(size: int) -> bytes:
        content = b""
        while len(content) < size:
            part = channel.recv(size - len(content))
            if not part:
                raise EOFError
            content += part
        return content

    value: dict[str, Any] = json.loads(exactly(int.from_bytes(exactly(4), "big")))
    return value


class Pump:
    """Reads one of a driver's pipes all the time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._content = b""
        self._changed = threading.Condition()
        self._isolated = threading.Thread(target=self._read, daemon=True)
        self._isolated.start()

    def _read(self) -> None:
        while part := os.read(self._descriptor, 65536):
            with self._changed:
                self._content += part
                self._changed.notify_all()

    def wait_for(self, text: str) -> None:
        """Waits until ``text`` has come."""
        with self._changed:
            assert self._changed.wait_for(lambda: text.encode() in self._content, DEADLINE_S), self._content

    def take(self) -> str:
        """What came since the last call."""
        with self._changed:
            content, self._content = self._content, b""
        return content.decode()

    def end(self) -> None:
        """Waits for the end of the pipe."""
        self._isolated.join(DEADLINE_S)


@dataclass(frozen=True)
class Reply:
    """The answer to one run, with all that it printed."""

    exit_code: int
    result: str | None
    stdout: str
    stderr: str
    error: str | None


class Session:
    """One live driver. Its end of every run is marked in both pipes, so that output is whole when it is read."""

    def __init__(self, place: Place, language: str) -> None:
        program = LANGUAGES[language].live
        assert program is not None
        self.process, self.channel = place.start(program, str(place.workspace))
        assert self.process.stdin
        assert self.process.stdout
        assert self.process.stderr
        self.process.stdin.close()
        self.stdout = Pump(self.process.stdout.fileno())
        self.stderr = Pump(self.process.stderr.fileno())
        self._count = 0

    def run(self, code: str, *, stdin: bytes | None = None, **request: Any) -> Reply:
        """Runs a piece of code to its end."""
        self.begin(code, stdin=stdin, **request)
        return self.finish()

    def begin(self, code: str, *, stdin: bytes | None = None, **request: Any) -> None:
        """Sends a piece of code."""
        self._count += 1
        given = None if stdin is None else base64.b64encode(stdin).decode()
        send(
            self.channel,
            {"op": "run", "id": self._count, "code": code, "args": [], "env": {}, "stdin": given, **request},
        )

    def finish(self) -> Reply:
        """Waits for the answer."""
        answer = receive(self.channel)
        assert answer["id"] == self._count
        self._drain()
        return Reply(answer["exit"], answer["result"], self.stdout.take(), self.stderr.take(), answer["error"])

    def _drain(self) -> None:
        # The driver wrote all before it answered: a mark that is written to the same pipes now comes after it.
        for descriptor, pump in ((1, self.stdout), (2, self.stderr)):
            mark = f"<mark {self._count}>"
            with Path(f"/proc/{self.process.pid}/fd/{descriptor}").open("wb", buffering=0) as file:
                file.write(mark.encode())
            pump.wait_for(mark)
            with pump._changed:
                pump._content = re.sub(rb"<mark \d+>", b"", pump._content)

    def interrupt(self) -> None:
        """SIGINT, as the host sends it."""
        self.process.send_signal(signal.SIGINT)

    def snapshot(self) -> tuple[str, list[str]]:
        """Its variables, and the names of those that are lost."""
        send(self.channel, {"op": "snapshot"})
        answer = receive(self.channel)
        assert answer["ok"], answer
        return answer["content"], answer["lost"]

    def restore(self, content: str) -> list[str]:
        """Puts variables back; the names of those that could not be."""
        send(self.channel, {"op": "restore", "content": content})
        answer = receive(self.channel)
        assert answer["ok"], answer
        lost: list[str] = answer["lost"]
        return lost

    def close(self) -> int:
        """Hangs up; the driver's exit code."""
        self.channel.close()
        code = self.process.wait(DEADLINE_S)
        self.stdout.end()
        self.stderr.end()
        assert self.process.stdout
        assert self.process.stderr
        self.process.stdout.close()
        self.process.stderr.close()
        return code


@contextmanager
def session(place: Place, language: str) -> Iterator[Session]:
    """A live session that ends with the block, whatever happens in it."""
    live = Session(place, language)
    try:
        yield live
    finally:
        if live.process.poll() is None:
            os.killpg(live.process.pid, signal.SIGKILL)
        live.close()


def workspace_of(folder: Path, files: Mapping[str, str]) -> Path:
    """A workspace with some files in it."""
    made = Path(tempfile.mkdtemp(prefix="ws", dir=folder))
    for name, text in files.items():
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return made

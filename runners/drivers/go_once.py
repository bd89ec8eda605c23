"""Compiles one Go program inside the sandbox and becomes it: `go run main.go` without what makes that slow.

A program of one file goes straight through the compiler and the linker, against an index of the prebuilt standard
library. One with files beside it, a ``go.mod`` or special directives takes the ordinary ``go build``, the code being laid
over ``main.go`` by an overlay, so that the workspace's own file stays untouched. All output goes to scratch.

Runs in a forked child (``run``) or by itself (descriptor 3 holds the request, length-prefixed JSON).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Any, NoReturn

CHANNEL = 3
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
HEAP = "256MiB"
"""Of the compiler or linker before garbage is collected: half of what a slot leaves them at least."""
_SPECIAL = re.compile(r'^\s*//go:(?:embed|debug|linkname|build)\b|^\s*import\s+"C"|^\s*"C"\s*$', re.MULTILINE)
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_IMPORTS = re.compile(r"^\s*import\s*(?:\((.*?)\)|([^\n(]*))", re.MULTILINE | re.DOTALL)
_QUOTED = re.compile(r'["`]([^"`\n]+)["`]')
_PACKAGE = re.compile(r"^\s*package\s+(\w+)", re.MULTILINE)


class CompileFailed(Exception):
    """The compiler's text and exit code."""

    def __init__(self, text: bytes, code: int) -> None:
        super().__init__(code)
        self.text = text
        self.code = code


def imported(code: str) -> set[str]:
    """Paths that import declarations of ``code`` name."""
    found: set[str] = set()
    for block, line in _IMPORTS.findall(_COMMENT.sub("", code)):
        found.update(_QUOTED.findall(block or line))
    return found


class Toolchain:
    """The read-only toolchain below ``runtimes`` and the scratch folder of one build."""

    def __init__(self, runtimes: str, workspace: str, scratch: str) -> None:
        self.root = f"{runtimes}/go"
        self.cache = f"{runtimes}/gocache"
        self.index = f"{self.cache}/importcfg"
        self.workspace = workspace
        self.scratch = scratch
        self.source = f"{scratch}/main.go"
        self.program = f"{scratch}/main"

    def tool(self, name: str) -> str:
        """Path of a tool of the toolchain."""
        machine = os.uname().machine
        return f"{self.root}/pkg/tool/linux_{ARCHITECTURES.get(machine, machine)}/{name}"

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        """For the go command alone; the program gets none of it."""
        own = {
            "GOROOT": self.root,
            "GOCACHE": self.cache,
            "GOPATH": extra.get("GOPATH", f"{self.scratch}/gopath"),
            "GOTMPDIR": self.scratch,
            "GOFLAGS": "-mod=mod -trimpath",
            "GOPROXY": "off",
            "GOSUMDB": "off",
            "GOTOOLCHAIN": "local",
            "GOTELEMETRY": "off",
            "GOENV": "off",
            "GOWORK": "off",
            "CGO_ENABLED": "0",
            # Without it go wants to write an index of the standard library into the read-only cache.
            "GODEBUG": "goindex=0",
            "HOME": self.scratch,
            "PATH": f"{self.root}/bin:/usr/bin:/bin",
            "TMPDIR": self.scratch,
        }
        return own | ({"GOMODCACHE": extra["GOMODCACHE"]} if "GOMODCACHE" in extra else {})

    def is_plain(self, code: str) -> bool:
        """One file of standard-library imports, with nothing beside it that would take part."""
        if _SPECIAL.search(code):
            return False
        for entry in os.listdir(self.workspace):
            if (entry.endswith(".go") and entry != "main.go") or entry in ("go.mod", "vendor"):
                return False
        wanted = imported(code) - {"unsafe"}
        with open(self.index, encoding="utf-8") as lines:
            known = {line[len("packagefile ") :].split("=", 1)[0] for line in lines}
        return wanted <= known

    def siblings(self) -> list[str]:
        """The workspace's other files of package main."""
        names = []
        for name in sorted(os.listdir(self.workspace)):
            if not name.endswith(".go") or name.endswith("_test.go") or name == "main.go":
                continue
            with open(f"{self.workspace}/{name}", encoding="utf-8", errors="replace") as file:
                package = _PACKAGE.search(_COMMENT.sub("", file.read()))
            if package and package.group(1) == "main":
                names.append(name)
        return names

    def build_plainly(self) -> None:
        """Compiler and linker, one after the other. Raises CompileFailed."""
        archive = f"{self.scratch}/main.a"
        trim = f"-trimpath={self.scratch}=>{self.workspace}"
        self._call([self.tool("compile"), "-o", archive, "-p", "main", "-complete", "-pack", "-dwarf=false", trim,
                    "-importcfg", self.index, self.source])  # fmt: skip
        self._call([self.tool("link"), "-s", "-w", "-o", self.program, "-importcfg", self.index,
                    "-buildmode=exe", archive])  # fmt: skip
        os.unlink(archive)

    def build_by_go(self, extra: Mapping[str, str]) -> None:
        """``go build`` of the workspace with the code laid over its main.go. Raises CompileFailed."""
        overlay = f"{self.scratch}/overlay.json"
        target = f"{self.workspace}/main.go"
        with open(overlay, "w", encoding="utf-8") as file:
            file.write(_json_of({"Replace": {target: self.source}}))
        has_module = os.path.exists(f"{self.workspace}/go.mod")
        what = ["."] if has_module else [target, *(f"{self.workspace}/{name}" for name in self.siblings())]
        flags = ["-gcflags=all=-dwarf=false", "-ldflags=-s -w", f"-overlay={overlay}"]
        self._call([f"{self.root}/bin/go", "build", *flags, "-o", self.program, *what], self.environment(extra))

    def _of_tools(self) -> dict[str, str]:
        """Of compiler and linker: each lives for milliseconds and collects no garbage before that is worth it."""
        return {"GOROOT": self.root, "TMPDIR": self.scratch, "GOGC": "off", "GOMEMLIMIT": HEAP}

    def _call(self, command: list[str], environment: Mapping[str, str] | None = None) -> None:
        text, code = _output_of(command, environment or self._of_tools())
        if code:
            # The compiler names the copy in scratch; people know the file as main.go.
            raise CompileFailed(text.replace(self.scratch.encode() + b"/main.go", b"./main.go"), code)


def _json_of(value: object) -> str:
    import json

    return json.dumps(value)


def _output_of(command: list[str], environment: Mapping[str, str]) -> tuple[bytes, int]:
    """What a command wrote (both streams) and its exit code; 128+n where signal n ended it."""
    reader, writer = os.pipe()
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, writer, 1),
        (os.POSIX_SPAWN_DUP2, writer, 2),
    ]
    pid = os.posix_spawn(command[0], command, dict(environment), file_actions=actions)
    os.close(writer)
    parts = []
    while part := os.read(reader, 65536):
        parts.append(part)
    os.close(reader)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return b"".join(parts), code if code >= 0 else 128 - code


def _scratch_folder() -> str:
    for number in range(1000):
        path = f"{os.environ.get('TMPDIR', '/tmp')}/.era-go-{os.getpid()}-{number}"
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            continue
        return path
    raise FileExistsError("no scratch folder can be made")


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def run(request: Mapping[str, Any], *, channel: int = CHANNEL, runtimes: str = "/opt/rt") -> NoReturn:
    """Compiles ``request["code"]``, says on ``channel`` how that ended, and execs the program or exits.

    ``channel`` gets ``C`` and 8 bytes of nanoseconds, or ``E`` and the compiler's exit code as one byte; it is closed then.
    """
    workspace = request.get("cwd") or "/workspace"
    os.chdir(workspace)
    start = time.monotonic_ns()
    code: str = request["code"]
    tools = Toolchain(runtimes, workspace, _scratch_folder())
    environment = dict(request.get("env") or {})
    try:
        with open(tools.source, "w", encoding="utf-8", newline="") as file:
            file.write(code)
        if tools.is_plain(code):
            tools.build_plainly()
        else:
            tools.build_by_go(environment)
    except CompileFailed as failure:
        _write_all(2, failure.text)
        _write_all(channel, b"E" + bytes([failure.code & 255]))
        os._exit(failure.code & 255)
    os.unlink(tools.source)
    _write_all(channel, b"C" + (time.monotonic_ns() - start).to_bytes(8, "big"))
    os.close(channel)
    os.execve(tools.program, [tools.program, *request.get("args", ())], dict(os.environ) | environment)


def _request() -> dict[str, Any]:
    import json

    def exactly(size: int) -> bytes:
        content = b""
        while len(content) < size:
            part = os.read(CHANNEL, size - len(content))
            if not part:
                os._exit(0)  # the host went away
            content += part
        return content

    value: dict[str, Any] = json.loads(exactly(int.from_bytes(exactly(4), "big")))
    return value


if __name__ == "__main__":
    import sys

    # The driver lies in <runtimes>/drivers, unless it is told where the runtimes are.
    run(_request(), runtimes=sys.argv[1] if len(sys.argv) > 1 else "/opt/rt")

"""Starts the world: one process tree that holds every slot of a runner."""

from __future__ import annotations

import functools
import json
import logging
import os
import platform
import re
import socket
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path

from runners.backends.slot import seccomp, sockets
from runners.backends.slot.guest.settings import HostSettings, Settings, write_memory_file

log = logging.getLogger(__name__)

START_TIMEOUT_S = 30.0
SCRATCH_BYTES = 64 << 20
"""Of /tmp, /dev/shm and the home folder together."""
ENVIRONMENT = {
    "PATH": "/opt/rt/python/bin:/opt/rt/node/bin:/opt/rt/deno:/opt/rt/go/bin:/usr/bin:/bin",
    "HOME": "/home/sandbox",
    "LANG": "C.UTF-8",
    "TMPDIR": "/tmp",
    "USER": "sandbox",
}
_PRELOAD_TEXT = """
argparse ast asyncio base bisect collections concurrent.futures contextlib copy csv dataclasses datetime decimal
enum fractions functools glob hashlib heapq inspect io itertools json logging math operator os.path pathlib pickle
platform pprint queue random re shutil socket statistics string struct subprocess sys tempfile textwrap threading
time typing unittest urllib.parse urllib.request uuid zlib
"""
PRELOAD = tuple(_PRELOAD_TEXT.split())
_CHEAP = frozenset(
    {"os", "sys", "io", "operator", "time", "string", "itertools", "functools", "collections", "math", "typing"}
)
"""Loaded in every master anyway, or in no time."""
_ETC = {
    "passwd": "root:x:0:0:root:/root:/sbin/nologin\nsandbox:x:1000:1000::/home/sandbox:/bin/sh\n",
    "group": "root:x:0:\nsandbox:x:1000:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "resolv.conf": "",
}
_LIBRARIES = ("/usr/bin", "/usr/lib64", "/usr/share/zoneinfo", "/usr/lib/locale")
_RUNTIME_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_GUEST_FILES = (
    "linux",
    "settings",
    "rootfs",
    "master",
    "birth",
    "helper",
    "pid1",
    "proof",
    "child",
    "drivers",
    "program",
    "stillness",
    "uncaught",
)


@dataclass(frozen=True)
class WorldSpec:
    """What the starter needs to know."""

    mode: str
    """root, sub or one."""
    runtimes: Path
    workspaces: Path
    root: Path
    """Empty folder to mount on; only the world sees the mount."""
    cgroups: bool
    cpus: int
    """CPUs that a slot is pinned to where no cgroup holds its share; 0: none."""
    inotify_instances: int
    uid_base: int = 0
    uid_count: int = 0
    mapper: str = ""
    sub_uids: tuple[int, ...] = ()
    sub_gids: tuple[int, ...] = ()
    workspace_bytes: int = 128 << 20
    workspace_files: int = 100_000
    preload: tuple[str, ...] = field(default=PRELOAD)

    @functools.cached_property
    def preload_names(self) -> frozenset[str]:
        """Top-level names of the preloaded modules that cost something to import."""
        return frozenset(name.split(".")[0] for name in self.preload) - _CHEAP


class World:
    """The running world; ends with `close` or with this process."""

    def __init__(self, spec: WorldSpec) -> None:
        """Start it and wait until both masters answer.

        Raises:
            OSError: It could not be built; the text is the starter's last line.
        """
        self.spec = spec
        self._lock = threading.Lock()
        self._has_dead_master = False
        self.plain, plain_end = sockets.pair(socket.SOCK_SEQPACKET)
        self.preloaded, preloaded_end = sockets.pair(socket.SOCK_SEQPACKET)
        errors, errors_end = os.pipe2(os.O_CLOEXEC)
        try:
            with plain_end, preloaded_end:
                self._process = _start(spec, plain_end.fileno(), preloaded_end.fileno(), errors_end)
            self._await_ready(errors)
        except BaseException:
            self.plain.close()
            self.preloaded.close()
            raise
        finally:
            os.close(errors)

    def _await_ready(self, errors: int) -> None:
        for master in (self.plain, self.preloaded):
            master.settimeout(START_TIMEOUT_S)
            try:
                word = master.recv(16)
            except TimeoutError:
                word = b""
            if word != b"ready":
                self.close()
                os.set_blocking(errors, False)
                raise OSError(_last_line(errors) or "the sandbox's world did not start")

    def order(self, text: bytes, descriptors: list[int], *, preloaded: bool) -> None:
        """Ask a master for a slot.

        Raises:
            OSError: It cannot be told; a ConnectionError if it is dead, after which the world `is_whole` no longer.
        """
        master = self.preloaded if preloaded else self.plain
        try:
            with self._lock:
                socket.send_fds(master, [text], descriptors)
        except ConnectionError:
            self._has_dead_master = True
            raise

    @property
    def is_whole(self) -> bool:
        """Whether it can bear every kind of slot, as far as is known; what lives in it may live on if not."""
        return not self._has_dead_master and self.is_alive

    @property
    def is_alive(self) -> bool:
        """Whether its first process still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End everything in it: its pid 1 sees the closed socket, and with it goes the rest."""
        self.plain.close()
        self.preloaded.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:  # who closes it has more to let go of
                log.warning("A world that was killed has not ended yet.", extra={"pid": self._process.pid})


def _start(spec: WorldSpec, plain: int, preloaded: int, errors: int) -> subprocess.Popen[bytes]:
    """The starter, which is given the masters' ends of their sockets; closes ``errors``, which it writes to."""
    try:
        descriptor = write_memory_file(json.dumps(_settings(spec, plain, preloaded)))
        try:
            program = str(resources.files(__package__).joinpath("guest/world.py"))
            return subprocess.Popen(
                [sys.executable, "-I", "-S", program, str(descriptor)],
                pass_fds=(plain, preloaded, descriptor),
                env={"LANG": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
    finally:
        os.close(errors)


def _last_line(descriptor: int) -> str:
    try:
        text = os.read(descriptor, 65536).decode("utf-8", "replace").strip()
    except BlockingIOError:
        return ""
    return text.rsplit("\n", 1)[-1]


def _settings(spec: WorldSpec, control: int, control_preloaded: int) -> dict[str, object]:
    shared = spec.mode == "one"
    program = seccomp.assemble(seccomp.Walls(shared_uid=shared, cgroups=spec.cgroups), platform.machine())
    settings = Settings(
        shared_uid=shared,
        cgroups=spec.cgroups,
        control=control,
        control_preloaded=control_preloaded,
        preload=list(spec.preload),
        scratch_bytes=SCRATCH_BYTES,
        workspace_bytes=spec.workspace_bytes,
        workspace_files=spec.workspace_files,
        inotify_instances=spec.inotify_instances,
        descriptors=4096 if spec.cgroups else 256,
        filter=program.hex(),
        harvest={"root": "", "sub": "others", "one": "owner"}[spec.mode],
        etc=_ETC,
        environment=ENVIRONMENT,
        cpus=spec.cpus,
    )
    host = HostSettings(
        mode=spec.mode,
        root=str(spec.root),
        binds=_binds(spec.runtimes),
        workspaces=str(spec.workspaces),
        files=_programs(),
        python="/opt/rt/python/bin/python3",
        uid_base=spec.uid_base,
        uid_count=spec.uid_count,
        mapper=spec.mapper,
        sub_uids=list(spec.sub_uids),
        sub_gids=list(spec.sub_gids),
    )
    return {"host": asdict(host), "settings": asdict(settings)}


def _binds(runtimes: Path) -> dict[str, str]:
    """Path in the world -> path on the host: programs, shared libraries, the loader, zones, runtimes. Nothing else."""
    triplets = [str(folder) for folder in sorted(Path("/usr/lib").glob("*-linux-gnu"))]
    system = [path for path in (*_LIBRARIES, *triplets) if Path(path).is_dir()]
    rest = {f"/opt/rt/{entry.name}": str(entry) for entry in runtimes.iterdir() if _RUNTIME_NAME.fullmatch(entry.name)}
    return {path: path for path in system} | rest


def _programs() -> dict[str, str]:
    """The guest's own programs and the drivers, by their path in the world."""
    guest = resources.files(__package__).joinpath("guest")
    packages = ("runners", "runners/backends", "runners/backends/slot", "runners/backends/slot/guest")
    files = {f"/app/{package}/__init__.py": "" for package in packages}
    for name in _GUEST_FILES:
        files[f"/app/runners/backends/slot/guest/{name}.py"] = guest.joinpath(f"{name}.py").read_text()
    drivers = resources.files("runners").joinpath("drivers")
    files["/opt/rt/drivers/README"] = "Drivers of the sandbox.\n"
    if drivers.is_dir():
        for entry in drivers.iterdir():
            if entry.is_file() and entry.name.endswith((".py", ".js", ".cjs")) and entry.name != "__init__.py":
                files[f"/opt/rt/drivers/{entry.name}"] = entry.read_text()
    return files

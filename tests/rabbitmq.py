"""A real RabbitMQ for tests: Debian's packages, unpacked once without root, started on loopback ports of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from era_project.serve import linux
from tests.servers import free_port
from tests.waiting import wait_until

FETCH_S = 120.0
READY_S = 120.0
END_S = 30.0
PACKAGES = (
    "rabbitmq-server",
    "erlang-base",
    *(f"erlang-{part}" for part in ("asn1", "crypto", "eldap", "inets", "mnesia", "os-mon", "parsetools")),
    *(f"erlang-{part}" for part in ("public-key", "runtime-tools", "ssl", "syntax-tools", "tools", "xmerl")),
)
"""Source: what Debian 12's rabbitmq-server depends on and what does not come with every system."""
LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"
ERLANG = Path("usr/lib/erlang")
RABBITMQ = Path("usr/lib/rabbitmq/lib")


def folder() -> Path:
    """Where the unpacked packages are kept from one test session to the next."""
    return Path.home() / ".cache/era/tools/rabbitmq"


def is_at_hand() -> bool:
    """Whether nothing has to be fetched."""
    return folder().exists() or (Path("/") / RABBITMQ).exists()


def root() -> Path:
    """The folder that holds ``usr/lib/rabbitmq`` and ``usr/lib/erlang``; without one the test is skipped, and says so."""
    if (Path("/") / RABBITMQ).exists():
        return Path("/")
    kept = folder()
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            try:
                _fetch(kept)
            except (OSError, subprocess.SubprocessError) as error:
                pytest.skip(f"SKIPPED, NOT TESTED: RabbitMQ as the broker, which cannot be had here: {error}")
    return kept


def _fetch(kept: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="rabbitmq-", dir=kept.parent))
    try:
        _run(["apt-get", "download", *PACKAGES], scratch)
        for archive in scratch.glob("*.deb"):
            _run(["dpkg", "-x", str(archive), str(scratch / "root")], scratch)
        erl = scratch / "root" / ERLANG / "bin/erl"
        # Debian's start script knows one place only.
        erl.write_text(erl.read_text().replace(f"ROOTDIR=/{ERLANG}", f"ROOTDIR={kept / ERLANG}"))
        (scratch / "root").rename(kept)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run(argv: list[str], place: Path) -> None:
    subprocess.run(argv, cwd=place, check=True, capture_output=True, timeout=FETCH_S)


@dataclass
class Broker:
    """A RabbitMQ that can be ended and started again on what it kept."""

    home: Path
    root: Path
    port: int = field(default_factory=free_port)
    names: int = field(default_factory=free_port)
    """Port of Erlang's name service."""
    between: int = field(default_factory=free_port)
    """Port for other nodes and tools."""
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """For ``ERA_BROKER_URL``."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        """Returns when it serves."""
        (epmd,) = (self.root / ERLANG).glob("erts-*/bin/epmd")
        (home,) = (self.root / RABBITMQ).glob("rabbitmq_server-*")
        self._begin([str(epmd), "-address", "127.0.0.1", "-port", str(self.names)])
        server = self._begin(["/bin/sh", str(home / "sbin/rabbitmq-server")])

        def serves() -> bool:
            assert server.poll() is None, self.said()
            return self._serves()

        wait_until(serves, READY_S, "RabbitMQ serves")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ends it; what durable queues hold stays. KILL ends it in the middle of everything."""
        for process in reversed(self._started):
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(END_S)
        self._started.clear()

    def said(self) -> str:
        """The end of its log."""
        return (self.home / "out").read_text(errors="replace")[-5000:]

    def _serves(self) -> bool:
        """It greets whoever names the protocol."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
                probe.sendall(b"AMQP\x00\x00\x09\x01")
                return bool(probe.recv(7))
        except OSError:
            return False

    def _begin(self, argv: list[str]) -> subprocess.Popen[bytes]:
        with (self.home / "out").open("ab") as log:
            process = subprocess.Popen(
                argv,
                env=self._environment(),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=linux.dying_with_parent(signal.SIGTERM),  # noqa: PLW1509 - two system calls
            )
        self._started.append(process)
        return process

    def _environment(self) -> dict[str, str]:
        own, (home,) = self.home, (self.root / RABBITMQ).glob("rabbitmq_server-*")
        return {
            "HOME": str(own),
            "PATH": f"{self.root / ERLANG}/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self.names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_HOME": str(home),
            "RABBITMQ_NODENAME": f"era-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.between),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": LOOPBACK,
            "RABBITMQ_MNESIA_BASE": str(own / "mnesia"),
            "RABBITMQ_LOG_BASE": str(own / "log"),
            "RABBITMQ_PID_FILE": str(own / "pid"),
            "RABBITMQ_CONF_ENV_FILE": str(own / "none"),
            "RABBITMQ_CONFIG_FILE": str(own / "none"),
            "RABBITMQ_CONFIG_FILES": str(own / "none.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(own / "none.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(own / "plugins"),
            "RABBITMQ_SCHEMA_DIR": str(own / "schema"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(own / "schema"),
        }


@contextlib.contextmanager
def serve(home: Path) -> Iterator[Broker]:
    """A broker of its own, whose data lie in ``home``."""
    home.mkdir(parents=True, exist_ok=True)
    broker = Broker(home, root())
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()

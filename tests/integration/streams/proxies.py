"""The proxies of the docs' configurations: from the system, else from Debian's packages, unpacked without root."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from era_project.serve import linux
from tests.servers import ROOT, free_port
from tests.waiting import wait_until

FETCH_S = 45
DOCS = ROOT / "docs"
PASSWORD = "opensesame"
PASSWORD_HASH = "$2b$04$2aQVyDPBkvdlLvbn8cdbMOuJHG0xqVUtGqDOdv7aZkuJAVDfTL9kS"
"""The same by bcrypt with a low cost: Caddy's own choice takes seconds a request."""

NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr warn;
events {{}}
http {{
    log_format upstreams '$upstream_addr'; access_log {folder}/upstreams.log upstreams;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {docs}
}}
"""


def program(package: str, path: str, folder: Path) -> str:
    """An executable of Debian's ``package``; without one the test is skipped, and says so."""
    if found := shutil.which(package):
        return found
    try:
        subprocess.run(["apt-get", "download", package], cwd=folder, check=True, capture_output=True, timeout=FETCH_S)
        archive = next(folder.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg", "-x", archive, folder / package], check=True, capture_output=True, timeout=FETCH_S)
        made = str(folder / package / path)
        subprocess.run([made, "-v" if package == "nginx" else "version"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError, StopIteration) as error:
        pytest.skip(f"SKIPPED, NOT TESTED: streams through {package}, which cannot be had here: {error}")
    return made


@contextlib.contextmanager
def running(argv: list[str], port: int, env: Mapping[str, str] | None = None) -> Iterator[int]:
    """A proxy that listens on ``port``."""
    process = subprocess.Popen(
        argv,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=linux.dying_with_parent(signal.SIGTERM),  # noqa: PLW1509
    )

    def listens() -> bool:
        with socket.socket() as probe:
            return process.poll() is not None or probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(listens, 30, f"{argv[0]} listens")
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        yield port
    finally:
        process.terminate()
        try:
            process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@contextlib.contextmanager
def nginx(target: int, folder: Path, others: Sequence[int] = ()) -> Iterator[int]:
    """nginx with the docs' configuration in front of the server on port ``target``, and of ``others`` on its state.

    ``upstreams.log`` in the folder names, a line a request, who answered.
    """
    path = program("nginx", "usr/sbin/nginx", folder)
    port = free_port()
    (folder / "htpasswd").write_text(f"admin:{{PLAIN}}{PASSWORD}\n")
    docs = (DOCS / "nginx.conf").read_text()
    docs = docs.replace("127.0.0.1:8787", f"127.0.0.1:{target}").replace("listen 80;", f"listen 127.0.0.1:{port};")
    joined = "\n".join(f"server 127.0.0.1:{other};" for other in others)
    docs = re.sub(r"# server 127\.0\.0\.1:8788;.*", joined, docs)
    docs = docs.replace("/etc/nginx/.htpasswd", str(folder / "htpasswd"))
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, docs=docs))
    with running([path, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")], port):
        yield port


@contextlib.contextmanager
def caddy(target: int, folder: Path) -> Iterator[int]:
    """Caddy with the docs' configuration, but for the certificate."""
    path = program("caddy", "usr/bin/caddy", folder)
    port = free_port()
    version = subprocess.run([path, "version"], capture_output=True, text=True, check=True, timeout=30).stdout
    docs = (DOCS / "Caddyfile").read_text()
    docs = docs.replace("era.example.com {", f"http://localhost:{port} {{").replace(":8787", f":{target}")
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < (2, 8):
        docs = docs.replace("basic_auth", "basicauth")
    (folder / "Caddyfile").write_text("{\n\tadmin off\n}\n" + docs)
    env = {"ERA_PASSWORD_HASH": PASSWORD_HASH, "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with running([path, "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")], port, env):
        yield port

"""What the server tells the person who started it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from era_project.conf import Conf
from era_project.serve.records import Server

APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _url(port: int) -> str:
    return f"http://localhost:{port}"


def say_started(conf: Conf, *, port: int, health: Mapping[str, Any]) -> None:
    """The URL, the way into the admin, and what is enforced."""
    lines = [f"ERA runs at {_url(port)}"]
    password = conf.state_dir / "admin-password"
    if password.exists():
        lines.append(f"Admin: {_url(port)}/admin/  user admin, password in {password}")
    sandbox = health.get("sandbox") or {}
    if sandbox:
        lines.append(f"Sandbox: {sandbox.get('backend')}, mode {sandbox.get('mode')}")
        limits = sandbox.get("limits") or {}
        lines += [f"  {name}: {held}" for name, held in limits.items()]
    if health.get("status") != "healthy":
        lines.append(f"It is not healthy yet, see {_url(port)}/health")
    _say("\n".join(lines))


def say_joined(*, port: int, owner: Server) -> None:
    """Whom this server has joined."""
    _say(f"ERA runs at {_url(port)} too, with the server at {_url(owner.port)} (process {owner.process.pid})")


def runs_already(server: Server) -> str:
    """The sentence for a second start on the same port."""
    return f"The server runs already at {_url(server.port)} (process {server.process.pid})."


def no_user_namespaces() -> str:
    """Why an ordinary user's sandboxes cannot be built here, with the remedy."""
    if APPARMOR.exists() and APPARMOR.read_text().strip() == "1":
        return (
            "AppArmor forbids user namespaces to ordinary users here, so there can be no sandbox: as root run "
            "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or start the server as root."
        )
    return (
        "This kernel or container forbids user namespaces, so there can be no sandbox: allow them "
        "(sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone=1), or start the server as root."
    )

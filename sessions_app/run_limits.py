"""What a run may use and what it finds in its environment."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping

from era_project.conf import get as conf
from runners.types import MIB, Limits
from sessions_app.running import Running

RESERVED = "ERA_"


def environment(running: Running) -> Mapping[str, str]:
    """The user's variables and ours, which always win; the user's own ``ERA_*`` are left out with a warning."""
    given = running.inputs.env
    ours = {name: value for name, value in given.items() if not name.startswith(RESERVED)}
    if len(ours) < len(given):
        ignored = ", ".join(sorted(given.keys() - ours.keys()))
        running.warnings.append(f"env: names that begin with {RESERVED} are the server's own; ignored: {ignored}.")
    if running.inputs.tty and "TERM" not in ours:
        ours["TERM"] = "xterm-256color"
    name, base = running.claimed.session_name, conf().base_url
    return ours | {
        "ERA_SESSION": "true",
        "ERA_SESSION_ID": name,
        "ERA_LANGUAGE": running.claimed.language,
        "ERA_BASE_URL": base,
        "ERA_PROXY_URL": f"{base}/proxy/{name}",
        "ERA_STORAGE_URL": f"{base}/api/storage",
    }


def limits(running: Running, *, in_session: bool) -> Limits:
    """What the run may use here; what this node cannot give is capped, with a warning."""
    claimed = running.claimed
    if claimed.cpu_count > _cores():
        running.warnings.append(f"cpu_count: this node has {_cores():g} cores, so the run got those.")
    given = one_shot(cpu_count=claimed.cpu_count, memory_mib=claimed.memory_mib, wall_time_s=claimed.timeout_s)
    return dataclasses.replace(given, workspace_bytes=conf().workspace_bytes) if in_session else given


def one_shot(*, cpu_count: float, memory_mib: int, wall_time_s: float) -> Limits:
    """The limits of a one-shot; its files count towards its memory. Source: the contract, Defaults."""
    memory_bytes = memory_mib * MIB
    return Limits(
        wall_time_s=wall_time_s,
        cpu_count=min(cpu_count, _cores()),
        memory_bytes=memory_bytes,
        workspace_bytes=memory_bytes // 2,
        workspace_files=conf().workspace_files,
    )


@functools.cache
def _cores() -> float:
    return float(os.cpu_count() or 1)

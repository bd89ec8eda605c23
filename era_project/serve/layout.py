"""The server's folders and programs: what stands in the state folder and which parts there are."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from era_project import addresses, conf
from era_project.conf import Conf
from era_project.serve import postgres, valkey
from era_project.serve.parts import Part
from era_project.serve.place import Place
from era_project.serve.uids import UidBlock

FOLDERS = ("postgres", "valkey", "sockets", "objects", "workspaces", "log", "run", "servers")
SHOWN = ("postgres", "valkey", "sockets", "objects", "workspaces", "log", "run", "secrets.json")
"""What of the state the parts see when they run under other uids."""

SHARED_UMASK = 0o007
"""As root, web and worker are different users that share files by their group."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that the parts of one server are made from."""

    conf: Conf
    place: Place
    block: UidBlock | None
    cgroup: str

    @property
    def web_uid(self) -> int | None:
        """Uid of the web process; None: the supervisor's."""
        return self.block.web if self.block else None


def make_folders(state: Path, block: UidBlock | None) -> None:
    """Makes the state's folders; as root each belongs to the part that writes there."""
    for name in FOLDERS:
        (state / name).mkdir(exist_ok=True, mode=0o700)
    for name in ("postgres", "valkey"):
        (state / "sockets" / name).mkdir(exist_ok=True, mode=0o700)
    # Sandboxes of other uids walk to their own folder in it.
    (state / "workspaces").chmod(0o711)
    if block is None:
        return
    (state / "sockets").chmod(0o755)
    owners = {"postgres": block.postgres, "valkey": block.valkey}
    for name, uid in owners.items():
        _own(state / name, uid, block.web)
        _own(state / "sockets" / name, uid, block.web)
        (state / "sockets" / name).chmod(0o750)
    _own(state / "objects", block.web, block.web)
    (state / "objects").chmod(0o2770)
    os.chown(state / "secrets.json", block.web, block.web)


def _own(tree: Path, uid: int, gid: int) -> None:
    """Gives a tree to another user; nothing is done when its top is that user's already."""
    found = tree.lstat()
    if (found.st_uid, found.st_gid) == (uid, gid):
        return
    for folder, names, files in os.walk(tree):
        for name in (*names, *files):
            os.chown(Path(folder, name), uid, gid, follow_symlinks=False)
    os.chown(tree, uid, gid, follow_symlinks=False)


def environment(plan: Plan, *, port: int) -> dict[str, str]:
    """What every Django process of the server gets: the user's own settings, and where things are."""
    settings = conf.inherited(*(name for knob in conf.knobs() for name in (knob.env, *knob.older_names)))
    place, block = plan.place, plan.block
    seen = conf.load({"ERA_STATE_DIR": str(place.state)} | {k: v for k, v in settings.items() if k in _ADDRESSES})
    own = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "MALLOC_ARENA_MAX": "2",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PORT": str(port),
        "ERA_STATE_DIR": str(place.state),
        "ERA_SECRETS": plan.conf.secrets or str(place.state / "secrets.json"),
        "ERA_RUNTIMES": str(place.runtimes),
        "ERA_RUN_DIR": str(place.state / "run"),
        "DATABASE_URL": seen.database_url or addresses.embedded_database_url(seen),
        "ERA_BROKER_URL": addresses.broker_url(seen),
        "ERA_REDIS_URL": addresses.redis_url(seen),
        "ERA_CGROUP": plan.cgroup,
        "ERA_UID_BLOCK": str(block.slots if block else 0),
        "ERA_UID_COUNT": str(block.slot_count if block else 0),
    }
    # Root's home is closed to its parts' users: libraries that look for files there would fail.
    home = {"HOME": "/nonexistent"} if block else conf.inherited("HOME", "USER", "XDG_RUNTIME_DIR")
    return conf.inherited("TZ", *conf.PASSED_ON) | home | settings | own


_ADDRESSES = ("DATABASE_URL", "ERA_BROKER_URL", "ERA_REDIS_URL")


def stores(plan: Plan) -> list[postgres.Postgres | valkey.Valkey]:
    """The embedded stores that no setting replaces."""
    place, block, log = plan.place, plan.block, plan.conf.state_dir / "log"
    found: list[postgres.Postgres | valkey.Valkey] = []
    gid = block.web if block else None
    if not plan.conf.database_url:
        found.append(
            postgres.Postgres(
                programs=place.seen(postgres.programs()),
                data=place.state / "postgres" / "data",
                sockets=place.sockets / "postgres",
                log=log / "postgres.log",
                uid=block.postgres if block else None,
                gid=gid,
            )
        )
    if not plan.conf.broker_url:
        found.append(
            valkey.Valkey(
                program=place.seen(valkey.program()),
                data=place.state / "valkey",
                socket=place.sockets / "valkey" / "valkey.sock",
                log=log / "valkey.log",
                uid=block.valkey if block else None,
                gid=gid,
            )
        )
    return found


def web(plan: Plan, env: Mapping[str, str], sockets: Sequence[int], *, with_beat: bool = False) -> Part:
    """The web process on sockets that are bound already.

    ``with_beat``: reaper, webhooks and clean-up stand in it too. They need next to no CPU, and 50 MB in a process of
    their own.
    """
    arguments = ["-m", "era_project.serve.web", *(["--beat"] if with_beat else []), *map(str, sockets)]
    return _django(plan, env, "web", arguments, uid=plan.web_uid, descriptors=sockets)


def worker(plan: Plan, env: Mapping[str, str]) -> Part:
    """The worker; as root it stays root, because it builds sandboxes, in the group of the others."""
    return _django(plan, env, "worker", ["manage.py", "worker", "--embedded"], uid=None)


def _django(
    plan: Plan,
    env: Mapping[str, str],
    name: str,
    arguments: Sequence[str],
    *,
    uid: int | None,
    descriptors: Sequence[int] = (),
) -> Part:
    return Part(
        name=name,
        argv=[str(plan.place.python), *arguments],
        env=env,
        cwd=plan.place.code,
        uid=uid,
        gid=plan.web_uid,
        umask=SHARED_UMASK if plan.block else 0o077,
        stop_signal=signal.SIGTERM,
        death_signal=signal.SIGTERM,
        descriptors=descriptors,
    )

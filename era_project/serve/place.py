"""Where one server's files are seen by its parts: short paths that its unprivileged uids can walk to.

As root the parts run under other uids, which cannot walk through a 0700 parent such as /root. So the supervisor takes a
mount namespace of its own and binds what they need below ``/run/era/<8 hex>``: a bind is not walked through its source's
parents, and nothing stays mounted after the last process. It also keeps socket paths short (108 bytes at most).
An ordinary user's parts run as that user: only a long state path needs a short link to it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from era_project import conf
from era_project.serve import linux
from era_project.serve.failures import CannotServe
from era_project.serve.uids import UidBlock

ROOT_HOME = Path("/run/era")
HOME_BYTES = 64 << 20
LONGEST_STATE = 70
"""Bytes of a state path under which every socket's path stays below 108."""


class PlaceError(CannotServe):
    """The server's folders cannot be laid out; the text is one sentence with the remedy."""


@dataclass(frozen=True)
class Place:
    """Folders as the parts see them; ``home`` is None where the state is used under its own name."""

    state: Path
    runtimes: Path
    code: Path
    python: Path
    home: Path | None = None

    @property
    def sockets(self) -> Path:
        """Where PostgreSQL and Valkey listen."""
        return self.state / "sockets"

    def seen(self, path: Path) -> Path:
        """A file of this process's own environment as the parts see it."""
        return path if self.home is None else self.python.parent.parent / path.relative_to(sys.prefix)


def name_of(state: Path) -> str:
    """Eight hex digits that stand for a state folder."""
    return hashlib.sha256(os.fsencode(state.resolve())).hexdigest()[:8]


def code_folder() -> Path:
    """The checkout that this process runs from."""
    return Path(__file__).resolve().parents[2]


def for_user(state: Path, runtimes: Path) -> Place:
    """The place of an ordinary user's server."""
    home = None
    if len(os.fsencode(state)) > LONGEST_STATE:
        home = _own_folder(_short_parent() / f"era-{os.getuid()}-{name_of(state)}")
        link = home / "state"
        link.unlink(missing_ok=True)
        link.symlink_to(state)
        state = link
    return Place(state, runtimes, code_folder(), Path(sys.executable), home)


def _short_parent() -> Path:
    given = conf.inherited("XDG_RUNTIME_DIR").get("XDG_RUNTIME_DIR", "")
    return Path(given) if given and len(given) < LONGEST_STATE // 2 and Path(given).is_dir() else Path("/tmp")


def _own_folder(path: Path) -> Path:
    """``path`` as a 0700 folder of this user's, whoever else may write beside it."""
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PlaceError(f"{path} belongs to somebody else: remove it or set XDG_RUNTIME_DIR.")
    return path


def for_root(state: Path, runtimes: Path, block: UidBlock, *, shown: Sequence[str]) -> Place:
    """The place of root's server, in a mount namespace that the calling process has from now on.

    ``shown`` are the names in ``state`` that the parts see, so that the folder itself may stay closed to them.

    Raises:
        PlaceError: this container forbids mounts.
    """
    home = ROOT_HOME / name_of(state)
    home.mkdir(parents=True, exist_ok=True, mode=0o755)
    try:
        linux.own_mount_namespace()
        linux.mount_memory(home, size_bytes=HOME_BYTES)
        for name, source in (("rt", runtimes), ("code", code_folder()), ("venv", Path(sys.prefix))):
            _show(source, home / name)
        (home / "state").mkdir()
        for name in shown:
            _show(state / name, home / "state" / name)
        _bind_accounts(home, block)
    except OSError as error:
        raise PlaceError(
            f"Root without the right to mount cannot run the server ({error}): run it as a user."
        ) from error
    return Place(home / "state", home / "rt", home / "code", home / "venv/bin/python", home)


def _show(source: Path, target: Path) -> None:
    if source.is_dir():
        target.mkdir()
    else:
        target.touch()
    linux.bind(source, target)


def leave(home: Path) -> None:
    """Takes down what :func:`for_root` mounted, once no part is left; the calling process keeps its namespace."""
    for path in (Path("/etc/passwd"), Path("/etc/group"), home):
        with contextlib.suppress(OSError):
            linux.unmount(path)
    with contextlib.suppress(OSError):
        home.rmdir()


def leave_short(home: Path) -> None:
    """Removes the short way to its state folder that :func:`for_user` made."""
    with contextlib.suppress(OSError):
        (home / "state").unlink()
        home.rmdir()


def inside(home: Path) -> Place:
    """The place of a process that entered the namespace of the server at ``home``."""
    return Place(home / "state", home / "rt", home / "code", home / "venv/bin/python", home)


def _bind_accounts(home: Path, block: UidBlock) -> None:
    """Gives the block's uids names inside the namespace: initdb refuses to run without one."""
    names = {"era-postgres": block.postgres, "era-valkey": block.valkey, "era-web": block.web}
    lines = [f"{name}:x:{uid}:{uid}::/nonexistent:/usr/sbin/nologin\n" for name, uid in names.items()]
    groups = [f"{name}:x:{uid}:\n" for name, uid in names.items()]
    for file, added in (("passwd", lines), ("group", groups)):
        copy = home / file
        kept = Path("/etc", file).read_text() if Path("/etc", file).exists() else ""
        copy.write_text(kept.rstrip("\n") + "\n" + "".join(added))
        copy.chmod(0o644)
        if Path("/etc", file).exists():
            linux.bind(copy, Path("/etc", file))

"""The file trees of the world and of a slot."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from runners.backends.slot.guest import linux
from runners.backends.slot.guest.settings import Settings

DEVICES = ("null", "zero", "full", "random", "urandom")
SCRATCH = (("/tmp", "tmp"), ("/dev/shm", "shm"), ("/home/sandbox", "home"))
"""Three views of one tmpfs: place, folder in it."""

_NEW = "/new"
_SCRATCH_ROOT = "/.scratch"
_SCRATCH_FILES = 20_000
_BARE = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
_TMPFS = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOATIME
_LINKS = {
    "bin": "usr/bin",
    "sbin": "usr/bin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "dev/fd": "/proc/self/fd",
    "dev/stdin": "/proc/self/fd/0",
    "dev/stdout": "/proc/self/fd/1",
    "dev/stderr": "/proc/self/fd/2",
}


def mount_root(place: str, owner: int = 0) -> None:
    """A small tmpfs that is to become a root."""
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    options = f"size=8m,nr_inodes=1024,mode=755,uid={owner},gid={owner}"
    linux.mount("tmpfs", place, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, options)


def fill_root(root: str, *, trees: Mapping[str, int], etc: Mapping[str, str], old: str) -> None:
    """Folders, links, devices, /etc and the read-only ``trees`` (place -> detached tree) below ``root``."""
    for folder in ("usr/lib64", "etc", "proc", "dev", "tmp", "home/sandbox", "workspace", "opt/rt", "var", old):
        os.makedirs(f"{root}/{folder}", exist_ok=True)
    os.mkdir(root + _SCRATCH_ROOT)
    for place, tree in sorted(trees.items()):
        _attach(tree, root + place)
    for name, target in _LINKS.items():
        os.symlink(target, f"{root}/{name}")
    for name, text in etc.items():
        write_text(f"{root}/etc/{name}", text)
    for name in DEVICES:
        write_text(f"{root}/dev/{name}", "")
        linux.bind("/dev/" + name, f"{root}/dev/{name}")


def _attach(tree: int, target: str) -> None:
    is_folder = stat.S_ISDIR(os.fstat(tree).st_mode)
    os.makedirs(target if is_folder else os.path.dirname(target), exist_ok=True)
    if not is_folder:
        write_text(target, "")
    linux.attach_tree(tree, target)


def write_text(path: str, text: str) -> None:
    """A new file."""
    with open(path, "w") as file:
        file.write(text)


def seal_root() -> None:
    """Make the root itself read-only; submounts keep their own flags."""
    linux.mount(None, "/", None, linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV)


def build_slot_root(settings: Settings, workspace: str) -> int:
    """Pivot into a slot's own tree; returns a descriptor of a writable view of /proc, for pid 1 alone.

    Args:
        workspace: Name of the folder of /ws to show at /workspace; empty: a tmpfs.
    """
    trees = {place: linux.clone_tree(place) for place in settings.visible}
    mount_root(_NEW, os.geteuid())
    fill_root(_NEW, trees=trees, etc=settings.etc, old=".old")
    for name in DEVICES:
        flags = linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NOEXEC
        linux.mount(None, f"{_NEW}/dev/{name}", None, flags)
    os.mkdir(_NEW + "/dev/shm")
    _mount_queues(_NEW + "/dev/mqueue")
    linux.mount("proc", _NEW + "/proc", "proc", _BARE, "hidepid=invisible")
    proc = os.open(_NEW + "/proc", os.O_RDONLY | os.O_DIRECTORY)
    linux.bind(_NEW + "/proc", _NEW + "/proc", linux.MS_RDONLY | _BARE)
    if workspace:
        linux.attach_tree(linux.clone_tree("/ws/" + workspace, read_only=False), _NEW + "/workspace")
    linux.pivot(_NEW, ".old")
    mount_scratch(settings.scratch_bytes)
    if not workspace:
        mount_workspace(settings.workspace_bytes, settings.workspace_files)
    seal_root()
    return proc


def _mount_queues(place: str) -> None:
    # Read-only: user code may own its root (shared uid), and a chmod or utime there would outlive the run.
    # mq_open goes through the kernel's own mount.
    os.mkdir(place)
    linux.mount("mqueue", place, "mqueue", _BARE)
    linux.mount(None, place, None, linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY | _BARE)


def mount_scratch(size_bytes: int) -> None:
    """A fresh tmpfs, shown at the three places of SCRATCH and nowhere else."""
    options = f"size={size_bytes},nr_inodes={_SCRATCH_FILES},mode=700"
    linux.mount("tmpfs", _SCRATCH_ROOT, "tmpfs", _TMPFS, options)
    for place, folder in SCRATCH:
        os.mkdir(f"{_SCRATCH_ROOT}/{folder}")
        os.chmod(f"{_SCRATCH_ROOT}/{folder}", 0o1777)
        linux.mount(f"{_SCRATCH_ROOT}/{folder}", place, None, linux.MS_BIND)
    linux.umount(_SCRATCH_ROOT)  # the binds keep it alive; its root, which user code may own, is out of reach


def resize_scratch(size_bytes: int) -> None:
    """Another bound for the tmpfs that is there."""
    options = f"size={size_bytes},nr_inodes={_SCRATCH_FILES}"
    linux.mount(None, SCRATCH[0][0], None, linux.MS_REMOUNT | _TMPFS, options)


def replace_scratch(size_bytes: int) -> None:
    """Throw the scratch places away, with all that lies there."""
    for place, _ in SCRATCH:
        linux.umount(place)
    mount_scratch(size_bytes)


def workspace_options(size_bytes: int, files: int) -> str:
    """Options of a workspace's tmpfs."""
    return f"size={size_bytes},nr_inodes={files},mode=1777"


def mount_workspace(size_bytes: int, files: int) -> None:
    """A fresh tmpfs at /workspace."""
    linux.mount("tmpfs", "/workspace", "tmpfs", _TMPFS, workspace_options(size_bytes, files))


def replace_workspace(size_bytes: int, files: int) -> None:
    """A fresh workspace; whoever holds a descriptor of the earlier one still reads it."""
    linux.umount("/workspace")
    mount_workspace(size_bytes, files)


def resize_workspace(size_bytes: int, files: int) -> None:
    """Other bounds for the tmpfs that is there."""
    flags = linux.MS_REMOUNT | _TMPFS
    linux.mount(None, "/workspace", None, flags, workspace_options(size_bytes, files).rsplit(",", 1)[0])

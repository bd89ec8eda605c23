"""First stage: from the starter's view of the host into a root that holds runtimes and libraries, read-only.

Python is exec'ed again inside, so that the file behind /proc/self/exe of every later process lies on a read-only
mount: the mount of exec time is what a chmod of /proc/self/exe goes through. The second stage is pid 1 of the world;
when it ends, everything in the world ends.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), "../../../..")))

from runners.backends.slot.guest import linux, rootfs
from runners.backends.slot.guest.settings import (
    GUEST_ID,
    HostSettings,
    Settings,
    dumps,
    read_json,
    write_memory_file,
)

_KEYCTL = {"x86_64": 250, "aarch64": 219}


def main(descriptor: int) -> None:
    """Build the world and become its pid 1; the calling process waits for it and ends with its exit code."""
    both = json.loads(read_json(descriptor))
    host, settings = HostSettings(**both["host"]), Settings(**both["settings"])
    os.close(descriptor)
    os.umask(0o022)  # whatever the server's is: folders of the world are walked by other uids
    _leave_session_keyring()
    _enter_namespaces(host)
    child = os.fork()
    if child:
        os.closerange(3, 1024)
        linux.prctl(linux.PR_SET_PDEATHSIG, 9)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)
    linux.prctl(linux.PR_SET_PDEATHSIG, 9)
    trees = {place: linux.clone_tree(source) for place, source in host.binds.items()}
    workspaces = linux.clone_tree(host.workspaces, read_only=False) if host.workspaces else -1
    rootfs.mount_root(host.root, GUEST_ID if host.mode == "one" else 0)
    os.chdir(host.root)  # from here on by relative paths: the world's root may not walk the host's folders
    if host.mode != "one":
        _become_world_root()
        linux.prctl(linux.PR_SET_PDEATHSIG, 9)  # the change of uid has cleared it
    _build(host, settings, trees)
    if workspaces >= 0:
        os.mkdir("/ws")
        linux.attach_tree(workspaces, "/ws")
    rootfs.seal_root()
    _exec_master(host, settings)


def _leave_session_keyring() -> None:
    # Keys of the starting user would be possessed inside otherwise.
    linux.LIBC.syscall(_KEYCTL.get(os.uname().machine, -1), 1, None)


def _enter_namespaces(host: HostSettings) -> None:
    uid, gid = os.getuid(), os.getgid()
    rest = linux.NEWNS | linux.NEWPID | linux.NEWNET | linux.NEWIPC | linux.NEWUTS | linux.NEWCGROUP
    if host.mode == "one":
        linux.unshare(linux.NEWUSER | rest)
        rootfs.write_text("/proc/self/setgroups", "deny")
        rootfs.write_text("/proc/self/uid_map", f"{GUEST_ID} {uid} 1")
        rootfs.write_text("/proc/self/gid_map", f"{GUEST_ID} {gid} 1")
        return
    mapper, start = _fork_mapper(host, uid, gid)
    if host.mode == "root":
        _own_by_block(host.uid_base)
    linux.unshare(linux.NEWUSER | rest)
    os.write(start, b"1")
    os.close(start)
    if os.waitpid(mapper, 0)[1]:
        raise SystemExit("the uid map of the world was refused")


def _own_by_block(uid: int) -> None:
    """Let the user namespace belong to the block's first uid: the kernel charges inotify and more to the owner.

    The file system id stays root's, so that folders of mode 0700 can still be walked to build the mounts.
    """
    os.setegid(uid)
    os.seteuid(uid)
    linux.LIBC.setfsuid(0)
    linux.LIBC.setfsgid(0)
    linux.prctl(linux.PR_SET_DUMPABLE, 1)


def _fork_mapper(host: HostSettings, uid: int, gid: int) -> tuple[int, int]:
    """A process that keeps the host's rights and writes the world's uid and gid maps when told."""
    target = os.getpid()
    ready, start = os.pipe()
    mapper = os.fork()
    if mapper:
        os.close(ready)
        return mapper, start
    os.close(start)
    code = 1
    if os.read(ready, 1):
        code = _map_root(host, target) if host.mode == "root" else _map_sub(host, target, uid, gid)
    os._exit(code)


def _map_root(host: HostSettings, target: int) -> int:
    for kind in ("uid", "gid"):
        rootfs.write_text(f"/proc/{target}/{kind}_map", f"0 {host.uid_base} {host.uid_count}\n")
    return 0


def _map_sub(host: HostSettings, target: int, uid: int, gid: int) -> int:
    for kind, own, block in (("uid", uid, host.sub_uids), ("gid", gid, host.sub_gids)):
        program = f"{host.mapper}/new{kind}map"
        argv = [program, str(target), "0", str(own), "1", "1", *map(str, block)]
        if os.spawnv(os.P_WAIT, program, argv):
            return 1
    return 0


def _become_world_root() -> None:
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _build(host: HostSettings, settings: Settings, trees: dict[str, int]) -> None:
    rootfs.fill_root(".", trees=trees, etc=settings.etc, old=".host")
    linux.mount("proc", "./proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    for target, source in host.links.items():
        os.symlink(source, "." + target)
    for target, text in host.files.items():
        os.makedirs(os.path.dirname("." + target), exist_ok=True)
        rootfs.write_text("." + target, text)
    os.mkdir("./new")
    linux.pivot(".", ".host")


def _exec_master(host: HostSettings, settings: Settings) -> None:
    settings.visible = sorted({*host.binds, "/opt/rt/drivers"} - {""})
    descriptor = write_memory_file(dumps(settings))
    for kept in (settings.control, settings.control_preloaded):
        os.set_inheritable(kept, True)
    argv = [host.python, "-u", "/app/runners/backends/slot/guest/master.py", str(descriptor)]
    os.execve(host.python, argv, {"LANG": "C.UTF-8"})


if __name__ == "__main__":
    ctypes.set_errno(0)
    main(int(sys.argv[1]))

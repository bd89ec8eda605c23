"""The backend of slots: which mode, which limits, and one run from start to end."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runners import tree
from runners.backends.base import Hooks
from runners.backends.slot import driven, oneshot, uids
from runners.backends.slot.cgroups import Cgroups
from runners.backends.slot.handover import give
from runners.backends.slot.keeper import Keeper
from runners.backends.slot.live import Care, LiveSandbox
from runners.backends.slot.pool import Builder, Busy, Capacity, Pool, Want
from runners.backends.slot.slot import NoRoomError, Slot, SlotBroken
from runners.backends.slot.starter import World, WorldSpec
from runners.languages import LANGUAGES
from runners.languages.python import imports
from runners.types import Changes, Enforcement, Kept, Limits, RunResult, RunSpec, SandboxUnavailable, Status

log = logging.getLogger(__name__)

MODES = ("root", "sub", "one")
ATTEMPTS = 3
_HELLO = RunSpec("python", "print(6 * 7)")


@dataclass(frozen=True)
class SlotConfig:
    """What the runner's configuration means for slots."""

    runtimes: Path
    workspaces: Path
    run_dir: Path
    mode: str
    strict: bool
    once: int
    live: int
    cgroup: str
    uid_base: int | None = None
    uid_count: int = 0
    parked: Mapping[str, int] = field(default_factory=dict)


class SlotBackend:
    """Everything that runs in slots of one world."""

    def __init__(self, config: SlotConfig, mode: str) -> None:
        """Build the world and really run a program in a slot of it.

        Raises:
            OSError: The mode cannot be had here.
            SlotBroken: A slot cannot be had.
        """
        self._config, self.mode = config, mode
        self._block: uids.Block | None = None
        self._cgroups = self._make_cgroups()
        self._world: World | None = None
        self._builder: Builder | None = None
        self._keeper: Keeper | None = None
        try:
            capacity = Capacity(config.once, config.live, config.once + 2)
            self._world = World(self._world_spec(capacity))
            self._terms = oneshot.Terms(strangers=mode == "sub", cgroups=self._cgroups is not None)
            self._builder = Builder(self._world, self._cgroups, capacity)
            self._pool = Pool(self._builder, capacity, strict=config.strict)
            self._prove()
        except BaseException:
            self.close()
            raise
        self._keeper = Keeper(watches_memory=not self._terms.cgroups)
        self.enforcement = _enforcement(mode, self._terms.cgroups)

    def _make_cgroups(self) -> Cgroups | None:
        try:
            return Cgroups(self._config.cgroup)
        except OSError as error:
            log.info("No cgroups: limits are held by rlimits and a watchdog.", extra={"reason": str(error)})
            return None

    def _world_spec(self, capacity: Capacity) -> WorldSpec:
        config = self._config
        root = config.run_dir / "root"
        root.mkdir(parents=True, exist_ok=True)
        config.workspaces.mkdir(parents=True, exist_ok=True)
        base, count = self._uids() if self.mode == "root" else (0, 0)
        if self.mode == "root" and 2 * capacity.indexes + 1 > count:
            raise OSError(f"{count} host uids are too few for {capacity.indexes} slots")
        mapper, sub_uids, sub_gids = _sub_ranges(capacity) if self.mode == "sub" else ("", (), ())
        return WorldSpec(
            mode=self.mode,
            runtimes=config.runtimes.resolve(),
            workspaces=config.workspaces.resolve(),
            root=root.resolve(),
            cgroups=self._cgroups is not None,
            cpus=0 if self._cgroups else 1,
            inotify_instances=_inotify_share(capacity),
            uid_base=base,
            uid_count=count,
            mapper=mapper,
            sub_uids=sub_uids,
            sub_gids=sub_gids,
        )

    def _uids(self) -> tuple[int, int]:
        if self._config.uid_base is not None:
            return self._config.uid_base, self._config.uid_count
        self._block = uids.claim()
        return self._block.base, self._block.count

    def _prove(self) -> None:
        result = self.run(_HELLO, Hooks())
        if result.stdout.content != b"42\n":
            text = result.reason or result.stderr.content.decode("utf-8", "replace")
            raise OSError(text.strip().rsplit("\n", 1)[-1] or "a program in a slot gave no output")

    def run(self, spec: RunSpec, hooks: Hooks) -> RunResult:
        """Run to the end; what user code does is a result, never an exception."""
        started: list[bool] = []
        watched = Hooks(hooks.on_output, lambda: _note(started, hooks), hooks.cancel)
        for attempt in range(ATTEMPTS):
            if hooks.cancel and hooks.cancel.requested and not started:
                return RunResult(Status.CANCELLED, oneshot.KILLED_CODE)
            try:
                return self._run_once(spec, watched)
            except SlotBroken as error:
                log.warning("A slot broke.", extra={"reason": str(error), "attempt": attempt})
                if started or attempt == ATTEMPTS - 1:
                    return RunResult(Status.SANDBOX_ERROR, None, reason=f"The sandbox broke: {error}")
        raise AssertionError("unreachable")

    def _run_once(self, spec: RunSpec, hooks: Hooks) -> RunResult:
        is_python = LANGUAGES[spec.language].once is None
        slot = self._pool.take(self._want(spec, is_python=is_python))
        try:
            if spec.workspace:
                self._hand_over(slot)
            if is_python:
                return oneshot.run_python(slot, spec, hooks, self._terms)
            return driven.run(slot, spec, hooks, self._terms)
        except NoRoomError as error:
            slot.destroy()
            return _no_room(str(error))
        except BaseException:  # whatever happened, nothing is known about the slot any more
            slot.destroy()
            raise
        finally:
            self._renew(slot, spec.language)
            self._pool.give(slot)

    def _want(self, spec: RunSpec, *, is_python: bool) -> Want:
        return Want(
            preloaded=is_python and self._wants_preloaded(spec.code),
            key=None if is_python else driven.key_of(spec.language, spec.limits, self._terms),
            workspace=spec.workspace or "",
            index=self._index_of(spec.workspace) if spec.workspace else -1,
        )

    def _index_of(self, workspace: str) -> int:
        """The pair of uids whose user code owns the folder already; then nothing has to change hands."""
        base = self._world.spec.uid_base if self._world else 0
        if not base:
            return -1
        owner = (self._config.workspaces / workspace).lstat().st_uid
        return (owner - base - 2) // 2 if owner >= base + 2 and (owner - base) % 2 == 0 else -1

    def _wants_preloaded(self, code: str) -> bool:
        assert self._world is not None
        return "import" in code and not self._world.spec.preload_names.isdisjoint(imports(code))

    def _renew(self, slot: Slot, language: str) -> None:
        """Boot the language's driver again in the slot that was just used, if one more is to be kept ahead."""
        if slot.destroyed or slot.order.workspace or language not in self._config.parked or self._config.strict:
            return
        try:
            if self._parked(language) < self._config.parked[language]:
                driven.prepare(slot, language, self._terms)
        except OSError:
            slot.destroy()

    def _parked(self, language: str) -> int:
        key = driven.key_of(language, Limits(), self._terms)
        return self._pool.count(lambda slot: slot.prepared is not None and slot.prepared.key == key)

    def open(self, *, language: str, workspace: str, limits: Limits) -> LiveSandbox:
        """A sandbox that stays.

        Raises:
            SandboxUnavailable: It cannot be had.
        """
        assert self._builder is not None
        assert self._keeper is not None
        program = LANGUAGES[language].live
        if program is None:
            raise SandboxUnavailable(f"Runs of {language} are programs of their own: nothing of them stays.")
        try:
            slot = self._builder.build(
                live=True,
                workspace=workspace,
                preloaded=language == "python",
                index=self._index_of(workspace),
                limits=limits,
            )
        except (SlotBroken, Busy) as error:
            raise SandboxUnavailable(f"No sandbox for the session could be built: {error}") from error
        try:
            self._hand_over(slot)
            prepared = driven.start_driver(slot, program, limits, self._terms, None)
        except BaseException:
            self._builder.destroy(slot)
            raise
        care = Care(self._keeper, self._builder.destroy, watches_memory=not self._terms.cgroups)
        return LiveSandbox(slot, prepared, language, limits, care)

    def _hand_over(self, slot: Slot) -> None:
        """Give the session's folder to the slot's user code."""
        if slot.owner.uid < 0:
            return
        folder = tree.open_root(self._config.workspaces / slot.order.workspace)
        try:
            give(folder, slot.owner.uid)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Kill everything; leave no process, mount or cgroup."""
        if self._builder:
            self._builder.close()
        if self._keeper:
            self._keeper.close()
            self._keeper = None
        if self._world:
            self._world.close()
        if self._cgroups:
            self._cgroups.close()
        if self._block:
            self._block.release()
            self._block = None
        shutil.rmtree(self._config.run_dir / "root", ignore_errors=True)


def _no_room(text: str) -> RunResult:
    message = f"The input files do not fit into the workspace, which is half of the run's memory: {text}\n"
    return RunResult(Status.FAILED, 1, stderr=Kept(message.encode(), len(message)), changes=Changes())


def _note(started: list[bool], hooks: Hooks) -> None:
    started.append(True)
    if hooks.on_start:
        hooks.on_start()


def _inotify_share(capacity: Capacity) -> int:
    """Instances of a slot: the kernel also counts those of all slots together."""
    with open("/proc/sys/user/max_inotify_instances") as file:
        return max(2, min(16, int(file.read()) // (capacity.once + capacity.live)))


def _sub_ranges(capacity: Capacity) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    mapper = shutil.which("newuidmap")
    if not mapper or not shutil.which("newgidmap"):
        raise OSError("newuidmap is not installed (package uidmap)")
    wanted = 2 * capacity.indexes + 1
    ranges = [_sub_range(Path(f"/etc/sub{kind}"), wanted) for kind in ("uid", "gid")]
    return str(Path(mapper).parent), ranges[0], ranges[1]


def _sub_range(path: Path, wanted: int) -> tuple[int, int]:
    import pwd

    names = {pwd.getpwuid(os.getuid()).pw_name, str(os.getuid())}
    for line in path.read_text().splitlines():
        name, first, count = line.split(":")
        if name in names and int(count) >= wanted:
            return int(first), int(count)
    raise OSError(f"{path} has no range of {wanted} ids for this user")


def _enforcement(mode: str, cgroups: bool) -> Enforcement:
    uid = {
        "root": "two host uids of its own",
        "sub": "two subordinate uids of its own",
        "one": "this server's uid, shared",
    }[mode]
    if cgroups:
        held = {"memory": "kernel (cgroup)", "processes": "kernel (cgroup)", "cpu": "kernel (cgroup quota)"}
    else:
        held = {
            "memory": "watched every 10 ms, can overshoot by about the limit",
            "processes": "kernel (RLIMIT_NPROC in a user namespace)",
            "cpu": "pinned to one core, no share",
        }
    held["workspace"] = "kernel (tmpfs size and inodes)"
    held["network"] = "kernel (a network namespace with nothing but loopback)"
    held["uid"] = uid
    return Enforcement("slot", mode, held)


def start(config: SlotConfig) -> SlotBackend:
    """The first mode that really works here.

    Raises:
        SandboxUnavailable: None does; the text says why and what to do.
    """
    modes = _candidates(config.mode)
    reasons = []
    for mode in modes:
        try:
            return SlotBackend(config, mode)
        except (OSError, SlotBroken) as error:
            log.info("A sandbox mode is not available.", extra={"mode": mode, "reason": str(error)})
            reasons.append(f"{mode}: {error}")
    raise SandboxUnavailable(f"No sandbox can be built here ({'; '.join(reasons)}). {_remedy(reasons)}")


def _candidates(wanted: str) -> tuple[str, ...]:
    if wanted != "auto":
        return (wanted,)
    return ("root",) if os.geteuid() == 0 else ("sub", "one")


def _remedy(reasons: list[str]) -> str:
    text = " ".join(reasons)
    if "proc" in text and "not permitted" in text:
        return "This container masks /proc: start it with an unmasked /proc (Docker: --security-opt systempaths=unconfined)."
    if "unshare" in text or "uid_map" in text or "space" in text:
        return (
            "User namespaces are forbidden: allow them (sysctl user.max_user_namespaces, "
            "kernel.apparmor_restrict_unprivileged_userns=0, or in Docker a seccomp profile that lets unshare pass)."
        )
    return "Linux 5.14 or newer with user namespaces is needed."

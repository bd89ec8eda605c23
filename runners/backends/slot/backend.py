"""The backend of slots: one run from start to end, and sandboxes that stay."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runners import tree, uids
from runners.backends.base import Hooks
from runners.backends.slot import driven, modes, oneshot
from runners.backends.slot.aftercare import Aftercare
from runners.backends.slot.cgroups import Cgroups, remove_stale
from runners.backends.slot.handover import give
from runners.backends.slot.keeper import Keeper
from runners.backends.slot.live import Care, LiveSandbox
from runners.backends.slot.pool import Builder, Busy, Capacity, Pool, Want
from runners.backends.slot.slot import NoRoomError, Slot, SlotBroken
from runners.backends.slot.starter import WorldSpec
from runners.backends.slot.stock import Plan, Stock
from runners.backends.slot.worlds import Worlds
from runners.languages import LANGUAGES
from runners.languages.python import imports
from runners.types import Changes, Kept, Limits, RunResult, RunSpec, SandboxUnavailable, Status

log = logging.getLogger(__name__)

ATTEMPTS = 3
OWN_PREFIX = "era-run-"
"""Of cgroups of a runner that was given no name; its pid follows."""
_PROOF = """
import ctypes, os, resource
with open("/proc/self/status") as status:
    lines = dict(line.split(":", 1) for line in status)
if lines["CapEff"].strip("\\t\\n0") or lines["NoNewPrivs"].strip() != "1" or lines["Seccomp"].strip() != "2":
    raise SystemExit("user code keeps rights")
reached = []
for name, reach in (
    ("signal", lambda: os.kill(1, 0)),
    ("limits", lambda: resource.prlimit(1, resource.RLIMIT_NOFILE, (3, 3))),
    ("memory", lambda: open("/proc/1/mem", "rb")),
    ("namespaces", lambda: os.unshare(0x10000000)),
    ("interpreter", lambda: os.chmod("/proc/self/exe", 0o755)),
):
    try:
        reach()
    except OSError:
        continue
    reached.append(name)
if reached:
    raise SystemExit("user code reached what it must not: " + ", ".join(reached))
print(6 * 7)
"""
"""Run at every start: the walls that everything relies on do stand here."""
_LOOKED_AT_CHARS = 65_536
"""Of a program's start, for its imports."""


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
    usual: Limits = field(default_factory=Limits)


@dataclass
class _Parts:
    """What has to be let go of, in the order in which it was had."""

    block: uids.Block | None = None
    cgroups: Cgroups | None = None
    worlds: Worlds | None = None

    def close(self) -> None:
        if self.worlds:
            self.worlds.close()
        if self.cgroups:
            self.cgroups.close()
        if self.block:
            self.block.release()
        self.block = self.cgroups = self.worlds = None


class SlotBackend:
    """Everything that runs in slots of one mode."""

    def __init__(self, config: SlotConfig, mode: str) -> None:
        """Build the world and really run a program in a slot of it.

        Raises:
            OSError: The mode cannot be had here.
            SlotBroken: A slot cannot be had.
        """
        self._config, self.mode, self._closed = config, mode, False
        idle = config.once + sum(config.parked.values()) + 2
        capacity = Capacity(config.once, config.live, idle)
        self._parts = _Parts()
        try:
            self._parts.cgroups = _cgroups(config.cgroup)
            self._parts.worlds = worlds = Worlds(self._world_spec(capacity))
            self._uid_base, self._preload_names = worlds.spec.uid_base, worlds.spec.preload_names
        except BaseException:
            self._parts.close()
            raise
        self._terms = oneshot.Terms(mode == "sub", self._parts.cgroups is not None, str(config.workspaces))
        self._builder = Builder(worlds, self._parts.cgroups, capacity)
        self._pool = Pool(self._builder, capacity, strict=config.strict)
        self._keeper = Keeper(watches_memory=not self._terms.cgroups)
        self._stock = Stock(self._pool, self._terms, Plan(config.parked, config.usual, config.strict))
        self._aftercare = Aftercare(self._pool, self._stock)
        self.enforcement = modes.enforcement(mode, cgroups=self._terms.cgroups)
        try:
            self._prove()
        except BaseException:
            self.close()
            raise
        self._aftercare.start()
        self._stock.start()

    def _world_spec(self, capacity: Capacity) -> WorldSpec:
        config, wanted = self._config, 2 * capacity.indexes + 1
        root = config.run_dir / "root"
        root.mkdir(parents=True, exist_ok=True)
        config.workspaces.mkdir(parents=True, exist_ok=True)
        base, count = self._uids(wanted) if self.mode == "root" else (0, 0)
        mapper, sub_uids, sub_gids = modes.sub_ranges(wanted) if self.mode == "sub" else ("", (), ())
        return WorldSpec(
            mode=self.mode,
            runtimes=config.runtimes.resolve(),
            workspaces=config.workspaces.resolve(),
            root=root.resolve(),
            cgroups=self._parts.cgroups is not None,
            cpus=0 if self._parts.cgroups else 1,
            inotify_instances=_inotify_share(capacity),
            uid_base=base,
            uid_count=count,
            mapper=mapper,
            sub_uids=sub_uids,
            sub_gids=sub_gids,
        )

    def _uids(self, wanted: int) -> tuple[int, int]:
        if self._config.uid_base is not None:
            base, count = self._config.uid_base, self._config.uid_count
        else:
            self._parts.block = block = uids.claim(wanted)
            if block is None:
                raise OSError(f"no {wanted} free host uids in a row are left here")
            base, count = block.base, block.count
        if count < wanted:
            raise OSError(f"{count} host uids are too few: {wanted} are needed")
        return base, count

    def _prove(self) -> None:
        result = self._run_once(RunSpec("python", _PROOF), Hooks())
        if result.stdout.content != b"42\n":
            text = result.reason or result.stderr.content.decode("utf-8", "replace")
            raise OSError(text.strip().rsplit("\n", 1)[-1] or "a program in a slot gave no output")

    def run(self, spec: RunSpec, hooks: Hooks) -> RunResult:
        """Run to the end; what user code does is a result, never an exception."""
        started: list[bool] = []
        watched = Hooks(hooks.on_output, lambda: _note(started, hooks), hooks.cancel)
        for attempt in range(1, ATTEMPTS + 1):
            if hooks.cancel and hooks.cancel.requested and not started:
                return RunResult(Status.CANCELLED, oneshot.KILLED_CODE)
            try:
                return self._run_once(spec, watched)
            except (SlotBroken, Busy) as error:
                if started or self._closed or attempt == ATTEMPTS:
                    return RunResult(Status.SANDBOX_ERROR, None, reason=f"The sandbox broke: {error}")
                log.warning("A slot broke before its run; another is tried.", extra={"reason": str(error)})
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
            self._let_go(slot, spec.language)

    def _let_go(self, slot: Slot, language: str) -> None:
        if slot.unanswered or (self._stock.keeps(language) and not slot.destroyed):
            self._aftercare.take(slot, language)
            return
        self._stock.renew(slot, language)
        self._pool.give(slot)

    def _want(self, spec: RunSpec, *, is_python: bool) -> Want:
        is_unlike = is_python or spec.terminal or driven.boot_variables(spec)
        return Want(
            preloaded=is_python and self._wants_preloaded(spec.code),
            key=None if is_unlike else driven.key_of(spec.language, spec.limits, self._terms),
            workspace=_checked(spec.workspace) if spec.workspace else "",
            index=self._index_of(spec.workspace) if spec.workspace else -1,
        )

    def _wants_preloaded(self, code: str) -> bool:
        return "import" in code and not self._preload_names.isdisjoint(imports(code[:_LOOKED_AT_CHARS]))

    def _index_of(self, workspace: str) -> int:
        """The pair of uids whose user code owns the folder already; then nothing has to change hands."""
        if not self._uid_base:
            return -1
        owner = (self._config.workspaces / _checked(workspace)).lstat().st_uid - self._uid_base
        return (owner - 2) // 2 if owner >= 2 and owner % 2 == 0 else -1

    def open(self, *, language: str, workspace: str, limits: Limits) -> LiveSandbox:
        """A sandbox that stays.

        Raises:
            SandboxUnavailable: It cannot be had.
        """
        program = LANGUAGES[language].live
        if program is None:
            raise SandboxUnavailable(f"Runs of {language} are programs of their own: nothing of them stays.")
        try:
            slot = self._builder.build(
                live=True,
                workspace=_checked(workspace),
                preloaded=language == "python",
                index=self._index_of(workspace),
                limits=limits,
            )
        except (SlotBroken, Busy) as error:
            raise SandboxUnavailable(f"No sandbox for the session could be built: {error}") from error
        try:
            self._hand_over(slot)
            prepared = driven.start_driver(slot, program, limits, self._terms, None)
        except SlotBroken as error:
            self._builder.destroy(slot)
            raise SandboxUnavailable(f"The session's sandbox broke: {error}") from error
        except BaseException:
            self._builder.destroy(slot)
            raise
        care = Care(self._keeper, self._builder.destroy, self._terms)
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
        if self._closed:
            return
        self._closed = True
        self._stock.close()
        self._builder.close(self._pool.close())
        self._aftercare.close()
        self._keeper.close()
        self._parts.close()
        shutil.rmtree(self._config.run_dir / "root", ignore_errors=True)


def _cgroups(name: str) -> Cgroups | None:
    try:
        if not name:
            remove_stale(OWN_PREFIX)
        return Cgroups(name or f"{OWN_PREFIX}{os.getpid()}")
    except OSError as error:
        log.info("No cgroups: limits are held by rlimits and a watchdog.", extra={"reason": str(error)})
        return None


def _checked(workspace: str) -> str:
    if not workspace or "/" in workspace or workspace in (".", ".."):
        raise ValueError("a workspace is named by one segment of a path")
    return workspace


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


class SubBackend:
    """Subordinate uids for one-shots, the user's own uid where a session's folder, which is the user's, is worked in."""

    def __init__(self, config: SlotConfig) -> None:
        """See SlotBackend."""
        half = max(1, config.once)
        self._once = SlotBackend(config, "sub")
        folder = SlotConfig(**{**config.__dict__, "run_dir": config.run_dir / "one", "once": half, "parked": {}})
        try:
            self._folders = SlotBackend(folder, "one")
        except BaseException:
            self._once.close()
            raise
        self.mode, self.enforcement = "sub", self._once.enforcement

    def run(self, spec: RunSpec, hooks: Hooks) -> RunResult:
        """See SlotBackend."""
        return (self._folders if spec.workspace else self._once).run(spec, hooks)

    def open(self, *, language: str, workspace: str, limits: Limits) -> LiveSandbox:
        """See SlotBackend."""
        return self._folders.open(language=language, workspace=workspace, limits=limits)

    def close(self) -> None:
        """See SlotBackend."""
        self._once.close()
        self._folders.close()


def start(config: SlotConfig) -> SlotBackend | SubBackend:
    """The first mode that really works here.

    Raises:
        SandboxUnavailable: None does; the text says why and what to do.
    """
    reasons = []
    for mode in modes.candidates(config.mode):
        try:
            return SubBackend(config) if mode == "sub" else SlotBackend(config, mode)
        except (OSError, SlotBroken, Busy) as error:
            log.info("A sandbox mode is not available.", extra={"mode": mode, "reason": str(error)})
            reasons.append(f"{mode}: {error}")
    raise SandboxUnavailable(f"No sandbox can be built here ({'; '.join(reasons)}). {modes.remedy(reasons)}")

"""A worker node from its start to its end: runner, lease, heart, control, consumers."""

from __future__ import annotations

import dataclasses
import gc
import logging
import queue
import resource
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from era_project import conf as settings
from runners import tree
from runners.runner import PARKED, Runner, RunnerConfig
from sessions_app import connections, control, execution, finishing, lease, live_commands, run_limits, workspace
from sessions_app.consumers import SPARE_THREADS, Consumers, by_language, groups
from sessions_app.execution import Executor
from sessions_app.lease import Heart, NodeFacts
from sessions_app.lives import Lives
from sessions_app.messages import Message, queue_of

logger = logging.getLogger(__name__)

LOOK_S = 0.5
WRITTEN_AT_STOP_S = 1.0
WRITTEN_AT_DRAIN_S = 60.0
"""How long a worker that ends waits for the rows of its last runs."""
DESCRIPTORS = 65_536
"""Of a worker. Source: a slot takes about 15, a hostile tree 256 while it is walked; the usual limit is 1,024."""
GO_IS_READY = Path("gocache/importcfg")
"""The last file that filling go's cache writes."""
LANGUAGES_OF_RUNS = "SELECT id, language FROM sessions_app_run WHERE id = ANY(%s::uuid[]) AND status = 'queued'"


@dataclass(frozen=True, slots=True)
class Options:
    """How a worker was started. ``is_embedded``: a stop kills what runs, for the server ends with it."""

    name: str
    languages: tuple[str, ...]
    slots: int
    is_embedded: bool


class Worker:
    """One node. :meth:`run` in the main thread; :meth:`stop` from anywhere, also from a signal handler."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._stop = threading.Event()
        self._asked: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._fenced = False
        self._executor: Executor | None = None

    def stop(self) -> None:
        """Ask it to end; asked twice, it no longer waits for what runs."""
        self._asked.put(None)  # takes no lock that the interrupted thread may hold, as an event's does

    def run(self) -> int:
        """Work until :meth:`stop`; the process's exit status."""
        allow_descriptors()
        threading.Thread(target=self._heed, name="era-stop", daemon=True).start()
        runner = Runner.start(runner_config(self._options))
        try:
            return self._serve(runner)
        finally:
            runner.close()

    def _heed(self) -> None:
        while True:
            self._asked.get()
            if self._stop.is_set() and self._executor is not None:
                self._executor.stop_all()
            self._stop.set()

    def _serve(self, runner: Runner) -> int:
        options = self._options
        ready = Ready(options, runner)
        mine = lease.register(_facts(options, runner, ready.languages))
        lives = Lives(runner, node=mine.node)
        lives.start()
        executor = self._executor = Executor(runner, mine, lives)
        execution.install(executor)
        clear_workspaces()
        consumers = Consumers(options.name)
        heart = Heart(mine, Hands(executor, consumers), on_fenced=self._on_fenced)
        reader = control.Reader(options.name, handlers(executor) | live_commands.handlers(lives))
        heart.start()
        reader.start()
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        consumers.start(groups(node=options.name, languages=list(ready.languages), slots=options.slots))
        logger.info("Node %s serves %s.", options.name, ", ".join(ready.languages), extra={"action": "serving"})
        while not self._stop.wait(LOOK_S) and consumers.is_alive and heart.is_alive() and reader.is_alive():
            if late := ready.become():
                consumers.start(by_language(late, options.slots))
                lease.serves(mine, ready.languages)
        status = 0 if self._stop.is_set() and not self._fenced else 1
        self._end(executor, consumers, mine)
        lives.stop(stores=not self._fenced)
        reader.stop()
        heart.stop()
        heart.join()
        if not self._fenced:
            lease.release(mine)
        return status

    def _end(self, executor: Executor, consumers: Consumers, mine: lease.Lease) -> None:
        """Embedded or fenced: kill. Else: finish what runs, hand over what waits."""
        if self._options.is_embedded or self._fenced:
            executor.stop_all()
            consumers.stop()
            executor.wait_written(timeout_s=WRITTEN_AT_STOP_S)
            return
        lease.drain(mine)
        waiting = consumers.waiting()
        consumers.stop()
        executor.wait_written(timeout_s=WRITTEN_AT_DRAIN_S)
        hand_over(waiting)

    def _on_fenced(self) -> None:
        self._fenced = True
        self._stop.set()


class Hands:
    """What the heart asks about: see :class:`sessions_app.lease.Held`."""

    def __init__(self, executor: Executor, consumers: Consumers) -> None:
        self.reserved = consumers.reserved
        self.executing = executor.executing
        self.stop = executor.stop
        self.lose = executor.give_up


def handlers(executor: Executor) -> dict[str, control.Handler]:
    """What other processes may tell a node."""

    def cancel(command: Mapping[str, Any]) -> None:
        executor.stop(UUID(command["run_id"]))

    return {"cancel": cancel}


def hand_over(run_ids: Iterable[UUID]) -> None:
    """Send runs again that were taken from their queues and not begun."""
    with connections.postgres() as connection:
        queued = connection.execute(LANGUAGES_OF_RUNS, (list(run_ids),)).fetchall()
    finishing.send([Message(str(run_id), queue_of(language, None)) for run_id, language in queued])


def allow_descriptors() -> None:
    """Let this process open as many files as it may need, as far as its hard limit goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def clear_workspaces() -> None:
    """Remove the folders that an earlier worker of this node left."""
    parent = settings.get().workspaces_dir
    for name in workspace.leftovers(()):
        tree.remove_tree(parent, name)


def runner_config(options: Options) -> RunnerConfig:
    """The runner of this node."""
    conf = settings.get()
    return RunnerConfig(
        runtimes=conf.runtimes_dir,
        workspaces=conf.workspaces_dir,
        run_dir=conf.scratch_dir,
        mode=conf.slot_mode,
        strict=conf.slots == "strict",
        slots=options.slots,
        live=conf.live_max + options.slots + 2 * SPARE_THREADS,
        languages=options.languages,
        uid_base=conf.uid_block or None,
        uid_count=conf.uid_count,
        cgroup=conf.cgroup or None,
        parked=conf.parked or PARKED,
        usual=run_limits.one_shot(
            cpu_count=conf.default_cpu, memory_mib=conf.default_memory_mib, wall_time_s=conf.default_timeout_s
        ),
    )


class Ready:
    """Which of a node's languages can be run by now: go's build cache may still be filled while the others work."""

    def __init__(self, options: Options, runner: Runner) -> None:
        wanted = {name: version for name, version in runner.versions.items() if name in options.languages}
        self.languages = {name: version for name, version in wanted.items() if _is_ready(name)}
        self._late = {name: version for name, version in wanted.items() if name not in self.languages}

    def become(self) -> list[str]:
        """Languages that have become ready since the last call."""
        late = [name for name in self._late if _is_ready(name)]
        self.languages |= {name: self._late.pop(name) for name in late}
        return late


def _is_ready(language: str) -> bool:
    return language != "go" or (settings.get().runtimes_dir / GO_IS_READY).exists()


def _facts(options: Options, runner: Runner, languages: Mapping[str, str]) -> NodeFacts:
    return NodeFacts(
        name=options.name,
        languages=languages,
        slots=options.slots,
        enforced=dataclasses.asdict(runner.enforcement),
    )

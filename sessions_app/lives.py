"""The live sessions of one node: opened by their runs, frozen when idle, stored and ended when they must go."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django import db

from era_project.conf import get as conf
from era_project.errors import EraError
from runners.types import Limits
from sessions_app import live_opening, states
from sessions_app.live import SNAPSHOT_TIMEOUT_S, Live
from sessions_app.live_opening import Opens, Wanted

logger = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_S = 0.5
"""How often the keeper looks after its sessions."""
RETRY_S = 30.0
"""How long a failed store of variables waits before it is tried again."""
STORE_THREADS = 4
STOP_THREADS = 8
STOP_SNAPSHOT_TIMEOUT_S = 2.0
"""A server ends within 5 s: an interpreter that takes longer loses its variables."""
ENDED_BETWEEN = "The sandbox ended between two runs."
MUTE = "The interpreter did not give its variables in time."
STORE_ERRORS = (db.Error, OSError, EraError)


class Lives:
    """All live sessions of this node. Thread-safe."""

    def __init__(self, runner: Opens, *, node: str) -> None:
        self.runner = runner
        self.node = node
        self._lives: dict[int, Live] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(STORE_THREADS, "era-lives")
        self._keeper = threading.Thread(target=self._keep, name="era-lives", daemon=True)

    def start(self) -> None:
        """Look after the sessions from now on; what an earlier worker of the node had is gone."""
        states.left_by(self.node)
        self._keeper.start()

    def stop(self, *, stores: bool = True) -> None:
        """End all sessions, their variables stored where ``stores``; no run may begin any more."""
        self._stopped.set()
        with ThreadPoolExecutor(STOP_THREADS, "era-lives") as pool:
            for live in self.all():
                pool.submit(_in_thread, self._stop_one, live, stores)
        if self._keeper.is_alive():
            self._keeper.join()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def all(self) -> list[Live]:
        """The live sessions, the least recently used first."""
        with self._lock:
            return sorted(self._lives.values(), key=lambda live: live.used_at)

    def workspaces(self) -> list[str]:
        """Names of the folders in use."""
        return [live.workspace.name for live in self.all()]

    @contextlib.contextmanager
    def use(self, wanted: Wanted) -> Iterator[Live]:
        """The session's live sandbox, thawed and for the caller alone; opened if it is not here.

        Raises:
            LookupError: the session is gone.
            SandboxUnavailable: it could not be built.
        """
        live = self._acquire(wanted)
        try:
            try:
                live.thaw()
                yield live
            finally:
                live.used_at = time.monotonic()
                if not live.sandbox.is_alive:
                    self._close(live)
        finally:
            live.lock.release()

    def drop(self, session_id: int) -> None:
        """End the session's sandbox at once, in mid-run too; nothing is stored."""
        live = self._lives.get(session_id)
        if live is None:
            return
        live.is_dropped = True
        live.kill()
        with live.lock:
            self._close(live)

    def interrupt(self, session_id: int) -> None:
        """SIGINT to what the session runs now."""
        live = self._lives.get(session_id)
        if live is not None and live.lock.locked():
            live.sandbox.interrupt()

    def evict(self, session_id: int) -> None:
        """Store the session's variables and end its sandbox, once its run has ended."""
        live = self._lives.get(session_id)
        if live is not None:
            with live.lock:
                if not live.is_gone:
                    self._evict(live)

    def save(self, session_id: int) -> bool:
        """Store the session's variables while it stays; False: it is not live here, or gave none."""
        live = self._lives.get(session_id)
        if live is None:
            return False
        with live.lock:
            if live.is_gone:
                return False
            return not live.is_mute if not live.is_dirty else self._store(live, goes=False)

    def _acquire(self, wanted: Wanted) -> Live:
        """The session's sandbox with its lock held."""
        while True:
            live = self._lives.get(wanted.session_id)
            if live is None:
                return self._open(wanted)
            with contextlib.ExitStack() as held:
                held.enter_context(live.lock)
                if not live.is_gone and self._serves(live, wanted.limits):
                    held.pop_all()
                    return live

    def _serves(self, live: Live, limits: Limits) -> bool:
        """Whether a run may use ``live``; one that has died, or has other limits, is ended for a new one."""
        if not live.sandbox.is_alive:
            states.lost(live.session_id, self.node, ENDED_BETWEEN)
            self._close(live)
            return False
        return live.fits(limits) or not self._evict(live)

    def _open(self, wanted: Wanted) -> Live:
        self._make_room()
        live = live_opening.opened(self.runner, wanted, node=self.node)
        live.lock.acquire()
        with self._lock:
            self._lives[wanted.session_id] = live
        return live

    def _make_room(self) -> None:
        """Store and end idle sessions, the least recently used first, while there are too many."""
        for live in self.all():
            if len(self._lives) < conf().live_max:
                return
            self._if_idle(live, self._evict)

    def _keep(self) -> None:
        while not self._stopped.wait(LOOK_S):
            try:
                self._look()
            except Exception:
                logger.exception("The live sessions could not be looked after.", extra={"action": "lives_failed"})
            finally:
                db.connections.close_all()

    def _look(self) -> None:
        is_short_of_memory = memory_is_short()
        frozen = []
        for live in self.all():
            if self._stopped.is_set():
                return
            if is_short_of_memory and not live.lock.locked():
                is_short_of_memory = False  # one at a time, then look again
                self._soon(live, self._evict)
            elif self._looks_after(live):
                frozen.append(live.session_id)
        if frozen:
            states.froze(frozen, self.node)

    def _looks_after(self, live: Live) -> bool:
        """Whether it was frozen; one that cannot be looked at waits for the next round and holds up no other."""
        try:
            return self._if_idle(live, self._look_at)
        except Exception:
            logger.exception("A live session could not be looked after.", extra={"action": "lives_failed"})
            return False

    def _look_at(self, live: Live) -> bool:
        """Do what the idle ``live`` needs; True if it was frozen."""
        idle_s = time.monotonic() - live.used_at
        excess = live.sandbox.excess()
        if excess or not live.sandbox.is_alive:
            states.lost(live.session_id, self.node, f"{ENDED_BETWEEN} {excess or ''}".strip())
            self._close(live)
        elif idle_s > conf().live_idle_s:
            self._soon(live, self._evict)
        elif idle_s > conf().live_save_s and live.is_dirty and time.monotonic() > live.retry_at:
            self._soon(live, self._save)
        elif idle_s > conf().live_freeze_s and not live.is_frozen:
            live.freeze()
            return True
        return False

    def _soon(self, live: Live, work: Callable[[Live], bool]) -> None:
        """Have ``work`` done if no run comes first; an interpreter that does not answer holds up no other's."""
        if live.is_awaited:
            return
        live.is_awaited = True
        used_at = live.used_at
        self._pool.submit(_in_thread, self._if_unused, live, lambda one: one.used_at == used_at and work(one))

    def _if_unused(self, live: Live, work: Callable[[Live], bool]) -> None:
        try:
            self._if_idle(live, work)
        finally:
            live.is_awaited = False

    def _save(self, live: Live) -> bool:
        """Store the variables and freeze the sandbox again."""
        is_stored = self._store(live, goes=False)
        live.freeze()
        return is_stored

    def _evict(self, live: Live, *, timeout_s: float = SNAPSHOT_TIMEOUT_S) -> bool:
        """Store the variables and end the sandbox. False: they could not be stored now, so it stays."""
        if time.monotonic() < live.retry_at:
            return False
        try:
            is_stored = not live.is_dirty or self._store(live, goes=True, timeout_s=timeout_s)
            if not is_stored and live.retry_at > time.monotonic():
                return False
            if live.is_mute:
                states.lost(live.session_id, self.node, MUTE)
            else:
                states.parted(live.session_id, self.node)
        except STORE_ERRORS as error:
            self._store_failed(live, error)
            return False
        self._close(live)
        return True

    def _store(self, live: Live, *, goes: bool, timeout_s: float = SNAPSHOT_TIMEOUT_S) -> bool:
        """Take a snapshot and store it; False: none was given, or (then ``retry_at`` is set) none could be stored."""
        snapshot = live.snapshot(timeout_s) if live.sandbox.is_alive else None
        live.is_mute = snapshot is None
        if snapshot is not None:
            try:
                states.saved(live.session_id, self.node, snapshot.content, snapshot.lost, goes=goes)
            except STORE_ERRORS as error:
                self._store_failed(live, error)
                return False
        live.is_dirty = False
        return snapshot is not None

    def _store_failed(self, live: Live, error: BaseException) -> None:
        live.retry_at = time.monotonic() + RETRY_S
        extra = {"action": "snapshot_failed", "session": live.session_id}
        logger.warning("Variables could not be stored: %s", error, extra=extra)

    def _if_idle(self, live: Live, work: Callable[[Live], bool]) -> bool:
        """Do ``work`` if no run uses ``live``."""
        if not live.lock.acquire(blocking=False):
            return False
        try:
            return not live.is_gone and work(live)
        finally:
            live.lock.release()

    def _stop_one(self, live: Live, stores: bool) -> None:
        if not stores or not live.lock.acquire(timeout=STOP_SNAPSHOT_TIMEOUT_S):
            live.kill()  # whoever holds the lock lets go of it then
            live.lock.acquire()
        try:
            if not stores or live.is_gone or not self._evict(live, timeout_s=STOP_SNAPSHOT_TIMEOUT_S):
                self._close(live)
        finally:
            live.lock.release()

    def _close(self, live: Live) -> None:
        with self._lock:
            if self._lives.get(live.session_id) is live:
                del self._lives[live.session_id]
        live.close()


def _in_thread(work: Callable[[Live, T], None], live: Live, what: T) -> None:
    try:
        work(live, what)
    except Exception:
        logger.exception("A live session was not ended well.", extra={"action": "lives_failed"})
    finally:
        db.connections.close_all()


def memory_is_short() -> bool:
    """Whether the host has less memory left than ``ERA_LIVE_RESERVE_MIB``."""
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) < conf().live_reserve_mib * 1024
    return False

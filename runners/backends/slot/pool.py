"""Slots at hand: built on demand, reused while they are proved untouched, replaced when worn."""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from runners.backends.slot.cgroups import Cgroups, Group
from runners.backends.slot.guest.birth import Order
from runners.backends.slot.slot import Owner, Slot, SlotBroken, build
from runners.backends.slot.worlds import Worlds
from runners.types import Limits

log = logging.getLogger(__name__)

RUNS_MAX = 1000
AGE_MAX_S = 3600.0
CLOSE_TIMEOUT_S = 5.0
BUILDS_AT_ONCE = max(4, 2 * (os.cpu_count() or 1))
"""More would only share the processors, so that the first run of many begins when the last slot is nearly built.

Each order holds descriptors in flight, too, of which the kernel allows a user's slots 256 in all (ETOOMANYREFS).
"""


class Busy(Exception):
    """All slots of this kind are in use."""


@dataclass(frozen=True)
class Capacity:
    """How many slots there may be."""

    once: int
    """One-shots at the same time."""
    live: int
    idle: int
    """Idle ones that are kept."""

    @property
    def indexes(self) -> int:
        """Pairs of uids that are needed: while a slot is being built another one's pair may still be held."""
        return self.once + self.live + self.idle + 4


class Builder:
    """Makes and ends slots."""

    def __init__(self, worlds: Worlds, cgroups: Cgroups | None, capacity: Capacity) -> None:
        """The worlds must have room for the capacity's indexes."""
        self._worlds, self._cgroups = worlds, cgroups
        self._lock = threading.Lock()
        self._building = threading.BoundedSemaphore(BUILDS_AT_ONCE)
        self._gone = threading.Condition(self._lock)
        self._free_indexes = list(range(capacity.indexes))
        self._living: dict[int, Slot] = {}
        self._dying: set[int] = set()
        self._closed = False

    def build(
        self,
        *,
        live: bool = False,
        workspace: str = "",
        preloaded: bool = False,
        index: int = -1,
        limits: Limits = Limits(),
    ) -> Slot:
        """A new slot.

        Args:
            live: Its child stays.
            workspace: The session's folder; empty: a tmpfs.
            preloaded: Of the master that has common modules imported.
            index: The pair of uids that is wanted, if it is free.
            limits: Of its cgroup until the first run sets its own.

        Raises:
            SlotBroken: It could not be built.
            Busy: No pair of uids is free.
        """
        index = self._take_index(index)
        try:
            with self._building:
                slot = self._build(Order(index, live, workspace), limits, preloaded=preloaded)
        except BaseException:
            self._give_index(index)
            raise
        with self._lock:
            self._living[index] = slot
            closed = self._closed
        if closed:
            self.destroy(slot)
            raise Busy("the runner is closing")
        return slot

    def _build(self, order: Order, limits: Limits, *, preloaded: bool) -> Slot:
        try:
            world = self._worlds.acquire()
            try:
                group: Group | None = self._cgroups.make(limits) if self._cgroups else None
                return build(world, order, self._owner(order.index), group, preloaded=preloaded)
            except BaseException:
                self._worlds.release(world)
                raise
        except OSError as error:
            raise SlotBroken(f"no slot could be built: {error}") from error

    def _owner(self, index: int) -> Owner:
        base = self._worlds.spec.uid_base
        return Owner(index, base + 2 * index + 2 if base else -1)

    def _take_index(self, wanted: int) -> int:
        with self._lock:
            if self._closed or not self._free_indexes:
                raise Busy("no slot is free")
            if wanted in self._free_indexes:
                self._free_indexes.remove(wanted)
                heapq.heapify(self._free_indexes)
                return wanted
            return heapq.heappop(self._free_indexes)

    def _give_index(self, index: int) -> None:
        with self._lock:
            heapq.heappush(self._free_indexes, index)

    def destroy(self, slot: Slot) -> None:
        """End a slot, whatever it does; once."""
        with self._lock:
            if self._living.get(slot.owner.index) is not slot or slot.owner.index in self._dying:
                return
            self._dying.add(slot.owner.index)
        try:
            slot.destroy()
        finally:
            self._worlds.release(slot.world)
            with self._gone:
                del self._living[slot.owner.index]
                self._dying.remove(slot.owner.index)
                heapq.heappush(self._free_indexes, slot.owner.index)
                self._gone.notify_all()

    def close(self, idle: list[Slot]) -> None:
        """End all of them; those in use are let go of by the threads that use them, which see their end."""
        with self._lock:
            self._closed = True
            living = list(self._living.values())
        for slot in living:
            slot.signal(signal.SIGKILL)
        for slot in idle:
            self.destroy(slot)
        end_s = time.monotonic() + CLOSE_TIMEOUT_S
        with self._gone:
            while self._living and time.monotonic() < end_s:
                self._gone.wait(end_s - time.monotonic())
            living = list(self._living.values())
        for slot in living:
            self.destroy(slot)


@dataclass(frozen=True)
class Want:
    """What a run needs of a slot."""

    preloaded: bool = False
    key: Hashable = None
    """What a driver booted ahead must have been started with; None: Python, which needs none."""
    workspace: str = ""
    index: int = -1
    """The pair of uids that is wanted for a workspace."""


class Pool:
    """Slots for one-shots."""

    def __init__(self, builder: Builder, capacity: Capacity, *, strict: bool) -> None:
        """Empty; the first runs build."""
        self._builder, self._capacity, self._strict = builder, capacity, strict
        self._turn = threading.BoundedSemaphore(capacity.once)
        self._lock = threading.Lock()
        self._idle: list[Slot] = []

    def take(self, want: Want) -> Slot:
        """A slot for one run, waiting for a turn; give it back by `give`.

        Raises:
            SlotBroken: None could be built.
        """
        self._turn.acquire()
        try:
            if want.workspace:
                return self._builder.build(workspace=want.workspace, index=want.index)
            while slot := self._pick(want):
                if not slot.has_word():
                    return slot
                self._builder.destroy(slot)  # its parked child died unasked
            self._make_room()
            return self._builder.build(preloaded=want.preloaded)
        except BaseException:
            self._turn.release()
            raise

    def _pick(self, want: Want) -> Slot | None:
        with self._lock:
            plain = -1
            for position in range(len(self._idle) - 1, -1, -1):
                slot = self._idle[position]
                if slot.prepared:
                    if want.key is not None and slot.prepared.key == want.key:
                        return self._idle.pop(position)
                elif slot.preloaded is want.preloaded and (want.key is None or plain < 0):
                    plain = position
                    if want.key is None:
                        break
            return self._idle.pop(plain) if plain >= 0 else None

    def _make_room(self) -> None:
        with self._lock:
            spare = self._idle.pop(0) if len(self._idle) >= self._capacity.idle else None
        if spare:
            self._builder.destroy(spare)

    def give(self, slot: Slot) -> None:
        """Back to the idle ones, or to its end if it is worn, of one workspace, or nothing may be reused."""
        try:
            self._keep(slot)
        finally:
            self._turn.release()

    def _keep(self, slot: Slot) -> None:
        old = slot.runs >= RUNS_MAX or time.monotonic() - slot.built_at_s > AGE_MAX_S
        if slot.destroyed or old or slot.order.workspace or (self._strict and slot.runs):
            self._builder.destroy(slot)
            return
        with self._lock:
            self._idle.append(slot)
            spare = self._idle.pop(0) if len(self._idle) > self._capacity.idle else None
        if spare:
            self._builder.destroy(spare)

    def add(self, *, preloaded: bool = False, prepare: Callable[[Slot], None] | None = None) -> None:
        """Build an idle slot ahead of need."""
        slot = self._builder.build(preloaded=preloaded)
        try:
            if prepare:
                prepare(slot)
        except BaseException:
            self._builder.destroy(slot)
            raise
        self._keep(slot)

    def drop(self, test: Callable[[Slot], bool]) -> None:
        """End the idle slots that pass a test."""
        with self._lock:
            dropped = list(filter(test, self._idle))
            self._idle = list(itertools.filterfalse(test, self._idle))
        for slot in dropped:
            self._builder.destroy(slot)

    def close(self) -> list[Slot]:
        """Give up the idle slots."""
        with self._lock:
            idle, self._idle = self._idle, []
            return idle

    def count(self, test: Callable[[Slot], bool]) -> int:
        """How many idle slots pass a test."""
        with self._lock:
            return sum(map(test, self._idle))

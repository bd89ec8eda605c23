"""Memory of a whole slot, watched from outside where no cgroup holds it."""

from __future__ import annotations

import os
import time

from runners.backends.slot.diskwatch import Stop
from runners.backends.slot.slot import Slot, read_proc
from runners.types import Limits, Status

WATCH_S = 0.01
"""Between two looks."""
SOCKETS_MAX = 256
"""With the default buffers that the filter keeps, a bound on the memory of sockets."""
HOST_RESERVE_BYTES = 512 << 20
"""Below this much available memory on the host the run is ended."""
_SUSPECT_BYTES = 64 << 20
"""Address space of an idle process; more of it is reason for an exact look."""
_PAGE = os.sysconf("SC_PAGESIZE")
_HIDDEN = (b"/dev/zero", b"/SYSV", b"/memfd")
_SHARED = 3


class Watchdog:
    """Looks at one run."""

    def __init__(self, slot: Slot, limits: Limits) -> None:
        """Nothing is read yet."""
        self._slot, self._limit = slot, limits.memory_bytes
        self._hidden_bytes = 0
        self._next_exact_s = 0.0

    def look(self) -> Stop | None:
        """Why the run has to end, or None."""
        reason = self._reason()
        return (Status.OUT_OF_MEMORY, reason) if reason else None

    def _reason(self) -> str | None:
        """Cheap first, exact only near the limit."""
        low, high, size, pids = self._sums()
        if low > self._limit:  # even if every page inherited from pid 1 is still shared
            return "Its processes together held more memory than its limit."
        now_s = time.monotonic()
        is_near = high > self._limit or size > _SUSPECT_BYTES * len(pids) + self._limit // 2
        if is_near and now_s >= self._next_exact_s:
            used = self._exact(pids)
            self._next_exact_s = time.monotonic() + 4 * (time.monotonic() - now_s)
            if used > self._limit:
                return "Its processes together held more memory than its limit."
        if int(read_proc(self._slot.proc, "1/net/sockstat").split(None, 3)[2]) > SOCKETS_MAX:
            return "It held more sockets open than memory can be accounted for."
        if _available_bytes() < HOST_RESERVE_BYTES:
            return "The host's memory ran low."
        return None

    def memory_bytes(self) -> int:
        """What the slot's processes hold, exactly."""
        return self._exact(self._pids())

    def _pids(self) -> list[str]:
        names = os.listdir(self._slot.proc)  # noqa: PTH208 - by descriptor
        return [name for name in names if name[0] in "123456789" and name != "1"]

    def _sums(self) -> tuple[int, int, int, list[str]]:
        """Bytes at least, at most, address space; and the processes."""
        low = size = 0
        high = self._hidden_bytes
        pids = self._pids()
        for pid in pids:
            try:
                total, resident, shared, *_ = read_proc(self._slot.proc, pid + "/statm").split()
            except (OSError, ValueError):
                continue  # it is gone
            anonymous = (int(resident) - int(shared)) * _PAGE
            high += anonymous
            low += max(0, anonymous - self._slot.shared_bytes)
            size += int(total) * _PAGE
        return low, high, size, pids

    def _exact(self, pids: list[str]) -> int:
        """Proportional anonymous pages, swap, page tables, and the full size of shared anonymous maps.

        MADV_DONTNEED on a shared map hides its pages from every figure of a process.
        """
        used = 0
        hidden: dict[tuple[bytes, bytes], int] = {}
        for pid in pids:
            try:
                used += _kib(read_proc(self._slot.proc, pid + "/smaps_rollup"), (b"Pss_Anon", b"SwapPss"))
                used += _kib(read_proc(self._slot.proc, pid + "/status"), (b"VmPTE",))
                self._find_hidden(pid, hidden)
            except (OSError, ValueError):
                continue
        self._hidden_bytes = sum(hidden.values())
        return used + self._hidden_bytes

    def _find_hidden(self, pid: str, hidden: dict[tuple[bytes, bytes], int]) -> None:
        descriptor = os.open(pid + "/maps", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._slot.proc)
        with open(descriptor, "rb") as lines:
            for line in lines:
                words = line.split(None, 5)
                if words[1][_SHARED] == ord("s") and len(words) > 5 and words[5].startswith(_HIDDEN):
                    low, high = (int(word, 16) for word in words[0].split(b"-"))
                    key = words[3], words[4]
                    hidden[key] = max(hidden.get(key, 0), high - low)


def _kib(text: bytes, names: tuple[bytes, ...]) -> int:
    """Sum in bytes of the lines with these names."""
    total = 0
    for line in text.splitlines():
        name, _, value = line.partition(b":")
        if name in names:
            total += int(value.split()[0]) << 10
    return total


def _available_bytes() -> int:
    with open("/proc/meminfo", "rb") as file:
        text = file.read(200)
    return int(text.split(b"MemAvailable:")[1].split()[0]) << 10

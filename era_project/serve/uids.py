"""Host uids of one server (root only): its parts' own, and after them those of its sandboxes."""

from __future__ import annotations

from dataclasses import dataclass

from era_project.conf import Conf
from era_project.serve.failures import CannotServe
from runners import uids

FIRST_SLOT = 16
UIDS_PER_SLOT = 6
"""Two for each slot that is used, as many for one that waits beside it, and for one of a session's run."""
UIDS_PER_LIVE = 2
"""Of a session that stays live, and of an interpreter booted ahead."""
UIDS_MORE = 32
"""For the few that are being built or have not ended yet."""


class UidsError(CannotServe):
    """No block of uids can be had; the text is one sentence with the remedy."""


@dataclass(frozen=True)
class UidBlock:
    """The uids of one server, the first of them and how many; ``locks`` are the descriptors that hold them."""

    base: int
    count: int = uids.UNIT
    locks: tuple[int, ...] = ()

    @property
    def postgres(self) -> int:
        """Uid of PostgreSQL."""
        return self.base

    @property
    def valkey(self) -> int:
        """Uid of Valkey."""
        return self.base + 1

    @property
    def web(self) -> int:
        """Uid of the web processes and of beat; also the group that all parts share."""
        return self.base + 2

    @property
    def slots(self) -> int:
        """First uid of the sandboxes."""
        return self.base + FIRST_SLOT

    @property
    def slot_count(self) -> int:
        """Number of uids from :attr:`slots` on."""
        return self.count - FIRST_SLOT


def needed(conf: Conf) -> int:
    """How many uids a server with these settings takes."""
    lasting = conf.live_max + sum(conf.parked.values())
    return FIRST_SLOT + UIDS_PER_SLOT * conf.one_shot_slots + UIDS_PER_LIVE * lasting + UIDS_MORE


def claim(count: int = uids.UNIT, *, base: int = 0, liked: int = 0) -> UidBlock:
    """At least ``count`` uids that no other server has; ``base`` asks for certain ones, ``liked`` is tried first.

    Raises:
        UidsError: they are taken, or there are none.
    """
    block = uids.claim(count, base=base, liked=liked)
    if block is not None:
        return UidBlock(block.base, block.count, block.locks)
    if base:
        raise UidsError(
            f"The {count:,} uids from {base} are in use or not mapped here: set ERA_UID_BASE to another base."
        )
    raise UidsError(
        f"No {count:,} free uids in a row are left here: stop another server, set ERA_UID_BASE, "
        "or set fewer slots by ERA_SLOT_COUNT."
    )

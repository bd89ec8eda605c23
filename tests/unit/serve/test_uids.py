from __future__ import annotations

import os

import pytest

from era_project.serve import uids

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has uids to give")


def test_two_servers_never_share_a_block() -> None:
    first, second = uids.claim(), uids.claim()
    try:
        assert abs(first.base - second.base) >= uids.BLOCK
    finally:
        os.close(first.lock)
        os.close(second.lock)


def test_the_block_of_the_last_start_is_taken_again_when_it_is_free() -> None:
    # A base that no server comes to by itself: others claim and free blocks at the same time.
    base = uids.LAST_OF_FULL_MAP + os.getpid()
    again = uids.claim(liked=base)
    other = uids.claim(liked=base)
    try:
        assert again.base == base
        assert other.base != base
        with pytest.raises(uids.UidsError, match="ERA_UID_BASE"):
            uids.claim(base)
    finally:
        os.close(again.lock)
        os.close(other.lock)
        (uids.FOLDER / str(base)).unlink()

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
    first = uids.claim()
    os.close(first.lock)
    again = uids.claim(liked=first.base)
    other = uids.claim(liked=first.base)
    try:
        assert again.base == first.base
        assert other.base != first.base
        with pytest.raises(uids.UidsError, match="ERA_UID_BASE"):
            uids.claim(first.base)
    finally:
        os.close(again.lock)
        os.close(other.lock)

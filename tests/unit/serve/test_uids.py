from __future__ import annotations

import os

import pytest

from era_project import conf
from era_project.serve import uids

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has uids to give")


def test_more_slots_take_more_uids() -> None:
    usual, many = (conf.load(given) for given in ({}, {"ERA_SLOT_COUNT": "500", "ERA_LIVE_MAX": "100"}))
    assert uids.needed(usual) <= uids.needed(many)
    block = uids.claim(uids.needed(many))
    try:
        assert block.slot_count >= 2 * (3 * 500 + 100)
        assert len({block.postgres, block.valkey, block.web, *range(block.slots, block.base + block.count)}) > 3000
    finally:
        for lock in block.locks:
            os.close(lock)


def test_what_cannot_be_had_is_told_with_its_remedy() -> None:
    block = uids.claim()
    try:
        with pytest.raises(uids.UidsError, match="ERA_UID_BASE"):
            uids.claim(base=block.base)
        with pytest.raises(uids.UidsError, match="ERA_SLOT_COUNT"):
            uids.claim(1 << 30)
    finally:
        for lock in block.locks:
            os.close(lock)

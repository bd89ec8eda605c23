from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from runners import uids
from runners.uids import UNIT, Block

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has uids to give")

FAR = uids.LAST_OF_FULL_MAP + UNIT * (os.getpid() % 250)
"""A base that no server comes to by itself: others claim and free blocks at the same time."""


@pytest.fixture
def held() -> Iterator[list[Block]]:
    """Blocks to be let go of, with the files of those that only a test takes."""
    blocks: list[Block] = []
    yield blocks
    for block in blocks:
        block.release()
    for name in filter(str.isdecimal, os.listdir(uids.FOLDER)):  # noqa: PTH208
        if int(name) >= uids.LAST_OF_FULL_MAP:
            (uids.FOLDER / name).unlink()


def claimed(held: list[Block], count: int, *, base: int = 0, liked: int = 0) -> Block | None:
    """What `claim` gives, remembered."""
    block = uids.claim(count, base=base, liked=liked)
    held += [block] if block else []
    return block


def test_blocks_of_all_sizes_lie_apart(held: list[Block]) -> None:
    blocks = [claimed(held, count) for count in (1, 3 * UNIT, UNIT, 2 * UNIT + 1, 1)]
    ranges = sorted((block.base, block.count) for block in blocks if block)
    assert [count // UNIT for _, count in ranges] in [list(p) for p in itertools.permutations((1, 3, 1, 3, 1))]
    assert all(base + count <= following for (base, count), (following, _) in itertools.pairwise(ranges))


@pytest.mark.parametrize("shift", [-UNIT, -1, 0, 1, UNIT - 1, UNIT, 3 * UNIT - 1])
@pytest.mark.parametrize("count", [UNIT, 2 * UNIT])
def test_a_base_chosen_by_hand_meets_no_other_block(held: list[Block], shift: int, count: int) -> None:
    first = claimed(held, 3 * UNIT, base=FAR)
    assert first is not None
    touches = FAR + shift + count > FAR
    assert (claimed(held, count, base=FAR + shift) is None) is touches
    first.release()
    held.remove(first)
    assert touches is (claimed(held, count, base=FAR + shift) is not None)


def test_what_was_claimed_before_is_taken_again_when_it_is_free(held: list[Block]) -> None:
    again, other = claimed(held, 1, liked=FAR), claimed(held, 1, liked=FAR)
    assert again and again.base == FAR
    assert other and other.base != FAR


def test_what_was_claimed_before_is_not_taken_from_accounts(held: list[Block]) -> None:
    block = claimed(held, 1, liked=1)
    assert block and block.base != 1


def test_a_process_that_is_killed_gives_its_uids_back(held: list[Block]) -> None:
    program = f"from runners import uids; print(uids.claim(1, base={FAR}), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=subprocess.PIPE) as other:
        assert other.stdout and b"Block" in other.stdout.readline()
        assert claimed(held, 1, base=FAR) is None
        other.kill()
    assert claimed(held, 1, base=FAR) is not None


def test_a_small_map_has_room_for_many_servers() -> None:
    mapped = [(0, 1 << 16)]
    small, large = list(uids.candidates(UNIT, mapped)), list(uids.candidates(4 * UNIT, mapped))
    assert small[0] + UNIT == large[0] + 4 * UNIT <= 1 << 16
    assert len(small) > 50
    assert len(range(large[-1], 1 << 16, 4 * UNIT)) > 12
    assert min(small[-1], large[-1]) > uids.ACCOUNTS


def test_uids_that_are_not_mapped_here_are_not_taken(held: list[Block]) -> None:
    beyond = (1 << 32) - 2
    assert claimed(held, 1, base=beyond) is None
    block = claimed(held, 1, liked=beyond)
    assert block and block.base != beyond

"""What is kept of a stream."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.output import Collector


@given(st.lists(st.binary(max_size=40)), st.integers(0, 100))
def test_any_chunks_keep_the_same(chunks: list[bytes], kept_bytes: int) -> None:
    collector, whole = Collector(kept_bytes), Collector(kept_bytes)
    for chunk in chunks:
        collector.add(chunk)
    everything = b"".join(chunks)
    whole.add(everything)
    kept = collector.kept()
    assert kept == whole.kept()
    assert kept.written_bytes == len(everything)
    if len(everything) <= kept_bytes:
        assert (kept.content, kept.truncated) == (everything, False)
    else:
        head, tail = kept_bytes - kept_bytes // 2, kept_bytes // 2
        marker = b"\n... [%d bytes left out] ...\n" % (len(everything) - kept_bytes)
        assert kept.content == everything[:head] + marker + everything[len(everything) - tail :]
        assert kept.truncated


def test_memory_stays_within_what_is_kept() -> None:
    collector = Collector(1000)
    for _ in range(10_000):
        collector.add(b"x" * 100)
    assert len(collector._tail) < 2 * 500 + 4096 + 100
    assert collector.written_bytes == 1_000_000


@pytest.mark.parametrize("size", [1, 2, 5000])
def test_small_chunks_take_no_more_memory(size: int) -> None:
    collector = Collector(40_000)
    tracemalloc.start()
    try:
        for _ in range(100_000 // size):
            collector.add(bytes(bytearray(size)))  # a new object each, as a pipe gives them
        used_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used_bytes < 150_000

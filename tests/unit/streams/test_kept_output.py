"""What a finished run keeps gives the same stream as its live events did, from any offset."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runners.output import Collector
from sessions_app import kept_output, merged
from sessions_app.frames import Event
from sessions_app.merged import Merged
from tests.unit.streams.test_merged import WRITES, content, texts

ASCII = st.integers(1, 400).map(lambda size: (b"0123456789" * 40)[:size])
LINES = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), ASCII), max_size=30)


def executed(writes: list[tuple[str, bytes]], *, kept_bytes: int) -> tuple[list[Event], dict[str, Any]]:
    """Live events of a run, and the columns that its row keeps."""
    live, output = [], Merged()
    kept = {stream: Collector(kept_bytes) for stream in merged.NUMBERS}
    for stream, data in writes:
        kept[stream].add(data)
        if text := output.decode(stream, data):
            output.add(stream, text)
        live += output.take()
    for stream, rest in output.rests():
        output.add(stream, rest)
    live += output.take()
    row: dict[str, Any] = {"chunks": output.order()}
    for stream, collector in kept.items():
        result = collector.kept()
        row |= {
            stream: result.content,
            f"{stream}_blob": None,
            f"{stream}_bytes": result.written_bytes,
            f"{stream}_truncated": result.truncated,
        }
    if any(row[f"{stream}_truncated"] for stream in kept):
        row["chunks"] = output._order  # as for any output of more than a mebibyte
    return live, row


def joined(events: list[Event]) -> str:
    return "".join(content(event) for event in events)


@given(WRITES, st.integers(0, 100_000))
def test_a_replay_equals_the_live_stream_from_any_of_its_offsets(writes: list[tuple[str, bytes]], choice: int) -> None:
    live, row = executed(writes, kept_bytes=10 << 20)
    row["chunks"] = json.loads(json.dumps(row["chunks"]))
    offsets = [0, *(event.end for event in live)]
    after = offsets[choice % len(offsets)]
    assert kept_output.length(row) == offsets[-1]
    assert joined(list(kept_output.output(row, after=after))) == joined([e for e in live if e.start >= after])


@given(LINES, st.integers(0, 10_000))
def test_offsets_stay_true_where_the_middle_is_left_out(writes: list[tuple[str, bytes]], after: int) -> None:
    live, row = executed(writes, kept_bytes=300)
    whole = joined(live)
    replayed = list(kept_output.output(row, after=min(after, len(whole))))
    assert kept_output.length(row) == len(whole)
    for event in replayed:
        if "bytes left out" not in content(event):
            assert content(event) == whole[event.start : event.end]
    for stream, text in texts(list(kept_output.output(row, after=0))).items():
        assert text == row[stream].decode()

"""Raw output at any split becomes the same text, with offsets from which any reader gets exactly the rest."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from sessions_app import merged
from sessions_app.frames import CONTENT_BYTES, Event
from sessions_app.merged import Merged

TEXTS = st.text(max_size=60).map(str.encode)
RAW = st.one_of(
    TEXTS, st.binary(max_size=40), st.sampled_from([b"\xf0\x9f\x98\x80", b"\xe2\x82", b"\xff", b"a" * 40_000])
)
WRITES = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), RAW), max_size=12)


def content(event: Event) -> str:
    return str(json.loads(event.data)["content"])


def texts(events: list[Event]) -> dict[str, str]:
    return {
        stream: "".join(content(event) for event in events if event.type == stream) for stream in ("stdout", "stderr")
    }


def split(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)] or [b""]


def events_of(writes: list[tuple[str, bytes]], *, piece: int, take_each: int) -> tuple[list[Event], Merged]:
    output, events, count = Merged(), [], 0
    for stream, data in writes:
        for part in split(data, piece):
            if text := output.decode(stream, part):
                output.add(stream, text)
            count += 1
            if count % take_each == 0:
                events += output.take()
    for stream, rest in output.rests():
        output.add(stream, rest)
    return events + output.take(), output


@given(WRITES, st.integers(1, 50_000), st.integers(1, 5))
def test_each_stream_is_its_bytes_decoded_at_once(writes: list[tuple[str, bytes]], piece: int, take_each: int) -> None:
    events, _ = events_of(writes, piece=max(piece, 1 + sum(len(d) for _, d in writes) // 500), take_each=take_each)
    for stream, text in texts(events).items():
        assert text == b"".join(data for name, data in writes if name == stream).decode("utf-8", "replace")


@given(WRITES, st.integers(1, 5))
def test_offsets_are_dense_and_frames_small(writes: list[tuple[str, bytes]], take_each: int) -> None:
    events, output = events_of(writes, piece=1 << 20, take_each=take_each)
    at = 0
    for event in events:
        assert event.start == at
        assert 0 < event.end - event.start == len(content(event).encode()) <= CONTENT_BYTES
        at = event.end
    assert at == output.offset
    order = output.order()
    assert order is None or sum(size for _, size in order) == at


@given(WRITES, st.integers(0, 200))
def test_resuming_at_any_offset_gives_the_rest(writes: list[tuple[str, bytes]], cut: int) -> None:
    events, output = events_of(writes, piece=1 << 20, take_each=2)
    whole = "".join(content(event) for event in events).encode()
    offset = min(cut, output.offset)
    rest = "".join(content(left) for event in events if (left := event.after(offset))).encode()
    while offset and offset < len(whole) and whole[offset] & 0xC0 == 0x80:
        offset -= 1  # a character that the offset cuts comes whole
    assert rest == whole[offset:]


def test_frames_are_what_the_contract_shows() -> None:
    output = Merged()
    output.add("stdout", "Zeile ä\n")
    (event,) = output.take()
    assert event.frame() == b'event: stdout\nid: 9\ndata: {"type":"stdout","content":"Zeile \\u00e4\\n"}\n\n'


def test_a_program_that_alternates_does_not_grow_the_order_without_bound() -> None:
    output, events = Merged(), []
    for count in range(merged.FINE_ORDER * 3):
        output.add("stdout" if count % 2 else "stderr", "x")
        if count % 1000 == 999:
            events += output.take()
    assert len(output.order() or []) < merged.FINE_ORDER + 100
    assert {len(text) for text in texts(events).values()} == {merged.FINE_ORDER * 3 // 2}

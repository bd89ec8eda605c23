"""The channel to a driver that user code may have taken over."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from runners.backends.slot.exchange import Compiling
from runners.backends.slot.frames import FrameError, Frames, plain
from tests.waiting import wait_until

Pair = tuple[Frames, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    yield Frames(ours), theirs
    ours.close()
    theirs.close()


def frame(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


def test_reply_in_pieces(pair: Pair) -> None:
    frames, theirs = pair
    for byte in frame(b'{"a": [1, "\xc3\xbc"]}'):
        assert frames.receive(size_max=100) is None
        theirs.send(bytes([byte]))
    assert frames.receive(size_max=100) == {"a": [1, "ü"]}
    assert frames.receive(size_max=100) is None


def test_two_replies_are_one_and_a_rest(pair: Pair) -> None:
    frames, theirs = pair
    theirs.send(frame(b'{"a": 1}') + frame(b'{"b": 2}'))
    assert frames.receive(size_max=100) == {"a": 1}
    with pytest.raises(FrameError, match="out of turn"):
        frames.expect_silence()


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (frame(b"[1]"), "object"),
        (frame(b"{"), "no JSON"),
        (frame(b"\xff"), "no JSON"),
        (frame(b"[" * 90_000), "no JSON"),
        (frame(b'{"a": ' + b"9" * 5000 + b"}"), "no JSON"),
        (frame(b'{"a": "\xed\xa0\x80"}'), "no JSON"),
        ((2**31).to_bytes(4, "big"), "too long"),
        (bytes(4), "too long"),
        (frame(b"x" * 100_001), "too long"),
    ],
)
def test_bad_replies(pair: Pair, sent: bytes, why: str) -> None:
    frames, theirs = pair
    theirs.setblocking(False)
    theirs.send(sent)
    with pytest.raises(FrameError, match=why):
        frames.receive(size_max=100_000)


def test_a_reply_takes_no_memory_beyond_its_size() -> None:
    """Each of these values would take twenty times its three bytes."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        content = b'{"lost": [' + b"[]," * 300_000 + b"0]}"
        sender = threading.Thread(target=theirs.sendall, args=(frame(content),))
        sender.start()
        frames = Frames(ours)
        with pytest.raises(FrameError, match="too many values"):
            wait_until(lambda: frames.receive(size_max=1 << 20), 30, "the reply")
        sender.join(30)


def test_text_that_every_store_takes() -> None:
    assert plain("a\0\ud800\U0001f600") == "a\ufffd?\U0001f600"


def test_closed_channel(pair: Pair) -> None:
    frames, theirs = pair
    theirs.close()
    with pytest.raises(FrameError, match="closed"):
        frames.receive(size_max=100)
    with pytest.raises(FrameError, match="closed"):
        frames.expect_silence()
    with pytest.raises(FrameError, match="no request"):
        frames.send({"a": "x" * 1_000_000}, timeout_s=5)


def test_nobody_reads(pair: Pair) -> None:
    with pytest.raises(FrameError, match="in time"):
        pair[0].send({"a": "x" * 10_000_000}, timeout_s=0.1)


def test_nobody_answers(pair: Pair) -> None:
    frames, _ = pair
    with pytest.raises(FrameError, match="in time"):
        frames.call({"op": "x"}, timeout_s=0.1, size_max=10, is_over=lambda: False)
    with pytest.raises(FrameError, match="ended"):
        frames.call({"op": "x"}, timeout_s=10, size_max=10, is_over=lambda: True)


def test_call(pair: Pair) -> None:
    frames, theirs = pair

    def answer() -> None:
        size = int.from_bytes(theirs.recv(4), "big")
        assert json.loads(theirs.recv(size)) == {"op": "x"}
        theirs.sendall(frame(b'{"ok": true}'))

    thread = threading.Thread(target=answer)
    thread.start()
    assert frames.call({"op": "x"}, timeout_s=30, size_max=100, is_over=lambda: False) == {"ok": True}
    thread.join(30)


@pytest.mark.parametrize(
    ("parts", "time_s", "code"),
    [
        ([b"C" + (1_500_000_000).to_bytes(8, "big")], 1.5, None),
        ([b"C", bytes(7), b"\x01"], 1e-9, None),
        ([b"E\x02"], None, 2),
        ([b"E", b"\x01"], None, 1),
        ([b""], None, None),
        ([b"X" * 16], None, None),
        ([b"C" + b"\xff" * 8], 1e6, None),
    ],
)
def test_word_of_the_compiler(parts: list[bytes], time_s: float | None, code: int | None) -> None:
    compiling = Compiling(lambda: None)
    for part in parts:
        assert not compiling.is_over
        compiling.add(part)
    assert compiling.is_over
    assert (compiling.compile_time_s, compiling.exit_code) == (time_s, code)

"""A small HTTP client that costs little itself: keeps N callers busy and notes how long each answer took."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Body = Callable[[], bytes]


@dataclass(frozen=True)
class Call:
    """What is asked again and again.

    Attributes:
        port: of the server, on 127.0.0.1.
        path: of the POST.
        body: gives the next JSON body.
        want: bytes of which one must stand in each answer; else the answer counts as wrong.
    """

    port: int
    path: str
    body: Body
    want: tuple[bytes, ...]

    def request(self) -> bytes:
        """The bytes of the next request."""
        body = self.body()
        head = f"POST {self.path} HTTP/1.1\r\nHost: localhost:{self.port}\r\nContent-Type: application/json\r\n"
        return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


@dataclass
class Measured:
    """Seconds that each answer took, the wall time of all, and how many answers were wrong."""

    times_s: list[float] = field(default_factory=list)
    wall_s: float = 0.0
    wrong: int = 0
    example: bytes = b""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.times_s) / self.wall_s if self.wall_s else math.nan

    def percentile_ms(self, percent: float) -> float:
        """The time (ms) under which ``percent`` of the answers came."""
        ordered = sorted(self.times_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] * 1e3 if ordered else math.nan


class _Caller(asyncio.Protocol):
    """One connection that asks, waits for the whole answer, and asks again while ``more`` says so."""

    def __init__(self, call: Call, measured: Measured, more: Callable[[], bool]) -> None:
        self.call, self.measured, self.more = call, measured, more
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._ask()

    def _ask(self) -> None:
        self.received.clear()
        request = self.call.request()
        self.asked_at = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not _is_whole(self.received):
            return
        self.measured.times_s.append(time.perf_counter() - self.asked_at)
        if not any(want in self.received for want in self.call.want):
            self.measured.wrong += 1
            self.measured.example = bytes(self.received[:600])
        if self.more():
            self._ask()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


def _is_whole(received: bytearray) -> bool:
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = bytes(received[:end]).lower()
    at = head.find(b"content-length:")
    length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
    return len(received) >= end + 4 + length


async def keep_busy(call: Call, callers: int, more: Callable[[], bool]) -> Measured:
    """Answers to ``callers`` that ask again while ``more()`` says so."""
    measured = Measured()
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    made = [
        await loop.create_connection(lambda: _Caller(call, measured, more), "127.0.0.1", call.port)
        for _ in range(callers)
    ]
    await asyncio.gather(*(protocol.ended for _, protocol in made))
    measured.wall_s = time.perf_counter() - started
    return measured


def for_seconds(call: Call, *, callers: int, seconds: float) -> Measured:
    """Answers to ``callers`` that ask for ``seconds`` without a pause."""
    end = time.perf_counter() + seconds
    return asyncio.run(keep_busy(call, callers, lambda: time.perf_counter() < end))


def times(call: Call, *, count: int, callers: int = 1) -> Measured:
    """About ``count`` answers to ``callers`` that ask without a pause."""
    left = iter(range(count - callers))
    return asyncio.run(keep_busy(call, callers, lambda: next(left, None) is not None))


def numbered(text: str) -> Iterator[str]:
    """The text with ``{n}`` replaced by 1, 2, 3 …, so that no two programs are equal."""
    number = 0
    while True:
        number += 1
        yield text.replace("{n}", str(number))


def execute_body(language: str, code: str, **more: object) -> Body:
    """Bodies for ``POST /api/execute``; ``{n}`` in the code is numbered."""
    if "{n}" not in code:
        body = json.dumps({"language": language, "code": code, **more}).encode()
        return lambda: body
    codes = numbered(code)
    return lambda: json.dumps({"language": language, "code": next(codes), **more}).encode()


def printed(text: str) -> tuple[bytes, ...]:
    """What stands in the answer of a run that wrote ``text`` to stdout."""
    quoted = json.dumps(text)
    return (f'"stdout":{quoted}'.encode(), f'"stdout": {quoted}'.encode())

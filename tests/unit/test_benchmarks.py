"""The benchmark's own instruments tell the truth."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import load, processes
from benchmarks.floor import Floor

ANSWER = b'{"stdout": "1\\n"}'


@pytest.fixture
def child() -> Iterator[int]:
    """A process of ours that waits for its standard input to close."""
    program = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as process:
        yield process.pid


def test_percentiles_are_values_that_were_measured() -> None:
    measured = load.Measured(times_s=[0.004, 0.001, 0.003, 0.002], wall_s=2.0)
    assert (measured.percentile_ms(50), measured.percentile_ms(95)) == (3.0, 4.0)
    assert measured.rate == 2.0


def test_numbered_programs_are_never_equal() -> None:
    body = load.execute_body("go", "// {n}")
    assert [json.loads(body())["code"] for _ in range(2)] == ["// 1", "// 2"]


def test_answers_are_counted_and_wrong_ones_told() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER)
        writer.close()

    async def both() -> tuple[load.Measured, load.Measured]:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        found = []
        for want in ("1\n", "2\n"):
            call = load.Call(port, "/", load.execute_body("python", "print(1)"), load.printed(want))
            found.append(await load.keep_busy(call, 2, iter([True] * 5 + [False] * 2).__next__))
        server.close()
        return found[0], found[1]

    right, wrong = asyncio.run(both())
    assert (len(right.times_s), right.wrong) == (7, 0)
    assert (len(wrong.times_s), wrong.wrong) == (7, 7)


def test_the_process_tree_is_read_with_memory_and_descriptors(child: int) -> None:
    assert child in [process.pid for _, process in processes.tree(os.getpid())]
    assert processes.memory(child).total > 0
    assert processes.descriptors(child).total >= 3
    assert processes.cpu(child).minus(processes.cpu(child)).total <= 0


def test_a_bare_program_is_measured_by_its_output(tmp_path: Path) -> None:
    bare = tmp_path / "python/bin/python3"
    bare.parent.mkdir(parents=True)
    bare.symlink_to(sys.executable)
    measured = Floor(tmp_path, tmp_path).times("python", 2)
    assert (len(measured.times_s), measured.wrong) == (2, 0)

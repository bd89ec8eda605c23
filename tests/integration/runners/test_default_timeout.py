"""Sandboxes in a process where a library has set a default timeout for new sockets, which makes them non-blocking."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runners.runner import Runner
from runners.types import Limits, RunSpec
from tests import boxes
from tests.boxes import output


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Runner]:
    """A runner that was begun, and works, while there is such a timeout."""
    socket.setdefaulttimeout(5.0)
    try:
        with contextlib.closing(boxes.start_runner(tmp_path, "auto", languages=("python", "node"))) as made:
            yield made
    finally:
        socket.setdefaulttimeout(None)


def test_programs_run(hasty: Runner) -> None:
    for _ in range(3):
        assert output(hasty.run(RunSpec("python", "print(1)"))) == "1"
        assert output(hasty.run(RunSpec("node", "console.log(2)"))) == "2"


@pytest.mark.parametrize("language", ["python", "node"])
def test_an_interpreter_waits_for_its_next_run(hasty: Runner, tmp_path: Path, language: str) -> None:
    (tmp_path / "workspaces/s").mkdir(mode=0o700)
    live = hasty.open(language=language, workspace="s", limits=Limits())
    try:
        for number in range(3):
            result = live.run(RunSpec(language, str(number), limits=Limits()))
            assert (result.result, result.state_lost) == (str(number), None)
    finally:
        live.close()

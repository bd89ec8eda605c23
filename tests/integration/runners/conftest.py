"""Runners that whole files of tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runners.runner import Runner
from tests import boxes


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the shared runner has its workspaces and scratch."""
    return tmp_path_factory.mktemp("runner")


@pytest.fixture(scope="session")
def runner(home: Path) -> Iterator[Runner]:
    """One runner of this process's own mode."""
    made = boxes.start_runner(home, "auto", parked={"node": 1, "deno": 1})
    yield made
    made.close()


@pytest.fixture
def workspace(home: Path, request: pytest.FixtureRequest) -> Path:
    """An empty session folder; its name is what runners want."""
    folder = home / "workspaces" / f"ws-{abs(hash(request.node.nodeid)):x}"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture(scope="session")
def is_root() -> bool:
    """Whether limits are the kernel's."""
    return os.geteuid() == 0

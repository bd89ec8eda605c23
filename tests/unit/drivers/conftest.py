"""The runtimes as drivers see them, and a fresh workspace for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import stack
from tests.unit.drivers import driving


@pytest.fixture(scope="session")
def runtimes_view(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return driving.view(stack.current.runtimes, tmp_path_factory.mktemp("drivers"))


@pytest.fixture
def place(runtimes_view: Path, tmp_path: Path) -> driving.Place:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    return driving.Place(runtimes_view, workspace)

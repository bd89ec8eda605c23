"""A box of each mode for the whole directory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import boxes


@pytest.fixture(scope="session", params=boxes.modes())
def box(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[boxes.Box]:
    """A sandbox of root's, and one of an ordinary user's."""
    made = boxes.make_box(request.param, tmp_path_factory.mktemp("box"))
    yield made
    made.close()

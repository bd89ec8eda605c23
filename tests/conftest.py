"""Fixtures of every test: the real database of this worker's stack."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

from tests import stack


@pytest.fixture(scope="session")
def django_db_setup() -> None:
    """The database is there already: pytest-django makes none of its own."""
    error = stack.template_error()
    assert not error, f"the database could not be migrated: {error}"


@pytest.fixture
def real_db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Access outside a transaction, for what other threads or processes must see: use fresh ids, clean nothing."""
    with django_db_blocker.unblock():
        yield

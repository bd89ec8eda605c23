"""Fixtures of every test: the real database of this worker's stack."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest
from pytest_django import DjangoDbBlocker

from tests import servers, stack

# The same examples every time, and no deadline: a busy machine fails no test.
hypothesis.settings.register_profile(
    "era", deadline=None, derandomize=True, database=None, suppress_health_check=list(hypothesis.HealthCheck)
)
hypothesis.settings.load_profile("era")


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


@pytest.fixture(scope="session")
def server() -> Iterator[servers.Server]:
    """One whole server for all tests of this worker, on stores of its own: use fresh ids."""
    settings = stack.settings_of_a_server("server") | {"ERA_WEBHOOK_ALLOW_PRIVATE": "true"}
    own = stack.current
    with servers.running(settings, state=own.state / "served") as running:
        yield running


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints which object stores the tests really spoke to."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    told = {value for report in reports for name, value in getattr(report, "user_properties", ()) if name == "spoke to"}
    for line in sorted(told):
        terminalreporter.write_line(f"spoke to {line}")

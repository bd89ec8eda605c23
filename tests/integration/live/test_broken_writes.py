"""Live sessions while their node cannot write: nothing stays locked, and no sandbox stays that nobody knows."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
from django.db import OperationalError

from era_project import conf
from runners.backends.base import Live as Sandbox
from runners.runner import Runner
from runners.types import Limits, RunSpec
from sessions_app import states
from sessions_app.live_opening import Wanted
from sessions_app.lives import Lives
from sessions_app.models import Session
from sessions_app.services import owners
from sessions_app.workspace import Workspace
from tests import boxes

pytestmark = pytest.mark.usefixtures("real_db")

NODE = "broken-writes"


class Opening:
    """A runner that remembers the sandboxes that it opened."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.opened: list[Sandbox] = []

    def open(self, **given: Any) -> Sandbox:
        self.opened.append(self.runner.open(**given))
        return self.opened[-1]


@pytest.fixture
def opening() -> Iterator[Opening]:
    home = conf.get().workspaces_dir.parent
    with contextlib.closing(boxes.start_runner(home, "auto", languages=("python",))) as runner:
        yield Opening(runner)


@pytest.fixture
def here(opening: Opening) -> Iterator[Lives]:
    made = Lives(opening, node=NODE)
    yield made
    made.stop(stores=False)


def wanted() -> Wanted:
    session = Session.objects.create(owner_id=owners.default_id(), name=f"s-{uuid.uuid4().hex}", language="python")
    return Wanted(session_id=session.id, language="python", limits=Limits())


def value_of(here: Lives, one: Wanted, code: str) -> str | None:
    with here.use(one) as live:
        return live.sandbox.run(RunSpec("python", code)).result


def failing(*_: object, **__: object) -> NoReturn:
    raise OperationalError("the database is away")


def test_an_end_that_cannot_be_written_keeps_no_lock(here: Lives, monkeypatch: pytest.MonkeyPatch) -> None:
    one = wanted()
    assert value_of(here, one, "x = 1; x") == "1"
    (live,) = here.all()
    live.sandbox.close()
    with monkeypatch.context() as patch:
        patch.setattr(states, "lost", failing)
        with pytest.raises(OperationalError):
            value_of(here, one, "1")
    assert not live.lock.locked()
    assert value_of(here, one, "'x' in globals()") == "False"


def test_a_sandbox_that_cannot_be_closed_keeps_no_lock(here: Lives, monkeypatch: pytest.MonkeyPatch) -> None:
    one = wanted()

    def end_badly() -> None:
        with here.use(one) as live:
            live.sandbox.close()
            monkeypatch.setattr(type(live.workspace), "remove", failing)

    with pytest.raises(OperationalError):
        end_badly()
    monkeypatch.undo()
    assert value_of(here, one, "2") == "2"


@pytest.mark.parametrize("broken", [(states, "opened"), (Workspace, "settle")])
def test_an_opening_that_cannot_be_written_leaves_nothing(
    here: Lives, opening: Opening, broken: tuple[object, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = wanted()
    with monkeypatch.context() as patch:
        patch.setattr(*broken, failing)
        with pytest.raises(OperationalError):
            value_of(here, one, "1")
    assert not any(sandbox.is_alive for sandbox in opening.opened)
    assert not here.all()
    assert not list(conf.get().workspaces_dir.glob(f"{one.session_id}-*"))
    assert value_of(here, one, "3") == "3"


def test_one_that_cannot_be_looked_at_keeps_no_other_from_it(here: Lives, monkeypatch: pytest.MonkeyPatch) -> None:
    conf.set_for_this_process({"ERA_LIVE_FREEZE_S": "0"})
    first, second = wanted(), wanted()
    for one in (first, second):
        value_of(here, one, "1")
    bad, good = here.all()
    monkeypatch.setattr(bad.sandbox, "excess", failing)
    try:
        here._look()
        assert (bad.is_frozen, good.is_frozen) == (False, True)
    finally:
        conf.set_for_this_process({"ERA_LIVE_FREEZE_S": ""})

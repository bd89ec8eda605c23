"""Who may execute and end a run: claims, leases, fencing, and what becomes of the runs of a dead node."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from django.db.models.functions import Now

from runners.types import Kept, RunResult, Status
from sessions_app import claiming, final_rows, finishing, lease, reaper
from sessions_app.claiming import Claim, Claimed
from sessions_app.connections import Connection
from sessions_app.final_rows import Outcome
from sessions_app.finishing import Final
from sessions_app.lease import Heart, Lease, NodeFacts
from sessions_app.models import Node, Run, Session
from sessions_app.services import nodes, owners, runs
from tests.integration.runs.conftest import nobodys_language, start, told
from tests.waiting import wait_until

MakeSession = Callable[..., Session]


def register(name: str = "") -> Lease:
    """A node that is only a row; its lease outlasts any test."""
    mine = lease.register(NodeFacts(name or f"row-{uuid.uuid4().hex}", {}, 1, {}))
    Node.objects.filter(name=mine.node).update(lease_until=Now() + timedelta(hours=1))
    return mine


def queued(**more: object) -> uuid.UUID:
    """A run that no worker takes."""
    started = start("print(1)", language=nobodys_language(), **more)
    started.accepted.result(30)
    return uuid.UUID(started.run_id)


def claim(own: Connection, run_id: uuid.UUID, mine: Lease) -> Claimed | None:
    """Take a run."""
    return claiming.claim(own, [Claim(run_id, mine)])[0]


def final(claimed: Claimed, mine: Lease) -> Final:
    """Its end."""
    result = RunResult(Status.SUCCEEDED, 0, stdout=Kept(b"done", 4))
    outcome = Outcome(result, mine.node, "slot", 0.0)
    return Final(final_rows.made(claimed, outcome), mine.node, mine.number, claimed.reply_to)


def expire(own: Connection, mine: Lease) -> None:
    """The node falls silent for longer than its lease."""
    own.execute("UPDATE sessions_app_node SET lease_until = now() - interval '1 s' WHERE name = %s", (mine.node,))


def test_a_run_is_claimed_once(own: Connection) -> None:
    mine, run_id = register(), queued(env={"A": "1"})
    claimed = claim(own, run_id, mine)
    assert claimed is not None
    assert claimed.request is not None
    assert claim(own, run_id, mine) is None
    assert claim(own, run_id, register()) is None
    assert Run.objects.get(id=run_id).request is None
    assert finishing.finish(own, [final(claimed, mine)]) == [True]


def test_two_claims_of_one_run_in_a_batch_give_it_to_one(own: Connection) -> None:
    mine, run_id = register(), queued()
    first, second = claiming.claim(own, [Claim(run_id, mine), Claim(run_id, mine)])
    assert (first is None) != (second is None)


def test_an_old_lease_neither_claims_nor_ends(own: Connection) -> None:
    old, run_id, waiting = register(), queued(), queued()
    claimed = claim(own, run_id, old)
    assert claimed is not None
    new = register(old.node)
    assert new.number == old.number + 1
    assert claim(own, waiting, old) is None
    stale = Final(final(claimed, old).row, old.node, new.number, None)
    assert finishing.finish(own, [stale]) == [False]
    reaper.reap(own)
    assert wait_until(lambda: Run.objects.get(id=run_id).finished_at, 30, "the run is lost")
    assert finishing.finish(own, [final(claimed, old)]) == [False]
    assert Run.objects.get(id=run_id).status == "lost"
    runs.cancel(str(waiting), owner_id=owners.default_id())


def test_a_node_whose_lease_ran_out_claims_nothing(own: Connection) -> None:
    mine, run_id = register(), queued()
    expire(own, mine)
    assert claim(own, run_id, mine) is None
    runs.cancel(str(run_id), owner_id=owners.default_id())


def test_runs_of_a_dead_node_are_lost_with_a_reason_and_their_callers_told(own: Connection) -> None:
    mine = register()
    started = start("", language=nobodys_language())
    started.accepted.result(30)
    assert claim(own, uuid.UUID(started.run_id), mine)
    expire(own, mine)
    reaper.reap(own)
    answer = told(started)
    assert (answer.status, answer.run["code"], answer.run["status"]) == (500, "RUN_LOST", "lost")
    assert "node" in answer.run["message"]
    assert answer.run["exit_code"] is None


def test_while_nobody_could_renew_no_lease_is_judged(own: Connection) -> None:
    mine, run_id = register(), queued()
    claimed = claim(own, run_id, mine)
    assert claimed is not None
    own.execute("SELECT pg_advisory_lock(%s)", (reaper.LOCK,))  # keeps a server's own reaper from judging meanwhile
    expire(own, mine)
    reaper.reap(own, judge=False)
    assert Run.objects.get(id=run_id).status == "running"
    assert finishing.finish(own, [final(claimed, mine)]) == [True]
    own.execute("SELECT pg_advisory_unlock(%s)", (reaper.LOCK,))


def test_a_session_gives_one_run_at_a_time(own: Connection, session: MakeSession) -> None:
    made, mine = session(language=nobodys_language()), register()
    first, second = (start("", session=made.name) for _ in range(2))
    for one in (first, second):
        one.accepted.result(30)
    assert claim(own, uuid.UUID(second.run_id), mine) is None
    claimed = claim(own, uuid.UUID(first.run_id), mine)
    assert claimed is not None
    assert claimed.session is not None
    assert claimed.session.id == made.pk
    assert claim(own, uuid.UUID(second.run_id), mine) is None
    assert finishing.finish(own, [final(claimed, mine)]) == [True]
    second_claimed = claim(own, uuid.UUID(second.run_id), mine)
    assert second_claimed is not None
    assert finishing.finish(own, [final(second_claimed, mine)]) == [True]


@dataclasses.dataclass
class Hands:
    """Nothing runs here."""

    lost: list[uuid.UUID] = dataclasses.field(default_factory=list)
    stopped: list[uuid.UUID] = dataclasses.field(default_factory=list)
    runs: list[uuid.UUID] = dataclasses.field(default_factory=list)

    def reserved(self) -> list[uuid.UUID]:
        return []

    def executing(self) -> list[uuid.UUID]:
        return self.runs

    def stop(self, run_id: uuid.UUID) -> None:
        self.stopped.append(run_id)

    def lose(self, run_id: uuid.UUID, reason: str) -> None:
        self.lost.append(run_id)


def test_a_heart_renews_the_lease_and_ends_when_another_took_the_name(own: Connection) -> None:
    mine, fenced = register(), []
    heart = Heart(mine, Hands(), on_fenced=lambda: fenced.append(True))
    heart.start()
    expire(own, mine)
    wait_until(lambda: mine.node in {node.name for node in nodes.alive()}, 30, "the lease is renewed")
    register(mine.node)
    wait_until(lambda: fenced, 30, "the heart hears that it was fenced")
    heart.join(30)
    assert not heart.is_alive()


def test_a_heart_finds_claims_without_a_run_and_runs_without_a_claim(own: Connection) -> None:
    mine, run_id, ghost = register(), queued(), uuid.uuid4()
    assert claim(own, run_id, mine)
    own.execute("UPDATE sessions_app_run SET started_at = now() - interval '9 s' WHERE id = %s", (run_id,))
    unwanted = queued()
    assert claim(own, unwanted, mine)
    own.execute("UPDATE sessions_app_run SET cancel_requested = true WHERE id = %s", (unwanted,))
    hands = Hands(runs=[ghost, unwanted])
    heart = Heart(mine, hands, on_fenced=lambda: None)
    heart.start()
    wait_until(lambda: run_id in hands.lost and {ghost, unwanted} <= {*hands.stopped}, 30, "the heart compares")
    heart.stop()
    heart.join(30)


def test_a_heart_outlives_a_beat_that_fails(own: Connection) -> None:
    mine = register()

    class Broken(Hands):
        calls = 0

        def reserved(self) -> list[uuid.UUID]:
            Broken.calls += 1
            raise ValueError("badly formed hexadecimal UUID string")

    heart = Heart(mine, Broken(), on_fenced=lambda: None)
    heart.start()
    wait_until(lambda: Broken.calls > 1, 30, "the heart beats again")
    heart.stop()
    heart.join(30)


def test_a_released_lease_ends_the_node_at_once() -> None:
    mine = register()
    lease.drain(mine)
    assert Node.objects.get(name=mine.node).draining
    lease.release(mine)
    assert Node.objects.get(name=mine.node).lease_until <= datetime.now(UTC)

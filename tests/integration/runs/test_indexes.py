"""What looks for unfinished runs finds them by an index of these alone, however many finished ones are kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import pytest

from sessions_app import connections, ending, lease, reaper
from sessions_app.services import run_lookup

LATE, OF_DEAD_NODES = (
    ending.END.format(which=which, limit=1) % {"status": "'lost'", "message": "''", "exit_code": "NULL"}
    for which in (ending.LATE, ending.OF_DEAD_NODES)
)


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (LATE, ()),
        (OF_DEAD_NODES, ()),
        (reaper.UNTAKEN, (5.0,)),
        (lease.OURS, ("node", 1)),
        (run_lookup.AHEAD, (datetime.now(UTC), "python", datetime.now(UTC), UUID(int=0))),
    ],
    ids=["late", "dead nodes", "untaken", "ours", "ahead"],
)
def test_unfinished_runs_have_an_index(real_db: None, statement: str, values: Sequence[object]) -> None:
    with connections.postgres() as connection:
        connection.execute("SET enable_seqscan = off")
        plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN {statement}", values).fetchall())
    assert "run_unfinished" in plan, plan

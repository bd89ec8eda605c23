"""Whether a server kept its word: its records against what the programs counted and what the callers were told."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests import faults
from tests.chaos.load import Load, Order, told
from tests.servers import Server
from tests.waiting import wait_until

SETTLED_S = 300.0
ENDS = {"succeeded", "lost", "expired", "sandbox_error", "cancelled"}
"""How a program of the load may end while parts of the server die; each but the first with a reason."""

WATCH = """
CREATE TABLE IF NOT EXISTS chaos_claim (run uuid, node text, lease bigint);
CREATE OR REPLACE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO chaos_claim VALUES (NEW.id, NEW.node, NEW.lease); RETURN NULL; END $$;
CREATE OR REPLACE TRIGGER chaos_claims AFTER UPDATE ON sessions_app_run FOR EACH ROW
    WHEN (NEW.status = 'running' AND OLD.status <> 'running') EXECUTE FUNCTION chaos_note()"""
TWICE = "SELECT run, count(*) FROM chaos_claim GROUP BY run HAVING count(*) > 1"
UNFINISHED = "SELECT count(*) FROM sessions_app_run WHERE finished_at IS NULL"
SINCE = "SELECT id::text FROM sessions_app_run WHERE created_at > %s ORDER BY session_id, seq, created_at"


def watch_claims(server: Server) -> None:
    """From now on the database notes each time that a worker takes a run."""
    with faults.database(server) as connection:
        connection.execute(WATCH)


def now(server: Server) -> object:
    """The database's time."""
    with faults.database(server) as connection:
        (moment,) = connection.execute("SELECT now()").fetchone() or (None,)
    return moment


def await_settled(load: Load) -> None:
    """Return when all callers have done and no run is unfinished."""
    wait_until(lambda: not load.is_going_on, SETTLED_S, "every caller is answered")
    wait_until(lambda: _is_healthy(load.server), SETTLED_S, "the server is healthy")
    with faults.database(load.server) as connection:
        wait_until(lambda: connection.execute(UNFINISHED).fetchone() == (0,), SETTLED_S, "no run is unfinished")


def _is_healthy(server: Server) -> bool:
    try:
        return bool(server.get("/health").json["status"] == "healthy")
    except (OSError, http.client.HTTPException, ValueError):
        return False


def check(load: Load, since: object) -> Counter[str]:
    """Compare; returns how many runs ended how."""
    server = load.server
    with faults.database(server) as connection:
        assert connection.execute(TWICE).fetchall() == []
        ids = [str(run_id) for (run_id,) in connection.execute(SINCE, (since,)).fetchall()]
    with ThreadPoolExecutor(8) as pool:
        records = list(pool.map(lambda run_id: server.get(f"/api/runs/{run_id}").json, ids))
    _check_records(records, load.orders)
    by_id = {record["run_id"]: record for record in records}
    for order in load.orders:
        _check_told(order, by_id)
    for name in sorted({order.session for order in load.orders if order.session}):
        _check_session(server, name, records)
    return Counter(record["status"] for record in records)


def _check_records(records: Sequence[dict[str, Any]], orders: Sequence[Order]) -> None:
    strange = [record for record in records if record["status"] not in ENDS]
    assert not strange, json.dumps(strange[:3], indent=1)
    for record in records:
        if record["status"] == "succeeded":
            assert record["stdout"].count("\n") == 1, record
            assert record["warnings"] == [], json.dumps(record, indent=1)
        else:
            assert record["message"], json.dumps(record, indent=1)
    printed = Counter(record["stdout"].strip() for record in records if record["stdout"])
    assert max(printed.values()) == 1, printed.most_common(3)
    assert printed.keys() <= {order.mark for order in orders}
    assert len(records) <= len(orders), "more runs than were asked for"


def _check_told(order: Order, by_id: dict[str, dict[str, Any]]) -> None:
    """Whoever stayed was answered, and what it was told is what the record says."""
    if order.answer is None:
        assert not order.is_repeated, "a caller who asked again and again was never answered"
        return
    body = told(order)
    run_id = str(body.get("run_id", ""))
    if not run_id:
        # 409: the web process died before it had queued the first call of the key; nothing has run.
        assert (order.answer.status, body["code"]) == (409, "CONFLICT") or order.answer.status == 503, body
        printed = [record for record in by_id.values() if order.mark in record["stdout"]]
        assert not printed or order.is_repeated, (body, printed)
        return
    record = by_id[run_id]
    if order.answer.status == 202:
        assert body["status"] in ("queued", "running") or body["status"] == record["status"]
    elif "status" in body:
        assert body["status"] == record["status"], (body, record)
    if record["status"] == "succeeded":
        assert record["stdout"].strip() == order.mark


def _check_session(server: Server, name: str, records: Sequence[dict[str, Any]]) -> None:
    """A session counts, in its data and in a file, exactly the runs that succeeded, in the order in which they came."""
    succeeded = [
        record["stdout"].strip()
        for record in records
        if (record["session_id"], record["status"]) == (name, "succeeded")
    ]
    assert server.get(f"/api/sessions/{name}").json["data"].get("marks", []) == succeeded
    if succeeded:
        in_file = server.get(f"/api/sessions/{name}/files/marks.txt").body.decode().split()
        others = [record for record in records if record["session_id"] == name and record["status"] != "succeeded"]
        assert in_file == succeeded, f"{in_file}\n{succeeded}\n{json.dumps(others, indent=1)}"

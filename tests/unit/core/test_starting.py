"""Ids, sealed requests, environments and messages of runs."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.utils.json import loads

from era_project.celery import app
from runners.types import MIB, Changes
from sessions_app import final_rows, finishing, messages, run_limits, sealing
from sessions_app.claiming import Claimed
from sessions_app.messages import Message
from sessions_app.running import Running
from sessions_app.sealing import Inputs
from sessions_app.services.runs import uuid7


def claimed(**more: object) -> Claimed:
    """A run as a worker has it."""
    at = datetime.now(UTC)
    fields = {
        "id": uuid.uuid4(),
        "request": None,
        "session_id": None,
        "session_name": "name",
        "seq": None,
        "language": "python",
        "code": "",
        "timeout_s": 30.0,
        "cpu_count": 1.0,
        "memory_mib": 256,
        "streamed": False,
        "reply_to": None,
        "created_at": at,
        "started_at": at,
        "session": None,
    }
    return Claimed(**{**fields, **more})  # type: ignore[arg-type]


def test_ids_are_of_version_7_and_sort_by_time() -> None:
    before = time.time_ns() // 1_000_000
    first = uuid7()
    assert (first.version, first.variant) == (7, uuid.RFC_4122)
    assert before <= first.int >> 80 <= time.time_ns() // 1_000_000
    assert len({uuid7() for _ in range(1000)}) == 1000


texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    st.builds(
        Inputs,
        args=st.lists(texts).map(tuple),
        env=st.dictionaries(texts, texts),
        stdin=texts,
        files=st.dictionaries(texts, st.binary()),
        update_data=st.none() | texts,
    )
)
def test_what_is_sealed_can_be_opened_for_its_run_alone(inputs: Inputs) -> None:
    run_id = uuid7().bytes
    sealed = sealing.seal(inputs, run_id=run_id)
    assert (sealed is None) == (inputs == sealing.NOTHING)
    assert sealing.unseal(sealed, run_id=run_id) == inputs
    if sealed is not None:
        with pytest.raises(InvalidTag):
            sealing.unseal(sealed, run_id=uuid7().bytes)


def test_the_users_variables_never_replace_ours() -> None:
    running = Running(claimed(session_name="abc"), Inputs(env={"ERA_SESSION_ID": "x", "ERA": "1", "A": "2"}), 0.0)
    made = run_limits.environment(running)
    assert made["ERA_SESSION_ID"] == "abc"
    assert made["ERA_PROXY_URL"].endswith("/proxy/abc")
    assert (made["ERA"], made["A"]) == ("1", "2")
    assert len(running.warnings) == 1


def test_what_a_node_cannot_give_is_capped_and_said() -> None:
    running = Running(claimed(cpu_count=10_000.0, memory_mib=512), Inputs(), 0.0)
    given = run_limits.limits(running, in_session=False)
    assert given.cpu_count < 10_000
    assert given.memory_bytes == 512 * MIB
    assert given.workspace_bytes == 256 * MIB
    assert "cores" in running.warnings[0]


def test_a_message_is_what_celery_would_send() -> None:
    run_id = str(uuid7())
    ours = loads(messages._encode(Message(run_id, "era.lang.python")))
    theirs = app.amqp.as_task_v2(
        run_id, messages.TASK, args=(run_id,), kwargs={}, ignore_result=True, argsrepr="", kwargsrepr=""
    )
    assert ours["headers"] == theirs.headers
    assert ours["properties"]["delivery_info"]["routing_key"] == "era.lang.python"
    with app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        queue = f"test.{run_id}"
        channel.client.lpush(queue, messages._encode(Message(run_id, queue)))
        received = channel.basic_get(queue, no_ack=True)
        assert received.decode() == [[run_id], {}, theirs.body[2]]


def strings(value: object) -> Iterator[str]:
    """Every text in a value that JSON could hold."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from (key, *strings(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


@settings(max_examples=30)
@given(st.recursive(texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner)))
def test_no_nul_reaches_postgres(value: object) -> None:
    assert not any("\0" in text for text in strings(finishing._clean(value)))


def test_a_thousand_changes_are_listed_in_all() -> None:
    many = tuple(f"f{number}" for number in range(700))
    listed = final_rows._listed(Changes(created=many, changed=many, deleted=many))
    assert [len(listed[kind]) for kind in ("created", "changed", "deleted")] == [700, 300, 0]

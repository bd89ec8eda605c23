"""Followers get everything, in order and once, whenever they come and whatever breaks in between."""

from __future__ import annotations

import asyncio
import threading
import uuid

import pytest
import redis
from django.conf import settings
from django.db import connection

from sessions_app import events, frames
from sessions_app.events import RunChannels, RunStorage
from sessions_app.frames import Event
from sessions_app.listening import hub
from sessions_app.models import Owner
from tests.integration.streams.feeding import Writing, check_dense, read_all, run_loop, text_of

pytestmark = pytest.mark.usefixtures("real_db")


def started(work: object) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread


def flood(run: Writing, lines: int) -> None:
    """For a thread of its own."""
    for number in range(lines):
        run.write("stdout" if number % 1000 else "stderr", b"line %d \xc3\xa9\n" % number)
    run.finish()
    connection.close()


def test_a_flood_arrives_complete_and_in_order_for_every_follower() -> None:
    run = Writing()

    async def follow() -> list[list[Event]]:
        readers = [asyncio.create_task(read_all(run.id)) for _ in range(3)]
        await asyncio.sleep(0)
        thread = started(lambda: flood(run, 50_000))
        got = await asyncio.gather(*readers)
        await asyncio.to_thread(thread.join)
        return got

    for got in run_loop(follow()):
        check_dense(got)
        for stream in ("stdout", "stderr"):
            assert text_of(got, stream) == run.text(stream)


def test_nothing_is_lost_when_the_subscription_breaks() -> None:
    run = Writing()
    client = redis.Redis(**settings.EVENTSTREAM_REDIS)

    async def follow() -> list[Event]:
        broken = 0

        async def cut(event: Event) -> None:
            nonlocal broken
            if event.type == "stdout" and broken < 3:
                broken += 1
                client.client_kill_filter(_type="pubsub")
                await asyncio.to_thread(run.write, "stdout", b"x" * 1000)
                if broken == 3:
                    await hub().in_thread(run.finish)

        await asyncio.to_thread(run.write, "stdout", b"begun\n")
        return await read_all(run.id, each=cut)

    got = run_loop(follow())
    check_dense(got)
    assert text_of(got, "stdout") == run.text("stdout") == "begun\n" + "x" * 3000


def test_resuming_a_long_stream_finds_its_place() -> None:
    run, storage = Writing(), RunStorage()
    name = events.channel(run.id)
    for number in range(300):
        (event,) = frames.output("stdout", number * 5, f"{number:04}\n")
        storage.append_event(name, "output", event.stored())
    events.publish_end(run.commit())
    assert storage.get_current_id(name) == 301
    for after in (1, 5, 700, 1499, 1500):
        got = run_loop(read_all(run.id, after=after))
        check_dense(got, after=after)
        assert got[-1].end == 1500


def test_a_slow_reader_gets_everything_and_holds_nobody() -> None:
    run = Writing()

    async def follow() -> list[Event]:
        has_finished = asyncio.Event()
        loop = asyncio.get_running_loop()

        def work() -> None:
            flood(run, 20_000)
            loop.call_soon_threadsafe(has_finished.set)

        async def wait(_: Event) -> None:
            await has_finished.wait()  # reads one event, then nothing until the run is over

        thread = started(work)
        got = await read_all(run.id, each=wait)
        await asyncio.to_thread(thread.join)
        return got

    got = run_loop(follow())
    check_dense(got)
    assert text_of(got, "stdout") == run.text("stdout")


def test_a_finished_run_replays_from_any_offset_with_and_without_its_live_events() -> None:
    run = Writing()
    for number in range(40):
        run.write("stdout", b"\xf0\x9f\x98\x80 %d\n" % number)
        run.write("stderr", b"\xffbad %d\n" % number)
    run.finish()
    whole = run_loop(read_all(run.id))
    check_dense(whole)
    ends = [event.end for event in whole]
    redis.Redis(**settings.EVENTSTREAM_REDIS).delete(events.key(events.channel(run.id)))
    again = run_loop(read_all(run.id))
    check_dense(again)
    assert again[-1] == whole[-1]
    for stream in ("stdout", "stderr"):
        assert text_of(again, stream) == text_of(whole, stream) == run.text(stream)
    for offset in {ends[0], ends[len(ends) // 2], ends[-1]}:
        rest = run_loop(read_all(run.id, after=offset))
        check_dense(rest, after=offset)
        assert rest[-1] == whole[-1]


def test_events_that_valkey_lost_are_sent_again_or_read_from_the_record() -> None:
    run = Writing()
    client = redis.Redis(**settings.EVENTSTREAM_REDIS)
    name = events.key(events.channel(run.id))
    run.write("stdout", b"before\n")

    async def follow() -> list[Event]:
        seen = asyncio.Event()

        async def look(_: Event) -> None:
            seen.set()

        reader = asyncio.create_task(read_all(run.id, each=look))
        await seen.wait()
        client.delete(name)
        await asyncio.to_thread(run.write, "stdout", b"after\n")
        late = asyncio.create_task(read_all(run.id))
        await hub().in_thread(run.finish)
        client.delete(name)
        for got in await asyncio.gather(reader, late):
            check_dense(got)
            assert text_of(got, "stdout") == "before\nafter\n"
        return await reader

    run_loop(follow())


def test_a_run_ended_by_somebody_else_ends_its_followers() -> None:
    run = Writing()
    run.write("stdout", b"partial")

    def end() -> None:
        ended = {**run.commit(), "status": "lost", "exit_code": None}
        events.publish_end(ended)
        events.publish_end(ended)

    async def follow() -> list[Event]:
        async def look(event: Event) -> None:
            if event.type == "stdout":
                await hub().in_thread(end)

        return await read_all(run.id, each=look)

    got = run_loop(follow())
    assert [event.type for event in got] == ["stdout", "done"]
    assert got[-1].end == len("partial")
    assert RunStorage().get_current_id(events.channel(run.id)) == 2


def test_a_short_run_that_nobody_streams_replays_from_its_row() -> None:
    run = Writing(streamed=False)
    run.write("stdout", b"hello\n")
    assert run.events.order() is None
    run.finish()
    got = run_loop(read_all(run.id))
    assert [event.type for event in got] == ["stdout", "done"]


def test_long_output_that_nobody_asked_for_is_not_sent_but_replayed_whole() -> None:
    run, storage = Writing(streamed=False), RunStorage()
    for number in range(120):
        run.write("stdout" if number % 2 else "stderr", b"%06d " % number * 8192)
    run.finish()
    stored = storage.get_events(events.channel(run.id), 0, limit=10_000)
    assert sum(len(entry.data) for entry in stored) < 4 << 20
    got = run_loop(read_all(run.id))
    check_dense(got)
    for stream in ("stdout", "stderr"):
        assert text_of(got, stream) == run.text(stream)


def test_the_middle_that_is_not_kept_is_told_once_and_offsets_stay_true() -> None:
    run = Writing(kept_bytes=1000)
    for number in range(400):
        run.write("stdout", b"%06d\n" % number)
        if number % 50 == 0:
            run.write("stderr", b"e%d\n" % number)
    run.commit()
    redis.Redis(**settings.EVENTSTREAM_REDIS).delete(events.key(events.channel(run.id)))
    got = run_loop(read_all(run.id))
    assert [event.end for event in got] == sorted(event.end for event in got)
    assert text_of(got, "stdout") == run.kept["stdout"].kept().content.decode()
    assert text_of(got, "stderr") == run.text("stderr")
    assert got[-1].end == 400 * 7 + len(run.text("stderr"))
    middle = run_loop(read_all(run.id, after=1500))
    assert "bytes left out" in text_of(middle, "stdout")
    assert text_of(middle, "stdout").endswith("000399\n")


def test_the_events_of_a_run_are_its_owners() -> None:
    run, rights = Writing(), RunChannels()
    name = events.channel(run.id)
    stranger, _ = Owner.objects.get_or_create(name="stranger")
    assert rights.can_read_channel(run.run.owner, name)
    assert not rights.can_read_channel(stranger, name)
    assert not rights.can_read_channel(None, name)
    assert not rights.can_read_channel(run.run.owner, events.channel(uuid.uuid4()))
    assert rights.get_channels_for_request(None, {"run_id": run.id}) == {name}
    assert rights.get_channels_for_request(None, {}) == set()

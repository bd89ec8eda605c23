from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from psycopg import pq
from psycopg.conninfo import make_conninfo

from era_project import addresses, conf


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://u:p%40@db.example:5433/runs", ("u", "p@", "db.example", "5433", "runs")),
        ("postgresql://era@/era?host=/run/x", ("era", "", "/run/x", "", "era")),
        ("postgres://era@%2Frun%2Fx/era", ("era", "", "/run/x", "", "era")),
    ],
)
def test_database_urls(url: str, expected: tuple[str, ...]) -> None:
    found = addresses.database(conf.load({"DATABASE_URL": url}))
    assert tuple(found[name] for name in ("USER", "PASSWORD", "HOST", "PORT", "NAME")) == expected


def test_options_of_the_database_are_passed_on() -> None:
    found = addresses.database(conf.load({"DATABASE_URL": "postgres://u@h/d?sslmode=require"}))
    assert found["OPTIONS"]["sslmode"] == "require"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis+socket:///run/valkey.sock", {"unix_socket_path": "/run/valkey.sock"}),
        ("redis://h:6380/2", {"host": "h", "port": 6380, "db": 2, "ssl": False}),
        ("rediss://:s%3A@h", {"host": "h", "port": 6379, "db": 0, "ssl": True, "password": "s:"}),
    ],
)
def test_redis_urls(url: str, expected: dict[str, Any]) -> None:
    assert addresses.redis_arguments(url) == expected


def test_live_events_use_the_broker_where_it_is_a_redis() -> None:
    assert addresses.redis_url(conf.load({"ERA_BROKER_URL": "redis://h"})) == "redis://h"
    assert addresses.redis_url(conf.load({"ERA_BROKER_URL": "amqp://h"})) == ""
    assert addresses.redis_url(conf.load({"ERA_BROKER_URL": "amqp://h", "ERA_REDIS_URL": "redis://r"})) == "redis://r"


def test_without_settings_all_is_in_the_state_folder(tmp_path: Path) -> None:
    own = conf.load({"ERA_STATE_DIR": str(tmp_path)})
    assert addresses.database(own)["HOST"] == f"{tmp_path}/sockets/postgres"
    assert addresses.broker_url(own) == f"redis+socket://{tmp_path}/sockets/valkey/valkey.sock"
    assert json.dumps(addresses.redis_arguments(addresses.redis_url(own)))


def test_a_database_that_vanished_is_given_up_in_time() -> None:
    """libpq knows these words, and the kernel gets what they say: a host may vanish without a word of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = addresses.database(conf.load({"DATABASE_URL": f"postgres://u@127.0.0.1:{port}/d"}))
        settings = found["OPTIONS"] | {"host": found["HOST"], "port": found["PORT"], "user": "u", "dbname": "d"}
        settings.pop("prepare_threshold")  # the driver's own word
        connection = pq.PGconn.connect_start(make_conninfo(**settings).encode())
        assert connection.status != pq.ConnStatus.BAD, connection.error_message
        while connection.connect_poll() == pq.PollingStatus.WRITING:
            pass
        with socket.socket(fileno=os.dup(connection.socket)) as own:
            assert own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            options = (socket.TCP_USER_TIMEOUT, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            assert [own.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [10_000, 5, 2, 3]
        connection.finish()


def test_the_words_of_a_url_come_before_ours() -> None:
    found = addresses.database(conf.load({"DATABASE_URL": "postgres://u@h/d?tcp_user_timeout=0"}))
    assert found["OPTIONS"]["tcp_user_timeout"] == "0"

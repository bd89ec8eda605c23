"""Where the services are, in the words of the libraries that connect to them."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from era_project.conf import Conf

REDIS_SCHEMES = ("redis", "rediss", "redis+socket", "unix")


IDLE_IN_TRANSACTION_S = 10
"""A process that is stopped in mid-transaction would else keep its locks, and its runs from being given up."""
VANISHED_AFTER_S = 10
"""A host that loses its power or its network says nothing: else who waits for it does so for 15 minutes to 2 hours.

Source: Linux's defaults, tcp_retries2 for what was sent and tcp_keepalive_time for what is awaited.
"""
CONNECTION = {
    "connect_timeout": 5,
    "tcp_user_timeout": VANISHED_AFTER_S * 1000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "prepare_threshold": 0,
    "options": f"-c plan_cache_mode=force_generic_plan -c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_S}s",
}
"""Plans: of the statements that we prepare on Django's connections; Django itself prepares none.

On Unix sockets libpq leaves out what is about TCP.
"""


def database(conf: Conf) -> dict[str, Any]:
    """Django's description of the PostgreSQL that ``DATABASE_URL`` names, else of the embedded one."""
    url = urlsplit(conf.database_url or embedded_database_url(conf))
    query = {name: values[-1] for name, values in parse_qs(url.query).items()}
    host = query.pop("host", "") or unquote(url.hostname or "")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(url.path.lstrip("/")) or "era",
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": host,
        "PORT": str(url.port or query.pop("port", "") or ""),
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": CONNECTION | query,
    }


def embedded_database_url(conf: Conf) -> str:
    """The PostgreSQL that ``serve`` runs on a socket in the state folder."""
    return f"postgres://era@/era?host={conf.state_dir}/sockets/postgres"


def broker_url(conf: Conf) -> str:
    """The broker, in kombu's words."""
    return conf.broker_url or f"redis+socket://{conf.state_dir}/sockets/valkey/valkey.sock"


def redis_url(conf: Conf) -> str:
    """The Valkey or Redis of live events and replies: its own setting, else the broker where that is one."""
    broker = broker_url(conf)
    return conf.redis_url or (broker if is_redis(broker) else "")


def is_redis(url: str) -> bool:
    """Whether ``url`` names a Valkey or Redis."""
    return urlsplit(url).scheme in REDIS_SCHEMES


def redis_arguments(url: str) -> dict[str, Any]:
    """What ``redis.Redis(**arguments)`` takes to reach ``url``."""
    parts = urlsplit(url)
    if parts.scheme in ("redis+socket", "unix"):
        return {"unix_socket_path": unquote(parts.path)}
    arguments: dict[str, Any] = {
        "host": parts.hostname or "localhost",
        "port": parts.port or 6379,
        "db": int(parts.path.strip("/") or 0),
        "ssl": parts.scheme == "rediss",
    }
    secrets = {"username": parts.username, "password": parts.password}
    return arguments | {name: unquote(value) for name, value in secrets.items() if value}

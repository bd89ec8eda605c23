from __future__ import annotations

import pytest
import redis
from django.conf import settings
from django.db import connection

from tests import stack


@pytest.mark.django_db
def test_the_database_is_this_workers_own() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database(), current_setting('is_superuser')")
        assert cursor.fetchone() == (f"era_{stack.current.name}", "off")


def test_the_valkey_is_this_workers_own() -> None:
    with redis.Redis(**settings.REDIS_CONNECTION) as client:
        client.set("name", stack.current.name)
        assert client.get("name") == stack.current.name.encode()
        assert client.dbsize() >= 1

"""A session of its own for each test."""

from __future__ import annotations

import uuid

import pytest

from sessions_app.models import Session
from sessions_app.services import owners


@pytest.fixture
def session(real_db: None) -> Session:
    return make_session()


def make_session() -> Session:
    made = Session.objects.create(owner_id=owners.default_id(), name=f"s-{uuid.uuid4().hex}", language="python")
    made.refresh_from_db()
    return made

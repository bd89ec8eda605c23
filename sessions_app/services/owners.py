"""Whoever things belong to."""

from __future__ import annotations

import functools

from sessions_app.models import Owner

DEFAULT = "default"


@functools.cache
def default_id() -> int:
    """The id of the owner of everything while there are no tokens; made where it is missing."""
    owner, _ = Owner.objects.get_or_create(name=DEFAULT)
    return owner.pk

"""POSTs that are answered once: the first call with a key runs, later ones get its answer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection

from era_project.errors import Conflict, InvalidInput
from sessions_app.models import IdempotencyKey
from sessions_app.services.runs import uuid7

KEEP_HOURS = 24
"""Source: the contract."""
MAX_KEY_CHARACTERS = 255
ABANDONED_S = 60.0
"""After so long a first call that neither started its run nor answered counts as dead with its web process."""

CLAIM = """
INSERT INTO sessions_app_idempotencykey (owner_id, route, key, body_sha256, run_id)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (owner_id, route, key) DO UPDATE SET body_sha256 = EXCLUDED.body_sha256, run_id = EXCLUDED.run_id,
    created_at = now(), status = NULL, answer = NULL
WHERE sessions_app_idempotencykey.created_at < now() - make_interval(hours => %s)
RETURNING id"""

LOOK = """
SELECT id, body_sha256, run_id, status, answer, extract(epoch FROM now() - created_at)
FROM sessions_app_idempotencykey WHERE owner_id = %s AND route = %s AND key = %s"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A POST that carries a key."""

    owner_id: int
    route: str
    key: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What is known of a key.

    Attributes:
        run_id: the id that the call's run has, or will have if it makes one.
        is_first: whether this very call is the one that runs.
        status: HTTP status of the first call's answer; None: not answered yet.
        answer: its JSON; None: it was no JSON or too large, ask for the run.
        is_abandoned: whether the first call is long over without an answer.
    """

    id: int
    run_id: UUID
    is_first: bool
    status: int | None = None
    answer: bytes | None = None
    is_abandoned: bool = False


def claim(call: Call) -> Claim:
    """Take the key, or learn what became of the call that has it.

    Raises:
        Conflict: ``IDEMPOTENCY_MISMATCH``: the key came with another body before.
    """
    digest = hashlib.sha256(call.body).hexdigest()
    run_id = uuid7()
    values: list[Any] = [call.owner_id, call.route, call.key, digest, run_id, KEEP_HOURS]
    while True:
        with connection.cursor() as cursor:
            cursor.execute(CLAIM, values)
            taken = cursor.fetchone()
            if taken:
                return Claim(id=taken[0], run_id=run_id, is_first=True)
            cursor.execute(LOOK, values[:3])
            found = cursor.fetchone()
        if found:  # else: released in between
            return _known(found, digest)


def _known(row: tuple[int, str, UUID, int | None, bytes | None, float], digest: str) -> Claim:
    number, body_sha256, run_id, status, answer, age_s = row
    if body_sha256 != digest:
        raise Conflict(
            "This Idempotency-Key came with another body before; use a new key for another request.",
            code="IDEMPOTENCY_MISMATCH",
        )
    return Claim(
        id=number,
        run_id=run_id,
        is_first=False,
        status=status,
        answer=None if answer is None else bytes(answer),
        is_abandoned=status is None and age_s > ABANDONED_S,
    )


def keep(claim: Claim, *, status: int, answer: bytes | None) -> None:
    """Keep the first call's answer for those that come again."""
    IdempotencyKey.objects.filter(pk=claim.id).update(status=status, answer=answer)


def release(claim: Claim) -> None:
    """Forget the key: the call did nothing, the next one may try."""
    IdempotencyKey.objects.filter(pk=claim.id).delete()


def check_key(key: str) -> str:
    """A key as it may be.

    Raises:
        InvalidInput: it is empty, too long or not visible ASCII.
    """
    if not (0 < len(key) <= MAX_KEY_CHARACTERS and key.isascii() and key.isprintable()):
        raise InvalidInput(
            f"Idempotency-Key must be 1 to {MAX_KEY_CHARACTERS} printable ASCII characters.", field="Idempotency-Key"
        )
    return key

"""Sessions: made, found, changed, copied. What ends them is in :mod:`sessions_app.services.endings`."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, Func, Q, QuerySet, TextField, Value
from django.db.models.functions import Cast, Now

from era_project import conf
from era_project.errors import Conflict, NotFound, TooLarge
from sessions_app import data_text, entries
from sessions_app.models import Session
from sessions_app.services import live_sessions

NOT_STORED = "The variables of the session that this one was copied from could not be stored."


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """What a session is made of; the wire's units and defaults are the door's."""

    owner_id: int
    language: str
    name: str | None = None
    persistent: bool = True
    data: str = "{}"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    default_timeout_s: float | None = None
    cpu_count: float = 1.0
    memory_mib: int = 256
    sandbox: str = "standard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Which sessions are listed."""

    language: str | None = None
    text: str | None = None
    """Part of the id or of the metadata, in any case."""
    metadata: tuple[tuple[str, str], ...] = ()
    """Keys at the top level with their values as text."""


def new_name() -> str:
    """An id that nobody guesses: 128 random bits."""
    return f"ses_{secrets.token_hex(16)}"


def create(new: NewSession) -> Session:
    """The new session.

    Raises:
        Conflict: its name is taken.
    """
    session = Session(
        owner_id=new.owner_id,
        language=new.language,
        name=new.name or new_name(),
        persistent=new.persistent,
        data=new.data,
        metadata=new.metadata,
        default_timeout_s=new.default_timeout_s,
        cpu_count=new.cpu_count,
        memory_mib=new.memory_mib,
        sandbox=new.sandbox,
    )
    return _saved(session, field="session_id")


def _saved(session: Session, *, field: str) -> Session:
    try:
        with transaction.atomic():
            session.save(force_insert=True)
    except IntegrityError:
        message = f"A session with the id {session.name!r} exists; choose another or delete it first."
        raise Conflict(message, code="SESSION_EXISTS", field=field) from None
    session.refresh_from_db()
    return session


def get(name: str, *, owner_id: int) -> Session:
    """The session of that name.

    Raises:
        NotFound: there is none, or it is another owner's.
    """
    return _only(name, Session.objects.filter(name=name, owner_id=owner_id))


def locked(name: str, *, owner_id: int) -> Session:
    """The same, its row locked until the end of the transaction.

    Raises:
        NotFound: there is none, or it is another owner's.
    """
    return _only(name, Session.objects.select_for_update().filter(name=name, owner_id=owner_id))


def _only(name: str, found: QuerySet[Session]) -> Session:
    session = found.first()
    if session is None:
        raise unknown(name)
    return session


def unknown(name: str) -> NotFound:
    """What is told where there is no session of that name, or it is another owner's."""
    return NotFound(f"There is no session `{name[:128]}`.")


def list_(search: Search, *, owner_id: int, limit: int | None = None, offset: int = 0) -> tuple[list[Session], int]:
    """The sessions that match, newest first, without data and code; and how many match in all."""
    matching = _matching(search, owner_id)
    ordered = matching.defer("data", "code", "code_description").order_by("-created_at", "-id")
    if limit is None and not offset:
        found = list(ordered)
        return found, len(found)
    end = None if limit is None else offset + limit
    return list(ordered[offset:end]), matching.count()


def _matching(search: Search, owner_id: int) -> QuerySet[Session]:
    matching = Session.objects.filter(owner_id=owner_id)
    if search.language is not None:
        matching = matching.filter(language=search.language)
    if search.text:
        matching = matching.alias(metadata_text=Cast("metadata", TextField()))
        matching = matching.filter(Q(name__icontains=search.text) | Q(metadata_text__icontains=search.text))
    for number, (key, value) in enumerate(search.metadata):
        # A function and not a JSON lookup: Django would take a key of digits for an index, and `__` for a path.
        member = Func(F("metadata"), Value(key), function="jsonb_extract_path_text", output_field=TextField())
        matching = matching.alias(**{f"member_{number}": member}).filter(**{f"member_{number}": value})
    return matching


@transaction.atomic
def patch(name: str, *, owner_id: int, changes: Mapping[str, Any]) -> Session:
    """The session with ``changes``: columns by name; ``metadata`` and ``data`` are merged at the top level.

    Raises:
        NotFound: there is no such session.
        TooLarge: what is merged is over the limit.
    """
    session = locked(name, owner_id=owner_id)
    merged = dict(changes)
    if "metadata" in changes:
        merged["metadata"] = _merged_metadata(session.metadata, changes["metadata"])
    if "data" in changes:
        merged["data"] = data_text.merge(session.data, changes["data"])
        _check_size(merged["data"], "data")
    for column, value in merged.items():
        setattr(session, column, value)
    session.updated_at = Now()
    session.save(update_fields=[*merged, "updated_at"])
    session.refresh_from_db(fields=["updated_at"])
    return session


def _merged_metadata(own: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = {key: value for key, value in {**own, **changes}.items() if value is not None or key not in changes}
    _check_size(json.dumps(merged, ensure_ascii=False), "metadata")
    return merged


def _check_size(text: str, name: str) -> None:
    most = conf.get().max_data_bytes
    if len(text.encode()) > most:
        message = f"`{name}` would be too large: at most {most} bytes together with what is there already."
        raise TooLarge(message, field=name, limit_bytes=most)


def duplicate(name: str, *, owner_id: int, new: str | None, data: str | None) -> Session:
    """A copy of the session: rows are copied, not bytes; its variables come from a snapshot of now.

    Raises:
        NotFound: there is no such session.
        Conflict: the new name is taken.
        Unavailable: Valkey cannot be reached.
    """
    is_current = live_sessions.save(get(name, owner_id=owner_id))
    with transaction.atomic():
        source = locked(name, owner_id=owner_id)
        copy = Session.objects.get(pk=source.pk)
        copy.pk = None
        copy.name = new or new_name()
        copy.data = source.data if data is None else data
        copy.state = "stored" if source.snapshot else "none"
        copy.node = None
        if not is_current:
            copy.state, copy.snapshot, copy.snapshot_lost, copy.lost_reason = "none", None, [], NOT_STORED
        copy.next_seq = 1
        copy.last_run_at = None
        copy.created_at = copy.updated_at = Now()
        made = _saved(copy, field="new_id")
        entries.copy(source.pk, made.pk)
        made.refresh_from_db(fields=["file_count", "total_bytes"])
        return made

"""The bodies of the API's JSON routes: every field, its type, its limits; unknown names refused."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from rest_framework import serializers

from era_project.errors import InvalidInput
from sessions_app import webhooks
from sessions_app.api import json_text
from sessions_app.api.containers import Arguments, Data, Environment, Files, Metadata, SessionId, TerminalSize
from sessions_app.api.fields import Absent, Flag, Language, Number, OffOnly, OneOf, Sandbox, Text, Whole
from sessions_app.services import owners
from sessions_app.services.runs import NewRun

LEAST_MEMORY_MIB = 16


class UnknownField(InvalidInput):
    """A name that the route does not know."""

    code = "UNKNOWN_FIELD"


def refuse_unknown(given: Mapping[str, Any], known: list[str], *, what: str) -> None:
    """Refuse the first name that is not known, and tell the nearest one that is.

    Raises:
        UnknownField: with ``field`` and, where something is near, ``hint``.
    """
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            extra = {"hint": f"did you mean {near[0]}?"} if near else {}
            known_names = ", ".join(known)
            raise UnknownField(f"Unknown {what} `{name[:200]}`; there are: {known_names}.", field=name[:200], **extra)


class Webhook(Text):
    """Where the finished run is POSTed."""

    expected = "an http or https URL"

    def to_internal_value(self, data: Any) -> str:
        """The URL; where its name leads is checked again when it is called."""
        return webhooks.check_url(super().to_internal_value(data))


class Body(serializers.Serializer[Any]):
    """A body whose fields are strict; parse it by :meth:`of`."""

    raw: ClassVar[tuple[str, ...]] = ()
    """Members that are kept as text."""

    @classmethod
    def of(cls, body: bytes) -> dict[str, Any]:
        """The checked fields of ``body``; those that were not given are missing.

        Raises:
            InvalidInput: no JSON, an unknown name, or a value that a field refuses.
        """
        return cls.checked(json_text.parse(body, raw=cls.raw))

    @classmethod
    def checked(cls, document: Mapping[str, Any]) -> dict[str, Any]:
        """The same for members that are parsed already."""
        body = cls._shared()
        names = list(body.fields)
        if not document.keys() <= body.fields.keys():
            refuse_unknown(document, names, what="field")
        return dict(body.validate(body.to_internal_value(document)))

    def to_internal_value(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The values of the fields that were given; DRF's own would look at each field that was not."""
        fields = self.fields
        for name in self._required():
            if name not in data:
                fields[name].run_validation()
        return {name: fields[name].run_validation(value) for name, value in data.items()}

    @classmethod
    @functools.cache
    def _required(cls) -> tuple[str, ...]:
        return tuple(name for name, field in cls._shared().fields.items() if field.required)

    @classmethod
    @functools.cache
    def _shared(cls) -> Self:
        """One instance for all requests: DRF would copy every field for each, and nothing here has state."""
        return cls()


def _timeout() -> Number:
    return Number(required=False, most=lambda c: c.max_timeout_s, unit=" s")


class Sized(Body):
    """How much of a machine is asked for."""

    cpu_count = Number(required=False, most=lambda c: c.max_cpu)
    memory_mib = Whole(required=False, most=lambda c: c.max_memory_mib, least=LEAST_MEMORY_MIB, unit=" MiB")


class Program(Body):
    """What every start of a program takes."""

    timeout_ms = Number(required=False, most=lambda c: c.max_timeout_s, scale=1000, unit=" ms")
    timeout = _timeout()
    queue_timeout = _timeout()
    env = Environment(required=False, limit=lambda c: c.max_env_bytes)
    stdin = Text(required=False, nul=True)
    args = Arguments(required=False, limit=lambda c: c.max_env_bytes)
    files = Files(required=False)
    wait = Flag(required=False)
    webhook = Webhook(required=False)
    on_disconnect = OneOf(("cancel", "detach"), required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Fold the two ways to give a timeout into ``timeout_s``."""
        if "timeout_ms" in attrs:
            if "timeout" in attrs:
                raise InvalidInput("Give `timeout_ms` or `timeout`, not both.", field="timeout")
            attrs["timeout_s"] = attrs.pop("timeout_ms") / 1000
        elif "timeout" in attrs:
            attrs["timeout_s"] = attrs.pop("timeout")
        return attrs


class Execute(Program, Sized):
    """``POST /api/execute``."""

    language = Language()
    code = Text(limit=lambda c: c.max_code_bytes)
    interactive = Flag(required=False)
    tty = TerminalSize(required=False)
    allowInternetAccess = OffOnly(required=False)  # noqa: N815
    sandbox = Sandbox(required=False)
    setup = Absent(required=False)


class SessionRun(Program):
    """``POST /api/sessions/{id}/run``."""

    raw = ("update_data",)
    code = Text(required=False, limit=lambda c: c.max_code_bytes)
    update_data = Data(required=False, limit=lambda c: c.max_data_bytes)


class Settings(Sized):
    """What creation and PATCH of a session share."""

    raw = ("data", "metadata")
    default_timeout = Number(required=False, allow_null=True, most=lambda c: c.max_timeout_s, unit=" s")
    allowInternetAccess = OffOnly(required=False)  # noqa: N815
    allowPublicAccess = OffOnly(required=False)  # noqa: N815
    metadata = Metadata(required=False, limit=lambda c: c.max_data_bytes)
    data = Data(required=False, limit=lambda c: c.max_data_bytes)  # type: ignore[assignment]
    expires_at = Absent(required=False)
    idle_timeout = Absent(required=False)


class NewSession(Settings):
    """``POST /api/sessions``."""

    language = Language()
    session_id = SessionId(required=False)
    persistent = Flag(required=False)
    setup = Absent(required=False)
    sandbox = Sandbox(required=False)


class SessionPatch(Settings):
    """``PATCH /api/sessions/{id}``."""


class Duplicate(Body):
    """``POST /api/sessions/{id}/duplicate``; ``id`` is another name of ``new_id``."""

    raw = ("data",)
    new_id = SessionId(required=False)
    id = SessionId(required=False)
    data = Data(required=False, limit=lambda c: c.max_data_bytes)  # type: ignore[assignment]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Fold the two names."""
        other = attrs.pop("id", None)
        if other is not None:
            if "new_id" in attrs:
                raise InvalidInput("Give `new_id` or `id`, not both.", field="id")
            attrs["new_id"] = other
        return attrs


class StoredCode(Body):
    """``PUT /api/sessions/{id}/code``."""

    code = Text(limit=lambda c: c.max_code_bytes)
    description = Text(required=False, allow_null=True, limit=lambda c: c.max_code_bytes)


class Nothing(Body):
    """A body that takes no field."""


def execute(body: bytes, *, streamed: bool = False) -> NewRun:
    """The one-shot run that ``body`` asks for.

    Raises:
        InvalidInput, TooLarge, NotAvailable: as the fields say.
    """
    return new_one_shot(Execute.of(body), streamed=streamed)


def new_one_shot(fields: dict[str, Any], *, streamed: bool = False) -> NewRun:
    """The run of checked fields of :class:`Execute`."""
    tty = fields.get("tty")
    is_interactive = tty is not None or fields.get("interactive", False)
    return NewRun(
        language=fields["language"],
        code=fields["code"],
        cpu_count=fields.get("cpu_count"),
        memory_mib=fields.get("memory_mib"),
        interactive=is_interactive,
        tty=tty,
        **_common(fields, streamed=streamed or is_interactive),
    )


def run(body: bytes, *, session: str, streamed: bool = False) -> NewRun:
    """The run in ``session`` that ``body`` asks for.

    Raises:
        InvalidInput, TooLarge, NotAvailable: as the fields say.
    """
    return new_session_run(SessionRun.of(body), session=session, streamed=streamed)


def new_session_run(fields: dict[str, Any], *, session: str, streamed: bool = False) -> NewRun:
    """The run of checked fields of :class:`SessionRun`; the session's row fills in its language and size."""
    return NewRun(
        session=session,
        code=fields.get("code"),
        update_data=fields.get("update_data"),
        **_common(fields, streamed=streamed),
    )


def _common(fields: dict[str, Any], *, streamed: bool) -> dict[str, Any]:
    wait = fields.get("wait", True)
    return {
        "owner_id": owners.default_id(),
        "args": fields.get("args", ()),
        "env": fields.get("env", {}),
        "stdin": fields.get("stdin", ""),
        "files": fields.get("files", {}),
        "timeout_s": fields.get("timeout_s"),
        "queue_timeout_s": fields.get("queue_timeout"),
        "streamed": streamed,
        "wait": wait,
        "detached": not wait or fields.get("on_disconnect") == "detach",
        "webhook": fields.get("webhook"),
    }

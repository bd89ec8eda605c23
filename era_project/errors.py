"""One tree of errors: what went wrong, in one sentence, with a code that never changes."""

from __future__ import annotations

from typing import Any, ClassVar


class EraError(Exception):
    """Something that the caller is told. ``str()`` is the sentence that says what to do.

    Attributes:
        status: HTTP status of the answer.
        code: stable upper-case name; all stand in ``docs/errors.md``.
        title: short title for people.
        extra: further keys of the answer (``field``, ``hint``, ``retry_after`` …).
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    code = "INTERNAL"

    def __init__(self, message: str, *, code: str | None = None, **extra: Any) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.extra = extra


class InvalidInput(EraError):
    """The request cannot be understood or asks for what cannot be."""

    status, title, code = 400, "Bad request", "INVALID_INPUT"


class NotAvailable(EraError):
    """A route, field or header that this version does not have."""

    status, title, code = 400, "Not available", "NOT_AVAILABLE"


class Denied(EraError):
    """The caller may not do this."""

    status, title, code = 403, "Forbidden", "FORBIDDEN"


class NotFound(EraError):
    """There is no such thing, or it is somebody else's."""

    status, title, code = 404, "Not found", "NOT_FOUND"


class MethodNotAllowed(EraError):
    """The route exists, the method does not."""

    status, title, code = 405, "Method not allowed", "METHOD_NOT_ALLOWED"


class Conflict(EraError):
    """The state of things forbids it now."""

    status, title, code = 409, "Conflict", "CONFLICT"


class PreconditionFailed(EraError):
    """The thing is not as the request's ``If-Match`` or ``If-None-Match`` expects it."""

    status, title, code = 412, "Precondition failed", "PRECONDITION_FAILED"


class RangeNotSatisfiable(EraError):
    """The range begins after the end."""

    status, title, code = 416, "Range not satisfiable", "RANGE_NOT_SATISFIABLE"


class TooLarge(EraError):
    """More bytes than the limit that the sentence names."""

    status, title, code = 413, "Too large", "TOO_LARGE"


class UnsupportedMediaType(EraError):
    """A body of a type that the route does not take."""

    status, title, code = 415, "Unsupported media type", "UNSUPPORTED_MEDIA_TYPE"


class LimitExceeded(EraError):
    """Too many at once; ``retry_after`` (s) tells when to come again."""

    status, title, code = 429, "Too many requests", "TOO_MANY_REQUESTS"


class Unavailable(EraError):
    """A part of the server is down, or nobody could take the run in time."""

    status, title, code = 503, "Unavailable", "UNAVAILABLE"

"""The one place that turns whatever was raised into the error that the caller is told."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson
import psycopg
import redis
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from kombu.exceptions import OperationalError as BrokerError
from rest_framework import exceptions as drf
from rest_framework.response import Response

from era_project import full_disk
from era_project.errors import (
    Denied,
    EraError,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    Unavailable,
    UnsupportedMediaType,
)

log = logging.getLogger(__name__)

NO_ROUTE = "There is no such route; see docs/api.md for those that there are (none ends with a slash)."


@dataclass(frozen=True, slots=True)
class Rendered:
    """An error as it goes over the wire."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)

    def json(self) -> bytes:
        """The body as JSON bytes."""
        return orjson.dumps(self.body, default=str)


def _known(exc: BaseException) -> EraError | None:
    """The error of our own tree that ``exc`` stands for; None: a fault of ours."""
    if isinstance(exc, EraError):
        return exc
    if isinstance(exc, Http404):
        return NotFound(NO_ROUTE)
    if isinstance(exc, RequestDataTooBig):
        return TooLarge("The body is too large.")
    if isinstance(exc, SuspiciousOperation):
        return InvalidInput("The request is malformed.")
    if isinstance(exc, (OperationalError, InterfaceError, psycopg.OperationalError)):
        return full_disk.unavailable("database", exc)
    if isinstance(exc, (redis.ConnectionError, redis.TimeoutError, BrokerError)):
        return full_disk.unavailable("broker", exc)
    if isinstance(exc, TimeoutError):
        return Unavailable("A part of the server does not answer in time; try again, and look at /health.")
    if full_disk.is_told_by(exc):
        return full_disk.disk_full()
    return _from_drf(exc)


def _from_drf(exc: BaseException) -> EraError | None:
    if isinstance(exc, drf.MethodNotAllowed):
        return MethodNotAllowed("This route does not take that method; the Allow header lists those that it takes.")
    if isinstance(exc, drf.UnsupportedMediaType):
        return UnsupportedMediaType("Send the body as application/json.")
    if isinstance(exc, (drf.PermissionDenied, drf.NotAuthenticated, drf.AuthenticationFailed, PermissionDenied)):
        return Denied("You may not do this.")
    if isinstance(exc, drf.NotFound):
        return NotFound(NO_ROUTE)
    if isinstance(exc, drf.APIException) and exc.status_code < 500:
        return InvalidInput("The request cannot be understood.")
    return None


def _headers(extra: dict[str, Any]) -> dict[str, str]:
    headers = {}
    allow: Iterable[str] | None = extra.pop("allow", None)
    if allow is not None:
        headers["Allow"] = ", ".join(allow)
    if extra.get("retry_after") is not None:
        headers["Retry-After"] = str(max(1, round(float(extra["retry_after"]))))
    return headers


def render(exc: BaseException) -> Rendered:
    """Status, body and headers of the answer to whatever was raised; faults of ours are logged with their traceback."""
    known = _known(exc)
    if known is None:
        log.error("An unexpected error.", exc_info=(type(exc), exc, exc.__traceback__))
        known = EraError("An error of ours; the server's log has it under this answer's X-Request-Id.")
    elif isinstance(known, Unavailable) and known is not exc:
        log.warning("A part is down: %s", exc)
    extra = dict(known.extra)
    headers = _headers(extra)
    body = {"error": known.title, "message": str(known), "code": known.code, **extra}
    return Rendered(known.status, body, headers)


def response(exc: BaseException) -> HttpResponse:
    """The error as a Django response with its length set."""
    rendered = render(exc)
    content = rendered.json()
    headers = {**rendered.headers, "Content-Length": str(len(content))}
    return HttpResponse(content, status=rendered.status, content_type="application/json", headers=headers)


def drf_handler(exc: Exception, context: dict[str, Any]) -> Response:
    """DRF's ``EXCEPTION_HANDLER``."""
    rendered = render(exc)
    headers = dict(rendered.headers)
    if rendered.status == 405 and "Allow" not in headers:
        headers["Allow"] = ", ".join(context["view"].allowed_methods)
    return Response(rendered.body, status=rendered.status, headers=headers)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's ``handler404``."""
    return response(NotFound(NO_ROUTE))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's ``handler400``."""
    return response(InvalidInput("The request is malformed."))


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's ``handler403``."""
    return response(Denied("You may not do this."))


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's ``handler500``; Django has logged the traceback of what is being handled."""
    raised = sys.exception()
    known = _known(raised) if raised is not None else None
    return response(known or EraError("An error of ours; the server's log has it under this answer's X-Request-Id."))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django's ``CSRF_FAILURE_VIEW``."""
    return response(Denied("The form came without its CSRF token; reload the page and send it again.", hint=reason))

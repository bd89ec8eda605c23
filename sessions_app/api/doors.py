"""What all doors share: methods of async views, the base of the DRF views, query parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from django.http import HttpRequest
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from era_project import api_errors
from era_project.errors import InvalidInput
from sessions_app.api.answers import JsonRenderer
from sessions_app.api.bodies import refuse_unknown

View = TypeVar("View", bound=Callable[..., Any])


def takes(*methods: str) -> Callable[[View], View]:
    """Tell the lean handler which methods an async view takes."""

    def told(view: View) -> View:
        view.methods = methods  # type: ignore[attr-defined]
        return view

    return told


class AlwaysJson(BaseContentNegotiation):
    """Answers JSON whatever the Accept header says: DRF would answer 406."""

    def select_parser(self, request: Request, parsers: Iterable[Any]) -> Any:
        """None: bodies are read by :mod:`sessions_app.api.bodies`."""
        return None

    def select_renderer(self, request: Request, renderers: Iterable[Any], format_suffix: str | None = None) -> Any:
        """The only renderer."""
        return next(iter(renderers)), JsonRenderer.media_type


class Door(APIView):
    """A synchronous view: parse, call one service, render."""

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()
    renderer_classes = (JsonRenderer,)
    content_negotiation_class = AlwaysJson
    patient = False
    """Whether it may wait for seconds: then it runs on threads of its own."""

    def get_exception_handler(self) -> Callable[..., Response]:
        """Our one error shape."""
        return api_errors.drf_handler

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """DRF's, without its Vary and Allow headers on every answer."""
        self.headers: dict[str, str] = {}
        return super().finalize_response(request, response, *args, **kwargs)


def body_of(request: Request) -> bytes:
    """The body, which the handler has read and counted."""
    body: bytes = request._request.body
    return body


def query_of(request: HttpRequest | Request, *known: str, prefix: str | None = None) -> dict[str, str]:
    """The query's parameters, each given once.

    Args:
        request: of any kind.
        known: names that the route takes.
        prefix: names that begin so are taken too.

    Raises:
        InvalidInput: an unknown name, a name given twice, or a NUL.
    """
    made: dict[str, str] = {}
    for name, values in request.GET.lists():
        if prefix is None or not name.startswith(prefix) or name == prefix:
            refuse_unknown({name: None}, list(known), what="query parameter")
        value = str(values[0])
        if len(values) > 1:
            raise InvalidInput(f"Give `{name}` once.", field=name)
        if "\0" in value or "\0" in name or "\ufffd" in value:
            raise InvalidInput(f"`{name[:200]}` must be UTF-8 without a NUL character.", field=name[:200])
        made[name] = value
    return made


def whole_number(query: dict[str, str], name: str, *, least: int, most: int) -> int | None:
    """A parameter as a whole number; None where it was not given.

    Raises:
        InvalidInput: it is none, or out of bounds.
    """
    text = query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and least <= int(text) <= most):
        raise InvalidInput(f"`{name}` must be a whole number from {least} to {most}.", field=name)
    return int(text)

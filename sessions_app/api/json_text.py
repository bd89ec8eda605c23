"""The JSON of a body: parsed strictly, with chosen members kept as text."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from era_project.errors import InvalidInput

MAX_DEPTH = 500
"""Nesting of objects and lists: half of what Python's own reader bears, which user code may be."""

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class InvalidJson(InvalidInput):
    """The body is no JSON object that every reader can take."""

    code = "INVALID_JSON"


@dataclass(frozen=True, slots=True)
class RawObject:
    """A member that is an object, as it was written."""

    text: str


def parse(body: bytes, *, raw: Collection[str] = ()) -> dict[str, Any]:
    """The members of the JSON object in ``body``.

    Args:
        body: UTF-8; empty stands for an empty object.
        raw: names of members which, where they are objects, come as :class:`RawObject`.

    Raises:
        InvalidJson: it is no JSON object, has lone surrogates, numbers beyond a double, or is nested too deeply.
    """
    if not body:
        return {}
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"The body is no JSON that can be read: {error}.") from None
    if not isinstance(document, dict):
        raise InvalidJson("The body must be a JSON object.")
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _is_deeper(document, MAX_DEPTH):
        raise InvalidJson(f"The body is nested too deeply: at most {MAX_DEPTH} levels.")
    if not document.keys().isdisjoint(raw):
        _keep_text(document, body, raw)
    return document


def _keep_text(document: dict[str, Any], body: bytes, raw: Collection[str]) -> None:
    members = _members(body)
    for name in raw:
        if isinstance(document.get(name), dict):
            document[name] = RawObject(bytes(members[name]).decode())


def _is_deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def exact(text: str) -> dict[str, Any]:
    """The object in ``text`` with whole numbers of any length exact; ``text`` has passed :func:`parse`."""
    made: dict[str, Any] = json.loads(text)
    return made


def has_nul(value: Any) -> bool:
    """Whether a key or a string anywhere in ``value`` has a NUL, which Postgres cannot store."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend(item)
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, str) and "\0" in item:
            return True
    return False

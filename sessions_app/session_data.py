"""What a program left in ``.session_data.json``: the text of a JSON object, or why it is none."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec

from era_project import conf

FILE_NAME = ".session_data.json"
MAX_DEPTH = 500
"""Nesting of objects and lists that every JSON reader bears. Source: the doors' own limit."""

_format = msgspec.json.format


@dataclass(frozen=True, slots=True)
class DataError:
    """Why the session keeps the data that it had; one sentence."""

    message: str


class _UnfitError(ValueError):
    """It is JSON to Python only."""


def check(content: bytes) -> str | DataError:
    """The object in ``content`` as one line, key order and digits kept; else what is wrong with it."""
    limit = conf.get().max_data_bytes
    if len(content) > limit:
        return DataError(f"{FILE_NAME} is larger than {limit} bytes; the data from before the run is kept.")
    try:
        text = content.decode()
        parsed = json.loads(text, parse_constant=_refuse_constant, parse_int=str, parse_float=str)
        reason = _unfit(text, parsed)
        line = _format(text, indent=-1)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        reason = str(error) if isinstance(error, _UnfitError) else "is no JSON that can be read"
    if reason:
        return DataError(f"{FILE_NAME} {reason}; the data from before the run is kept.")
    return line


def _refuse_constant(name: str) -> NoReturn:
    raise _UnfitError(f"has {name}, which is no JSON")


def _unfit(text: str, parsed: Any) -> str | None:
    if not isinstance(parsed, dict):
        return "holds no JSON object"
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deeper(parsed):
        return f"is nested deeper than {MAX_DEPTH} levels"
    return None


def _is_deeper(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = (child for outer in level for child in (outer.values() if isinstance(outer, dict) else outer))
        level = [child for child in inner if isinstance(child, (dict, list))]
        if not level:
            return False
    return True

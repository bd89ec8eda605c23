"""Compares an answer with the shape that a document shows for it."""

from __future__ import annotations

import re
from typing import Any

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_LATER = ("last_run_at",)
"""Times that are null until there is one."""


def differences(shown: Any, answer: Any, where: str = "answer") -> list[str]:
    """What an answer lacks or has in another type; more keys than shown are fine.

    ``"string"``, ``"number"``, ``"boolean"``, ``"object"`` and ``"ISO 8601 datetime"`` are the documents' words for
    types; any other value stands for its own type, a list's first item for all its items.
    """
    if isinstance(shown, dict):
        if not isinstance(answer, dict):
            return [f"{where} is {answer!r}, not an object"]
        missing = [f"{where}.{key} is missing" for key in shown if key not in answer]
        pairs = ((key, value) for key, value in shown.items() if key in answer)
        return missing + [d for key, value in pairs for d in differences(value, answer[key], f"{where}.{key}")]
    if isinstance(shown, list):
        if not isinstance(answer, list):
            return [f"{where} is {answer!r}, not a list"]
        items = enumerate(answer) if shown else ()
        return [d for index, item in items for d in differences(shown[0], item, f"{where}[{index}]")]
    return [] if _fits(shown, answer, where) else [f"{where} is {answer!r}, shown is {shown!r}"]


def _fits(shown: Any, answer: Any, where: str) -> bool:
    if shown == "ISO 8601 datetime" or (isinstance(shown, str) and re.match(r"\d{4}-\d\d-\d\dT.*Z$", shown)):
        return (answer is None and where.endswith(_LATER)) or (
            isinstance(answer, str) and TIME.fullmatch(answer) is not None
        )
    if shown == "number":
        return isinstance(answer, int | float) and not isinstance(answer, bool)
    if shown == "boolean":
        return isinstance(answer, bool)
    if shown == "object":
        return isinstance(answer, dict)
    return type(shown) is type(answer)

"""Strict fields of JSON bodies that hold others: arguments, environment, files, metadata, raw data."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any

from era_project.errors import InvalidInput
from sessions_app import paths
from sessions_app.api import json_text
from sessions_app.api.fields import Limit, Strict, utf8_size

SESSION_ID = re.compile(r"(?!\.)[A-Za-z0-9_:.\-]{1,128}")
"""Source: the contract, Sessions."""

USUAL_TERMINAL = (80, 24)
"""Columns and rows of a terminal whose size nobody told."""
MAX_COLUMNS = 1000
"""Columns and rows of a terminal at most."""


def is_session_id(text: str) -> bool:
    """Whether ``text`` can be the id of a session at all."""
    return SESSION_ID.fullmatch(text) is not None


class SessionId(Strict):
    """The id that a new session shall have."""

    expected = "1 to 128 characters: letters, digits, `-`, `_`, `:` and `.`, not starting with `.`"

    def to_internal_value(self, data: Any) -> str:
        """The id."""
        if not is_session_id(self.text(data, expected=self.expected)):
            self.refuse()
        return str(data)


class Arguments(Strict):
    """A list of strings; together they may be as large as an environment."""

    expected = "a list of strings"

    def __init__(self, *, limit: Limit, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._limit = limit

    def to_internal_value(self, data: Any) -> tuple[str, ...]:
        """The strings."""
        if not isinstance(data, list):
            self.refuse()
        made = tuple(self.text(item, at=f"{self.field_name}[{n}]") for n, item in enumerate(data))
        self.check_size(sum(utf8_size(item) + 1 for item in made), self._limit)
        return made


class Environment(Strict):
    """Names and string values of environment variables."""

    expected = "an object of strings"

    def __init__(self, *, limit: Limit, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._limit = limit

    def to_internal_value(self, data: Any) -> dict[str, str]:
        """The variables."""
        if not isinstance(data, dict):
            self.refuse()
        size = 0
        for name, value in data.items():
            if not name or "=" in name or "\0" in name:
                self.refuse(f"`{self.field_name}` has a name that is empty or contains `=` or a NUL character.")
            size += utf8_size(name) + utf8_size(self.text(value, at=f"{self.field_name}.{name}")) + 2
        self.check_size(size, self._limit)
        return data


class Files(Strict):
    """Paths and contents: text, or ``{"base64": …}``."""

    expected = 'an object of paths, each with a text or {"base64": …}'

    def to_internal_value(self, data: Any) -> dict[str, bytes]:
        """Contents by path."""
        if not isinstance(data, dict):
            self.refuse()
        made = dict(self._each(data))
        self._check_tree(made)
        return made

    def _each(self, data: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
        for path, content in data.items():
            at = f"{self.field_name}.{path[:200]}"
            try:
                paths.check(path)
            except InvalidInput as error:
                self.refuse(str(error), at=at)
            yield path, self._content(content, at)

    def _content(self, content: Any, at: str) -> bytes:
        if isinstance(content, str):
            return content.encode()
        if not isinstance(content, dict) or content.keys() != {"base64"} or not isinstance(content["base64"], str):
            self.refuse(f'`{at}` must be a text or {{"base64": …}}.', at=at)
        try:
            return base64.b64decode(content["base64"], validate=True)
        except (binascii.Error, ValueError):
            self.refuse(f"`{at}.base64` is no base64.", at=f"{at}.base64")

    def _check_tree(self, made: dict[str, bytes]) -> None:
        for path in made:
            parent = path.rpartition("/")[0]
            while parent:
                if parent in made:
                    self.refuse(f"`{self.field_name}` has {parent!r} both as a file and as a folder.")
                parent = parent.rpartition("/")[0]


class Metadata(Strict):
    """An object of JSON, exact in its whole numbers, without NUL, within the limit."""

    expected = "an object"

    def __init__(self, *, limit: Limit, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._limit = limit

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """The object."""
        if not isinstance(data, json_text.RawObject):
            self.refuse()
        self.check_size(utf8_size(data.text), self._limit)
        made = json_text.exact(data.text)
        if "\\u0000" in data.text and json_text.has_nul(made):
            self.refuse(f"`{self.field_name}` must not contain a NUL character.")
        return made


class Data(Strict):
    """A JSON object as text: order and digits stay; null only where the route says so."""

    expected = "an object"

    def __init__(self, *, limit: Limit, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._limit = limit

    def to_internal_value(self, data: Any) -> str:
        """The text of the object."""
        if not isinstance(data, json_text.RawObject):
            self.refuse()
        self.check_size(utf8_size(data.text), self._limit)
        return data.text


class TerminalSize(Strict):
    """The pseudo terminal of an interactive run."""

    expected = f"true or an object of `columns` and `rows`, each from 1 to {MAX_COLUMNS}"

    def to_internal_value(self, data: Any) -> tuple[int, int] | None:
        """Columns and rows; None for false."""
        if isinstance(data, bool):
            return USUAL_TERMINAL if data else None
        size = terminal_size(data) if isinstance(data, dict) and data.keys() == {"columns", "rows"} else None
        return size or self.refuse()


def terminal_size(given: Mapping[str, Any]) -> tuple[int, int] | None:
    """``columns`` and ``rows`` of an object; None where they are no size."""
    columns, rows = given.get("columns"), given.get("rows")
    is_size = all(type(side) is int and 1 <= side <= MAX_COLUMNS for side in (columns, rows))
    return (columns, rows) if is_size else None  # type: ignore[return-value]

"""Strict fields of JSON bodies: no coercion, one sentence that says what is wrong, the field named.

DRF's own fields take ``"5"`` for 5, ``1`` for true and 5 for ``"5"``; these do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from rest_framework import serializers

from era_project import conf
from era_project.errors import InvalidInput, NotAvailable, TooLarge
from runners import languages

Limit = Callable[[conf.Conf], float]
"""Where a maximum comes from: read at each use, so that a test's or an operator's setting holds."""


class Strict(serializers.Field[Any, Any, Any, Any]):
    """A field whose every failure is an :class:`InvalidInput` with its name."""

    expected = "a value"

    def fail(self, key: str, **kwargs: Any) -> NoReturn:
        """Refuse a value; ``required`` and ``null`` are DRF's keys."""
        if key == "required":
            raise InvalidInput(f"`{self.field_name}` is missing: give {self.expected}.", field=self.field_name)
        self.refuse()

    def refuse(self, message: str | None = None, *, at: str | None = None) -> NoReturn:
        """Raise with the sentence ``message``, or that the value must be what is expected."""
        name = at or self.field_name
        raise InvalidInput(message or f"`{name}` must be {self.expected}.", field=name)

    def to_representation(self, value: Any) -> Any:
        """Bodies are only read."""
        return value

    def text(self, value: Any, *, at: str | None = None, expected: str = "a string") -> str:
        """``value`` as a string without NUL."""
        name = at or self.field_name
        if not isinstance(value, str):
            self.refuse(f"`{name}` must be {expected}.", at=name)
        if "\0" in value:
            self.refuse(f"`{name}` must not contain a NUL character.", at=name)
        return value

    def check_size(self, size: int, limit: Limit, *, at: str | None = None) -> None:
        """Refuse more bytes than the setting allows."""
        most = int(limit(conf.get()))
        if size > most:
            name = at or self.field_name
            raise TooLarge(f"`{name}` is too large: at most {most} bytes.", field=name, limit_bytes=most)


def utf8_size(text: str) -> int:
    """Bytes of ``text`` in UTF-8, without encoding plain ASCII."""
    return len(text) if text.isascii() else len(text.encode())


class Text(Strict):
    """A string, without NUL unless it is mere content."""

    expected = "a string"

    def __init__(self, *, limit: Limit | None = None, nul: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._limit = limit
        self._nul = nul

    def to_internal_value(self, data: Any) -> str:
        """The string as it came."""
        text = data if self._nul and isinstance(data, str) else self.text(data)
        if self._limit is not None:
            self.check_size(utf8_size(text), self._limit)
        return text


class Flag(Strict):
    """``true`` or ``false``."""

    expected = "true or false"

    def to_internal_value(self, data: Any) -> bool:
        """The flag."""
        if not isinstance(data, bool):
            self.refuse()
        return data


class Number(Strict):
    """A number above 0 up to a setting's maximum; ``scale`` is how many of its units the maximum counts as one."""

    expected = "a number"

    def __init__(self, *, most: Limit, least: float = 0.0, scale: float = 1.0, unit: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._most = most
        self._least = least
        self._scale = scale
        self._unit = unit

    def to_internal_value(self, data: Any) -> float:
        """The number in the wire's unit."""
        if isinstance(data, bool) or not isinstance(data, (int, float)) or not math.isfinite(data):
            self.refuse()
        if data <= 0 or data < self._least:
            least = f"at least {self._least:g}" if self._least else "more than 0"
            self.refuse(f"`{self.field_name}` must be {least}{self._unit}.")
        most = self._most(conf.get()) * self._scale
        if data > most:
            self.refuse(f"`{self.field_name}` must be at most {most:.15g}{self._unit}.")
        return float(data)


class Whole(Number):
    """The same for whole numbers."""

    expected = "a whole number"

    def to_internal_value(self, data: Any) -> int:
        """The number in the wire's unit."""
        if isinstance(data, bool) or not isinstance(data, int):
            self.refuse()
        super().to_internal_value(data)
        return data


class OneOf(Strict):
    """One of a few words."""

    def __init__(self, choices: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._choices = choices
        self.expected = "one of " + ", ".join(f'"{choice}"' for choice in choices)

    def to_internal_value(self, data: Any) -> str:
        """The word."""
        if not isinstance(data, str) or data not in self._choices:
            self.refuse()
        return data


class Language(Strict):
    """The name or an alias of a language; its canonical name comes out."""

    expected = "one of " + ", ".join(languages.LANGUAGES)

    def to_internal_value(self, data: Any) -> str:
        """The canonical name."""
        name = languages.canonical(data) if isinstance(data, str) else None
        if name is None:
            self.refuse()
        return name


class Sandbox(OneOf):
    """The kind of sandbox that is asked for."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(("standard", "gvisor"), **kwargs)

    def to_internal_value(self, data: Any) -> str:
        """The word.

        Raises:
            NotAvailable: for the kind that this version does not have.
        """
        if super().to_internal_value(data) == "gvisor":
            raise NotAvailable(
                'The sandbox "gvisor" is not available in this version; leave `sandbox` away or give "standard".',
                field=self.field_name,
            )
        return "standard"


class Absent(Strict):
    """A field of the contract that this version does not have."""

    def to_internal_value(self, data: Any) -> NoReturn:
        """Never returns.

        Raises:
            NotAvailable: always.
        """
        raise NotAvailable(
            f"`{self.field_name}` is not available in this version; leave it away.", field=self.field_name
        )

    def validate_empty_values(self, data: Any) -> tuple[bool, Any]:
        """Null is no way around."""
        return super().validate_empty_values(data) if data is serializers.empty else (False, data)


class OffOnly(Flag):
    """A flag that this version knows only as false."""

    def to_internal_value(self, data: Any) -> bool:
        """False.

        Raises:
            NotAvailable: for true.
        """
        if super().to_internal_value(data):
            message = f"`{self.field_name}: true` is not available in this version; leave it away or give false."
            raise NotAvailable(message, field=self.field_name)
        return False

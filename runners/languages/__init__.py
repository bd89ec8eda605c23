"""The table of languages: canonical names, aliases, and one frozen ``Language`` each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from runners.languages.base import RUNTIMES, Language, Program
from runners.languages.deno import DENO
from runners.languages.go import GO
from runners.languages.node import NODE
from runners.languages.python import PYTHON
from runners.languages.typescript import TYPESCRIPT

LANGUAGES: Mapping[str, Language] = MappingProxyType(
    {language.name: language for language in (PYTHON, NODE, TYPESCRIPT, GO, DENO)}
)
"""Canonical name → language, in the order in which answers list them."""

_NAMES: Mapping[str, str] = MappingProxyType(
    {name: language.name for language in LANGUAGES.values() for name in (language.name, *language.aliases)}
)


def canonical(name: str) -> str | None:
    """The canonical name for a name or an alias, e.g. ``py`` → ``python``; None for an unknown one."""
    return _NAMES.get(name)


__all__ = ["LANGUAGES", "RUNTIMES", "Language", "Program", "canonical"]

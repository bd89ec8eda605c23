"""What a request expects of the file that it reads or replaces: ``If-Match`` and ``If-None-Match``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from era_project.errors import InvalidInput, PreconditionFailed

ANY = "*"
_TAG = re.compile(r'\s*(W/)?"([^"]*)"\s*(?:,|$)')


@dataclass(frozen=True, slots=True)
class Precondition:
    """Entity tags; None: nothing is expected."""

    match: frozenset[str] | None = None
    none_match: frozenset[str] | None = None

    @classmethod
    def parse(cls, if_match: str | None, if_none_match: str | None) -> Self:
        """From the values of the two headers.

        Raises:
            InvalidInput: one of them is no list of entity tags.
        """
        return cls(_tags("If-Match", if_match, weak=False), _tags("If-None-Match", if_none_match, weak=True))

    def check(self, etag: str | None) -> None:
        """Raises ``PreconditionFailed`` unless the file, None where there is none, may be changed."""
        if self.match is not None and (etag is None or not self.match & {etag, ANY}):
            raise PreconditionFailed("The file is not the one that If-Match names; read it again.", etag=etag)
        if self.none_match is not None and self.is_known(etag):
            raise PreconditionFailed("The file is there already, against If-None-Match.", etag=etag)

    def is_known(self, etag: str | None) -> bool:
        """Whether ``If-None-Match`` names the file: its reader has it already."""
        return self.none_match is not None and etag is not None and bool(self.none_match & {etag, ANY})


def _tags(name: str, value: str | None, *, weak: bool) -> frozenset[str] | None:
    """The tags of one header; weak ones only where a weak comparison is asked for. Source: RFC 9110, 8.8.3."""
    if value is None:
        return None
    if value.strip() == ANY:
        return frozenset((ANY,))
    tags, position = set(), 0
    while position < len(value):
        found = _TAG.match(value, position)
        if found is None:
            raise InvalidInput(f'The {name} header must be * or entity tags in quotes, such as "abc".', field=name)
        if weak or not found[1]:
            tags.add(found[2])
        position = found.end()
    return frozenset(tags)

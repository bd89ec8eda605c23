"""What a language is to the sandbox: names, programs that run it inside, and how it behaves."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

RUNTIMES = "/opt/rt"
"""Where the read-only runtimes stand inside a sandbox; drivers are in ``drivers`` below it."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program inside the sandbox. ``{rt}`` and ``{drivers}`` in its words stand for the two folders."""

    words: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the sandbox's own environment when it is exec'ed."""

    def argv(self, *, runtimes: str = RUNTIMES, drivers: str | None = None) -> tuple[str, ...]:
        """The words to exec, the first one being an absolute path."""
        places = {"{rt}": runtimes, "{drivers}": drivers or f"{runtimes}/drivers"}
        return tuple(_fill(word, places) for word in self.words)

    def env(self, *, runtimes: str = RUNTIMES) -> dict[str, str]:
        """Its environment with the folders filled in."""
        return {name: _fill(value, {"{rt}": runtimes}) for name, value in self.environment.items()}


def _fill(text: str, places: Mapping[str, str]) -> str:
    for mark, place in places.items():
        text = text.replace(mark, place)
    return text


@dataclass(frozen=True, slots=True)
class Language:
    """One language of the product; ``name`` is the canonical one that answers carry."""

    name: str
    aliases: tuple[str, ...]
    file_name: str
    """What the code is called in the working directory, in stack traces and in ``argv[0]``."""
    version: Program
    """Prints the version."""
    version_pattern: re.Pattern[str]
    """Group 1 is the version in what ``version`` prints."""
    once: Program | None = None
    """Boots ahead, reads one request on descriptor 3, runs it. None: the slot's forked python child does it itself."""
    live: Program | None = None
    """Stays, one request after the other on descriptor 3. None where ``once_is_forked`` or runs are programs of their own."""
    compiles: bool = False
    """Says on descriptor 3 how compiling ended (see ``drivers/PROTOCOL.md``); the wall clock starts after that."""
    says_farewell: bool = False
    """``once`` can say on descriptor 3 that a program has ended well without a trace, before its process ends."""
    keeps_state: bool = True
    """Sessions keep variables between runs."""
    minimum_version: tuple[int, ...] = ()
    boot_variables: tuple[str, ...] = ()
    """How the names of variables begin that the runtime reads when it starts."""
    self_words: tuple[str, ...] = ()
    """Found in programs that need their own source as a file: to read it, or to start another interpreter on it."""
    imports: Callable[[str], frozenset[str]] | None = None
    """Top-level names of the modules that the code mentions, to choose a preloaded child; cheap, may be too many."""
    preload: tuple[str, ...] = ()
    """Modules worth having ready in a preloaded child."""

    def read_version(self, text: str) -> str | None:
        """The version in what ``version`` printed, e.g. ``24.19.0``; None if there is none."""
        match = self.version_pattern.search(text)
        return match.group(1) if match else None

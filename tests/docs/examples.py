"""Reads the console examples of our own pages: each command with the answer that stands below it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PAGES = (TOP / "README.md", *sorted((TOP / "docs").glob("*.md")))
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A command and its answer as a page shows them."""

    page: str
    command: str
    answer: str


def examples_of(page: Path) -> list[Example]:
    """Every command in the page's ``console`` blocks, in order."""
    blocks = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [example for block in blocks for example in _examples(page.name, block)]


def _examples(page: str, block: str) -> Iterator[Example]:
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = part.rstrip("\n").split("\n")
        last = next(number for number, line in enumerate(lines) if not line.endswith("\\"))
        command = "\n".join(line.strip() for line in lines[: last + 1])
        yield Example(page, command, "\n".join(lines[last + 1 :]))

"""A program that swaps names of a tree for links to the outside, as fast as it can, until it is killed."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path


def swap(place: Path, name: str, target: Path) -> None:
    """Puts a link in the place of ``name`` and takes it away again; each step may come too late."""
    link, real = place / "link", place / "real"
    steps = (
        lambda: link.symlink_to(target),
        lambda: (place / name).rename(real),
        lambda: link.rename(place / name),
        (place / name).unlink,
        lambda: real.rename(place / name),
        link.unlink,
    )
    for step in steps:
        with contextlib.suppress(OSError):
            step()


if __name__ == "__main__":
    tree, outside = map(Path, sys.argv[1:])
    print("ready", flush=True)
    while True:
        swap(tree, "folder", outside)
        swap(tree, "file", outside / "file")

"""Removing an untrusted tree of any depth, with few descriptors and no recursion."""

from __future__ import annotations

import os
import secrets

from runners.tree.reading import FOLDER, enter_folder

ATTEMPTS = 3
"""A tree that somebody still writes to is gone through this often."""


def remove_tree(parent: str | os.PathLike[str], name: str) -> bool:
    """Removes the folder ``name`` and everything below it; tells whether it is gone.

    Folders inside are moved up to the top before they are emptied, so that depth costs nothing: a tree with
    100,000 nested folders is neither too long a path nor too deep a stack.
    """
    parent_fd = os.open(parent, FOLDER)
    try:
        return any(_remove_once(parent_fd, name) for _ in range(ATTEMPTS))
    finally:
        os.close(parent_fd)


def _remove_once(parent_fd: int, name: str) -> bool:
    try:
        top, _ = enter_folder(parent_fd, name)
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        os.unlink(name, dir_fd=parent_fd)
        return True
    try:
        waiting = _empty(top, top)
        while waiting:
            waiting.extend(_remove_folder(top, waiting.pop()))
    finally:
        os.close(top)
    try:
        os.rmdir(name, dir_fd=parent_fd)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _remove_folder(top: int, name: str) -> list[str]:
    """Removes one folder that lies at the top; its sub-folders are then at the top, under the names returned."""
    try:
        fd, _ = enter_folder(top, name)
    except OSError:
        return []
    try:
        moved = _empty(fd, top)
    finally:
        os.close(fd)
    try:
        os.rmdir(name, dir_fd=top)
    except OSError:
        return moved
    return moved


def _empty(fd: int, top: int) -> list[str]:
    """Unlinks what is no folder and moves folders to the top under new names, which are returned."""
    moved: list[str] = []
    for name, is_folder in _names(fd):
        try:
            if is_folder:
                moved.append(_move_up(fd, name, top))
            else:
                os.unlink(name, dir_fd=fd)
        except OSError:
            continue
    return moved


def _names(fd: int) -> list[tuple[str, bool]]:
    with os.scandir(fd) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]


def _move_up(fd: int, name: str, top: int) -> str:
    # A folder that its owner may not write cannot be moved: its entry ".." would change.
    folder, _ = enter_folder(fd, name)
    os.close(folder)
    if fd == top:
        return name
    new_name = f"{secrets.token_hex(12)}"
    os.rename(name, new_name, src_dir_fd=fd, dst_dir_fd=top)
    return new_name

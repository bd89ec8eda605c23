"""Gives a session's folder to the uid that its next user code will have, by descriptors, following no link."""

from __future__ import annotations

import os

from runners.tree import open_folder

DEPTH_MAX = 128


def give(folder: int, uid: int) -> None:
    """Make ``uid`` (and the group of the same number) the owner of the open folder and all below it.

    Nothing is walked when the folder itself has that owner already: whatever was written into it since has it too.
    """
    if os.fstat(folder).st_uid != uid:
        _give(folder, uid, 0)
        os.fchown(folder, uid, uid)  # last: a hand-over that is broken off starts again


def _give(folder: int, uid: int, depth: int) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and depth < DEPTH_MAX:
                try:
                    inner = open_folder(folder, (entry.name,))
                except OSError:
                    continue
                try:
                    _give(inner, uid, depth + 1)
                finally:
                    os.close(inner)
            os.chown(entry.name, uid, uid, dir_fd=folder, follow_symlinks=False)

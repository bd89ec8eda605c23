"""Folders that hostile code could write, walked and written by descriptors alone: no link is ever followed."""

from runners.tree.listing import Caps, Listing, Mark, mark_of, scan
from runners.tree.reading import NotRegularError, open_file, open_folder, open_root
from runners.tree.removing import remove_tree
from runners.tree.writing import discard, make_folder, make_link, write_file

__all__ = [
    "Caps",
    "Listing",
    "Mark",
    "NotRegularError",
    "discard",
    "make_folder",
    "make_link",
    "mark_of",
    "open_file",
    "open_folder",
    "open_root",
    "remove_tree",
    "scan",
    "write_file",
]

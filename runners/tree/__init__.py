"""Folders that hostile code could write, walked and written by descriptors alone: no link is ever followed."""

from runners.tree.listing import OURS, SHOWN_WARNINGS, Caps, Listing, Mark, mark_of, scan, shown
from runners.tree.reading import NotRegularError, open_file, open_folder, open_root
from runners.tree.removing import remove_tree
from runners.tree.writing import discard, discard_folder, make_folder, make_link, write_file

__all__ = [
    "OURS",
    "SHOWN_WARNINGS",
    "Caps",
    "Listing",
    "Mark",
    "NotRegularError",
    "discard",
    "discard_folder",
    "make_folder",
    "make_link",
    "mark_of",
    "open_file",
    "open_folder",
    "open_root",
    "remove_tree",
    "scan",
    "shown",
    "write_file",
]

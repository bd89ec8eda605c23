"""What the path of a file in a workspace may be."""

from __future__ import annotations

from typing import NoReturn
from urllib.parse import unquote_to_bytes

from era_project.errors import InvalidInput

MAX_PATH_BYTES = 4096
MAX_SEGMENT_BYTES = 255
MAX_DEPTH = 64
"""Source of the bytes: the contract, Files; they are Linux's own. The depth is what the host walks down."""

RESERVED = frozenset((".session_data.json",))
"""Names at the top of the workspace that are no session files."""


def check(path: str) -> str:
    """``path`` if it is relative, stays inside the workspace and can be written on Linux.

    Raises:
        InvalidInput: it cannot be; the sentence says why.
    """
    if "\0" in path:
        _refuse("must not contain a NUL character")
    if path.startswith("/"):
        _refuse("must be relative to the workspace")
    segments = path.split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        _refuse("must not be empty nor have empty, `.` or `..` segments")
    if segments[0] in RESERVED:
        _refuse("is reserved: the data of the session is changed by PATCH or by `update_data`")
    if len(path.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES:
        _refuse(f"must be at most {MAX_PATH_BYTES} bytes")
    if len(segments) > MAX_DEPTH:
        _refuse(f"must be at most {MAX_DEPTH} names deep")
    if any(len(segment.encode("utf-8", "surrogatepass")) > MAX_SEGMENT_BYTES for segment in segments):
        _refuse(f"must have segments of at most {MAX_SEGMENT_BYTES} bytes")
    if not path.isascii() and any("\ud800" <= character <= "\udfff" for character in path):
        _refuse("must be UTF-8")
    return path


def from_url(raw: bytes) -> str:
    """The path in the percent-encoded rest of a URL: split first, decoded after, so that no slash hides in it.

    Raises:
        InvalidInput: it is no path that a file may have.
    """
    try:
        segments = [unquote_to_bytes(segment).decode("utf-8") for segment in raw.split(b"/")]
    except UnicodeDecodeError:
        _refuse("must be UTF-8, percent-encoded")
    if any("/" in segment for segment in segments):
        _refuse("must not have a percent-encoded slash in a segment")
    return check("/".join(segments))


def _refuse(why: str) -> NoReturn:
    raise InvalidInput(f"The path {why}.", field="path")

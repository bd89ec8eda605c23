"""A session's data: the text of a JSON object, merged at the top level without touching any value's digits."""

from __future__ import annotations

import msgspec

Members = dict[str, msgspec.Raw]

_members = msgspec.json.Decoder(Members).decode
_encode = msgspec.json.Encoder().encode


def merge(text: str, patch: str) -> str:
    """``text`` with the members of ``patch`` in place of or after its own; a null in ``patch`` takes a member away.

    Args:
        text: a JSON object.
        patch: a JSON object.

    Raises:
        ValueError: one of them is none.
    """
    try:
        members = _members(text)
        changes = _members(patch)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ValueError("The data is no JSON object.") from error
    for name, value in changes.items():
        if bytes(value) == b"null":
            members.pop(name, None)
        else:
            members[name] = value
    return _encode(members).decode()

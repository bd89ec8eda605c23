"""One file on its way out: status, headers and pieces of what a GET has asked for."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from email.utils import formatdate

from era_project.errors import EraError, RangeNotSatisfiable
from sessions_app.services.files import NS, File
from sessions_app.services.preconditions import Precondition
from storage_app import objects

_RANGE = re.compile(r"bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*")
UNKNOWN_TYPE = "application/octet-stream"
SAFE = ((b"x-content-type-options", b"nosniff"), (b"content-security-policy", b"sandbox"))
"""User-made bytes on our origin: a browser neither guesses their type nor runs anything in them."""

_types = mimetypes.MimeTypes(filenames=())
for _type, _suffixes in {
    "text/plain": (".ts", ".go", ".log", ".mod", ".sum", ".ini", ".cfg"),
    "text/markdown": (".md",),
    "application/yaml": (".yaml", ".yml"),
    "application/toml": (".toml",),
    "application/x-ndjson": (".jsonl", ".ndjson"),
    "application/wasm": (".wasm",),
    "application/vnd.apache.parquet": (".parquet",),
}.items():
    for _suffix in _suffixes:
        _types.add_type(_type, _suffix)

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a GET says beside the path: raw header values, None where there was none."""

    precondition: Precondition = field(default_factory=Precondition)
    range: str | None = None
    if_range: str | None = None


class Download:
    """An open answer; ``close`` it, from any thread."""

    def __init__(self, status: int, headers: Headers, pieces: Iterator[bytes], stack: ExitStack) -> None:
        self.status = status
        self.headers = headers
        self._pieces = pieces
        self._stack = stack
        self.first = self.next()

    def next(self) -> bytes:
        """The next piece; empty at the end."""
        return next(self._pieces, b"")

    def close(self) -> None:
        """Lets go of the object."""
        self._stack.close()


def open_file(file: File, asked: Asked) -> Download:
    """Opens what was asked for, the first piece read already, so that errors come before the answer.

    Raises:
        PreconditionFailed: it is another file than ``If-Match`` names.
        RangeNotSatisfiable: the range begins after the end; ``size`` is among its extras.
        Unavailable: the object store is down.
    """
    Precondition(match=asked.precondition.match).check(file.sha256)
    etag = f'"{file.sha256}"'
    headers: Headers = [
        (b"etag", etag.encode()),
        (b"last-modified", formatdate(max(0, file.mtime_ns // NS), usegmt=True).encode()),
        (b"accept-ranges", b"bytes"),
        (b"cache-control", b"no-cache"),
        *SAFE,
    ]
    if asked.precondition.is_known(file.sha256):
        return Download(304, headers, iter(()), ExitStack())
    start, length = 0, file.size
    status = 200
    if asked.range is not None and asked.if_range in (None, etag):
        wanted = byte_range(asked.range, file.size)
        if wanted is not None:
            status, (start, length) = 206, wanted
            headers.append((b"content-range", f"bytes {start}-{start + length - 1}/{file.size}".encode()))
    headers += [(b"content-type", content_type(file.path).encode()), (b"content-length", str(length).encode())]
    return _opened(status, headers, file, (start, length))


def _opened(status: int, headers: Headers, file: File, part: tuple[int, int]) -> Download:
    stack = ExitStack()
    try:
        pieces = stack.enter_context(objects.store().open(file.sha256, *part))
        return Download(status, headers, pieces, stack)
    except objects.MissingObjectError:
        stack.close()
        raise EraError(f"The object store has lost the bytes of {file.path!r}.", code="FILE_MISSING") from None
    except BaseException:
        stack.close()
        raise


def byte_range(value: str, size: int) -> tuple[int, int] | None:
    """Offset and length of the one range in ``value``; None: the whole file is the answer. Source: RFC 9110, 14.2.

    Raises:
        RangeNotSatisfiable: it begins after the end.
    """
    found = _RANGE.fullmatch(value.strip())
    if found is None or not (found[1] or found[2]):
        return None  # no bytes, several ranges or nonsense: a server may answer with everything
    if not found[1]:
        start, end = max(0, size - int(found[2])), size - 1
    else:
        start, end = int(found[1]), min(int(found[2]) if found[2] else size - 1, size - 1)
        if found[2] and int(found[2]) < start:
            return None
    if start >= size:
        raise RangeNotSatisfiable(f"The range begins after the end: the file has {size} bytes.", size=size)
    return start, end - start + 1


def content_type(path: str) -> str:
    """The type that a file's name suggests; text is taken for UTF-8."""
    guessed, encoding = _types.guess_type(path.replace("/", "_").replace(":", "_"))
    if encoding is not None:
        return {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}.get(
            encoding, UNKNOWN_TYPE
        )
    if guessed is None:
        return UNKNOWN_TYPE
    return f"{guessed}; charset=utf-8" if guessed.startswith("text/") else guessed

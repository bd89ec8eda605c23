"""Ranges, types and preconditions of file requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from era_project.errors import InvalidInput, PreconditionFailed, RangeNotSatisfiable
from sessions_app.api.downloads import byte_range, content_type
from sessions_app.services.preconditions import Precondition


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=2-", (2, 8)),
        ("bytes=-3", (7, 3)),
        ("bytes=-30", (0, 10)),
        ("bytes=5-100", (5, 5)),
        ("bytes = 1 - 2", (1, 2)),
        ("bytes=-", None),
        ("bytes=5-4", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
    ],
)
def test_ranges(value: str, expected: tuple[int, int] | None) -> None:
    assert byte_range(value, 10) == expected


@pytest.mark.parametrize(("value", "size"), [("bytes=10-", 10), ("bytes=0-0", 0), ("bytes=-0", 10), ("bytes=-5", 0)])
def test_ranges_past_the_end(value: str, size: int) -> None:
    with pytest.raises(RangeNotSatisfiable):
        byte_range(value, size)


@given(st.text(max_size=40), st.integers(0, 1000))
def test_any_range_is_inside_the_file(value: str, size: int) -> None:
    try:
        found = byte_range("bytes=" + value, size)
    except RangeNotSatisfiable:
        return
    if found is not None:
        start, length = found
        assert 0 <= start < size
        assert 0 < length <= size - start


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.txt", "text/plain; charset=utf-8"),
        ("a/b.py", "text/x-python; charset=utf-8"),
        ("data.csv", "text/csv; charset=utf-8"),
        ("plot.png", "image/png"),
        ("x.json", "application/json"),
        ("x.tar.gz", "application/gzip"),
        ("x.html", "text/html; charset=utf-8"),
        ("noext", "application/octet-stream"),
        ("data:text/html,x", "application/octet-stream"),
        ("weird.unknown-suffix", "application/octet-stream"),
    ],
)
def test_content_types(path: str, expected: str) -> None:
    assert content_type(path) == expected


def test_if_match() -> None:
    Precondition.parse('"abc"', None).check("abc")
    Precondition.parse('"x", "abc"', None).check("abc")
    Precondition.parse("*", None).check("abc")
    for header, etag in (('"abc"', "def"), ('"abc"', None), ("*", None), ('W/"abc"', "abc")):
        with pytest.raises(PreconditionFailed):
            Precondition.parse(header, None).check(etag)


def test_if_none_match() -> None:
    Precondition.parse(None, "*").check(None)
    assert Precondition.parse(None, 'W/"abc"').is_known("abc")
    assert not Precondition.parse(None, '"abc"').is_known("def")
    with pytest.raises(PreconditionFailed):
        Precondition.parse(None, "*").check("abc")


@pytest.mark.parametrize("header", ["abc", '"abc', '"a" "b"', "*, x"])
def test_malformed_tags(header: str) -> None:
    with pytest.raises(InvalidInput):
        Precondition.parse(header, None)

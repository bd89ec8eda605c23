"""What a program may leave in its data file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions_app import session_data
from sessions_app.session_data import DataError


def test_keeps_order_and_digits_on_one_line() -> None:
    given = b'{\n  "b": 1.10,\n  "a": [12345678901234567890123, 1e400, "\\u0000"]\n}'
    assert session_data.check(given) == '{"b":1.10,"a":[12345678901234567890123,1e400,"\\u0000"]}'


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "no JSON"),
        (b"[]", "no JSON object"),
        (b'"text"', "no JSON object"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1', "no JSON"),
        (b'{"a": "\xff"}', "no JSON"),
        (b'{"a": "\\ud800"}', "no JSON"),
        (b'{"a":' + b"[" * 600 + b"]" * 600 + b"}", "nested"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "no JSON"),
        (b'{"a": "' + b"x" * (1 << 20) + b'"}', "larger"),
    ],
)
def test_says_what_is_wrong(content: bytes, word: str) -> None:
    found = session_data.check(content)
    assert isinstance(found, DataError)
    assert word in found.message


@given(st.binary(max_size=100))
def test_never_fails_otherwise(content: bytes) -> None:
    found = session_data.check(content)
    assert isinstance(found, (str, DataError))
    if isinstance(found, str):
        assert "\n" not in found
        assert session_data.check(found.encode()) == found

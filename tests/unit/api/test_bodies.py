"""Bodies: what is accepted, and what comes out of it."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from era_project.errors import InvalidInput, NotAvailable, TooLarge
from sessions_app import data_text, paths
from sessions_app.api import bodies, json_text


def encoded(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def test_every_field_of_a_one_shot() -> None:
    fields = bodies.Execute.of(
        encoded(
            language="TypeScript".lower(), code="é\r\n", timeout_ms=1500, queue_timeout=0.5, env={"A": ""},
            stdin="a\0b", args=["", "ü"], files={"a/b": "text", "c": {"base64": "AP8="}}, cpu_count=0.25, memory_mib=64,
            allowInternetAccess=False, sandbox="standard", wait=True, on_disconnect="cancel",
            webhook="https://hooks.example:8443/x?y=1",
        )
    )  # fmt: skip
    assert fields["language"] == "typescript"
    assert fields["code"] == "é\r\n"
    assert fields["timeout_s"] == 1.5
    assert fields["files"] == {"a/b": b"text", "c": b"\x00\xff"}
    assert fields["args"] == ("", "ü")
    assert fields["stdin"] == "a\0b"
    assert "timeout_ms" not in fields


@pytest.mark.parametrize(
    ("alias", "name"),
    [("py", "python"), ("python3", "python"), ("js", "node"), ("javascript", "node"), ("nodejs", "node"),
     ("ts", "typescript"), ("golang", "go"), ("deno", "deno")],
)  # fmt: skip
def test_aliases(alias: str, name: str) -> None:
    assert bodies.Execute.of(encoded(language=alias, code=""))["language"] == name


def test_limits_are_inside() -> None:
    fields = bodies.Execute.of(encoded(language="go", code="", timeout=3600, cpu_count=8, memory_mib=8192))
    assert (fields["timeout_s"], fields["cpu_count"], fields["memory_mib"]) == (3600, 8, 8192)


def test_whole_numbers_stay_exact_in_metadata() -> None:
    number = 10**60 + 1
    fields = bodies.NewSession.of(encoded(language="go", metadata={"n": number, "f": 1.5}))
    assert fields["metadata"] == {"n": number, "f": 1.5}


def test_data_stays_text() -> None:
    fields = bodies.SessionPatch.of(b'{"data": {"z" : 1.10, "a":1E5}}')
    assert fields["data"] == '{"z" : 1.10, "a":1E5}'


def test_a_default_timeout_is_reset_by_null() -> None:
    assert bodies.SessionPatch.of(b'{"default_timeout": null}') == {"default_timeout": None}


def test_nearest_names_are_told() -> None:
    with pytest.raises(bodies.UnknownField) as caught:
        bodies.Execute.of(encoded(language="go", code="", envs={}))
    assert caught.value.extra == {"field": "envs", "hint": "did you mean env?"}


def test_depth_of_500_passes() -> None:
    nested = b'{"language":"go","metadata":{"a":' + b"[" * 497 + b"]" * 497 + b"}}"
    assert bodies.NewSession.of(nested)["metadata"]
    with pytest.raises(json_text.InvalidJson):
        bodies.NewSession.of(nested.replace(b"[]", b"[[[[]]]]"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists, max_leaves=5
)


@given(
    st.dictionaries(st.sampled_from(["language", "code", "timeout", "env", "args", "files", "cpu_count"]), json_values)
)
def test_no_body_breaks_the_door(fields: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidInput, TooLarge, NotAvailable):
        bodies.Execute.of(json.dumps(fields).encode("utf-8", "surrogatepass"))


@given(st.binary(max_size=200))
def test_no_bytes_break_the_door(body: bytes) -> None:
    with contextlib.suppress(InvalidInput):
        bodies.Execute.of(body)


@given(st.dictionaries(st.text(), st.integers()), st.dictionaries(st.text(), st.none() | st.integers()))
def test_merging_is_json_merge_at_the_top(own: dict[str, int], changes: dict[str, int | None]) -> None:
    merged = json.loads(data_text.merge(json.dumps(own), json.dumps(changes)))
    assert merged == {key: value for key, value in {**own, **changes}.items() if value is not None}


@given(st.binary(max_size=60))
def test_paths_from_urls_stay_inside(raw: bytes) -> None:
    try:
        path = paths.from_url(raw)
    except InvalidInput:
        return
    assert not path.startswith("/")
    assert all(segment not in ("", ".", "..") for segment in path.split("/"))
    assert "\0" not in path

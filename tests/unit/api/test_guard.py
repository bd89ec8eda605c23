"""The guard: which hosts are ours, which origins may call."""

from __future__ import annotations

from typing import Any

import pytest

from era_project.guard import BadHost, ForeignOrigin, Guard, Verdict, host_name

GUARD = Guard(
    public_url="https://era.example.com",
    allowed_hosts=("era_agent", ".internal", "Named.Example:8080"),
    cors_origins=("https://app.example.com",),
)


def scope(host: str | None = "localhost", **headers: str) -> dict[str, Any]:
    pairs = {"host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
    listed = [(name.encode(), value.encode("latin-1")) for name, value in pairs.items() if value is not None]
    return {"method": "GET", "http_version": "1.1", "headers": listed}


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST:9000", "localhost.", "127.0.0.1:8787", "127.8.8.8", "[::1]:8787", "[::1]",
        "era.example.com", "era.example.com:443", "era_agent", "ERA_AGENT:80", "a.internal", "named.example",
    ],
)  # fmt: skip
def test_our_hosts(host: str) -> None:
    assert GUARD.judge(scope(host)) == Verdict()


@pytest.mark.parametrize(
    "host",
    [
        "", "example.com", "xera.example.com", "era.example.com.evil.org", "internal", "192.168.0.1", "[::2]", "[::1",
        "localhost:x", "localhost:80:80", "user@localhost", "localhost/", "localhost,evil", "0.0.0.0", "lócalhost",
    ],
)  # fmt: skip
def test_foreign_hosts(host: str) -> None:
    with pytest.raises(BadHost):
        GUARD.judge(scope(host))


def test_two_hosts_are_none() -> None:
    doubled = scope()
    doubled["headers"].append((b"host", b"localhost"))
    with pytest.raises(BadHost):
        GUARD.judge(doubled)


def test_only_the_first_version_needs_no_host() -> None:
    assert GUARD.judge({**scope(None), "http_version": "1.0"}) == Verdict()
    with pytest.raises(BadHost):
        GUARD.judge(scope(None))


@pytest.mark.parametrize("origin", ["http://localhost", "https://localhost", "https://era.example.com"])
def test_our_origins(origin: str) -> None:
    assert GUARD.judge(scope(origin=origin)) == Verdict()


@pytest.mark.parametrize(
    "origin", ["null", "http://localhost:3000", "http://127.0.0.1", "http://era.example.com", "https://evil.org", ""]
)
def test_foreign_origins(origin: str) -> None:
    with pytest.raises(ForeignOrigin):
        GUARD.judge(scope(origin=origin))


def test_allowed_origins_get_their_headers() -> None:
    verdict = GUARD.judge(scope(origin="https://app.example.com"))
    assert not verdict.preflight
    assert (b"access-control-allow-origin", b"https://app.example.com") in verdict.headers
    assert (b"vary", b"Origin") in verdict.headers


def test_preflights_are_answered() -> None:
    asked = scope(
        origin="https://app.example.com",
        access_control_request_method="PUT",
        access_control_request_headers="content-type, idempotency-key",
    )
    verdict = GUARD.judge({**asked, "method": "OPTIONS"})
    assert verdict.preflight
    assert (b"access-control-allow-headers", b"content-type, idempotency-key") in verdict.headers


def test_names_of_hosts() -> None:
    assert host_name("[::1]:80") == "::1"
    assert host_name("A.example.:80") == "a.example"
    assert host_name(":80") is None

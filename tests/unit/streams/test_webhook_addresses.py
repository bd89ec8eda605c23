"""Webhooks go to the public internet only, whatever a name or a notation hides."""

from __future__ import annotations

import pytest

from era_project.errors import InvalidInput
from sessions_app import webhook_posts, webhooks


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::7f00:1", "2001:db8::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not webhook_posts.is_public(address)
    if "%" not in address:
        with pytest.raises(webhook_posts.RefusedError):
            webhook_posts.resolve(address, 80)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_public_addresses_are_taken(address: str) -> None:
    assert webhook_posts.is_public(address)


@pytest.mark.parametrize("host", ["localhost", "127.1", "0x7f000001", "2130706433", "127.0.0.1", "[::1]"])
def test_names_and_notations_of_this_machine_are_refused_when_posted_to(host: str) -> None:
    answered = webhook_posts.post(f"http://{host}:9/x", b"{}", delivery="1")
    assert answered.status is None
    assert "public address" in str(answered.error)


@pytest.mark.parametrize(
    "url",
    ["", "ftp://example.com", "http://", "http://localhost/x", "http://127.0.0.1/", "http://[::1]/", "http://x:0/",
     "https://a.localhost/", "http://10.0.0.1/", "http://exa mple.com/", "http://x:99999/"],
)  # fmt: skip
def test_urls_that_may_not_be_given(url: str) -> None:
    with pytest.raises(InvalidInput):
        webhooks.check_url(url)


def test_urls_that_may_be_given() -> None:
    assert webhooks.check_url("https://example.com/hook?x=1") == "https://example.com/hook?x=1"


def test_the_signature_covers_time_and_body() -> None:
    one = webhook_posts.signature(b"{}", at=1)
    assert one.startswith("t=1,v1=")
    assert one != webhook_posts.signature(b"{ }", at=1)
    assert one.split("v1=")[1] != webhook_posts.signature(b"{}", at=2).split("v1=")[1]


def test_an_address_has_a_bounded_length() -> None:
    longest = "https://example.com/".ljust(webhooks.LONGEST_URL, "x")
    assert webhooks.check_url(longest) == longest
    with pytest.raises(InvalidInput, match="at most 2048 characters"):
        webhooks.check_url(longest + "x")

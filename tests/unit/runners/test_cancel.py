"""Cancel: requests and callbacks in any order."""

from __future__ import annotations

from runners.cancel import Cancel


def test_request_before_attach() -> None:
    heard: list[int] = []
    cancel = Cancel()
    cancel.request()
    cancel.attach(lambda: heard.append(1))
    assert heard == [1] and cancel.requested


def test_request_after_attach_is_told_once() -> None:
    heard: list[int] = []
    cancel = Cancel()
    cancel.attach(lambda: heard.append(1))
    assert not cancel.requested
    cancel.request()
    cancel.request()
    assert heard == [1]


def test_nothing_is_told_after_detach() -> None:
    heard: list[int] = []
    cancel = Cancel()
    cancel.attach(lambda: heard.append(1))
    cancel.detach()
    cancel.request()
    assert not heard

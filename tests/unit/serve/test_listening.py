from __future__ import annotations

import os
import socket

import pytest

from era_project.serve import listening
from era_project.serve.failures import CannotServe


def _close(sockets: list[socket.socket]) -> None:
    for listener in sockets:
        listener.close()


def test_one_port_on_both_loopbacks() -> None:
    sockets = listening.listen("", 0)
    try:
        ports = {listener.getsockname()[1] for listener in sockets}
        assert len(ports) == 1
        assert sockets[0].getsockname()[0] == "127.0.0.1"
    finally:
        _close(sockets)


def test_a_taken_port_names_its_process() -> None:
    sockets = listening.listen("", 0)
    try:
        with pytest.raises(listening.PortTaken, match=rf"process {os.getpid()}\b") as caught:
            listening.listen("", sockets[0].getsockname()[1])
        assert caught.value.pid == os.getpid()
    finally:
        _close(sockets)


def test_a_port_taken_on_ipv6_alone_is_taken() -> None:
    with socket.socket(socket.AF_INET6) as other:
        try:
            other.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
        other.listen()
        with pytest.raises(listening.PortTaken):
            listening.listen("", other.getsockname()[1])


@pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_loopback_needs_no_token(host: str) -> None:
    listening.check_host(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com"])
def test_other_addresses_are_refused(host: str) -> None:
    with pytest.raises(CannotServe, match="ERA_HOST"):
        listening.check_host(host)

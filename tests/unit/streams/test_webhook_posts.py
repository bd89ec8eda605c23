"""An attempt to deliver a webhook ends with its time, however the receiver draws it out."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from era_project import conf
from sessions_app import webhook_posts

HOST = "127.0.0.1"
ATTEMPT_S = 0.4
EACH_S = 0.02
DRAWN_OUT = 200
"""Bytes that the receiver sends, one each :data:`EACH_S`: ten times as long as an attempt."""


class Receiver:
    """Takes one connection and answers it byte by byte. ``sent``: how many bytes went out, once it is over."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.sent: Future[int] = Future()
        self._tls = tls
        self._stopped = threading.Event()
        self._listener = socket.create_server((HOST, 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://{HOST}:{self._listener.getsockname()[1]}/"

    def close(self) -> None:
        self._stopped.set()
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        sent = 0
        plain, _ = self._listener.accept()
        with contextlib.suppress(OSError), plain if self._tls is None else self._tls.wrap_socket(plain, True) as sock:
            while sent < DRAWN_OUT and not self._stopped.wait(EACH_S):
                sock.sendall(b"x")
                sent += 1
        self.sent.set_result(sent)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of this machine's own, signed by itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.fixture(params=["http", "https"])
def receiver(request: pytest.FixtureRequest, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver on this machine that draws its answer out; webhooks may go there and trust it."""
    tls = None
    if request.param == "https":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    allowed = dataclasses.replace(conf.get(), webhook_allow_private=True)
    monkeypatch.setattr(conf, "get", lambda: allowed)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr(webhook_posts, "ATTEMPT_S", ATTEMPT_S)
    with contextlib.closing(Receiver(tls)) as made:
        yield made


def test_an_answer_that_trickles_is_broken_off(receiver: Receiver) -> None:
    answered = webhook_posts.post(receiver.url, b"{}", delivery="1")
    assert answered.status is None
    assert answered.error
    assert "certificate" not in answered.error.lower()
    assert receiver.sent.result(10) < DRAWN_OUT

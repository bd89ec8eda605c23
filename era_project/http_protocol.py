"""uvicorn's HTTP with our error shape for what is no HTTP at all, which never reaches the application."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from era_project import api_errors, request_ids
from era_project.errors import InvalidInput

HANDSHAKE = frozenset((b"sec-websocket-key", b"sec-websocket-version"))
"""What every web socket's request carries. Source: RFC 6455, section 4.1."""


class Protocol(HttpToolsProtocol):
    """Answers malformed requests as every other error is answered."""

    def _should_upgrade(self) -> bool:
        """A stray ``Upgrade: websocket`` that begins no handshake is an ordinary request."""
        return super()._should_upgrade() and {name for name, _ in self.headers} >= HANDSHAKE

    def send_400_response(self, msg: str) -> None:
        """Tell the client that its request is malformed, and hang up."""
        body = api_errors.render(
            InvalidInput("The request is no HTTP/1.1 that can be read.", code="MALFORMED_REQUEST")
        ).json()
        head = (
            "HTTP/1.1 400 Bad Request\r\n"
            "content-type: application/json\r\n"
            f"content-length: {len(body)}\r\n"
            f"x-request-id: {request_ids.choose(None)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

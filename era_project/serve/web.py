"""One web process: uvicorn on sockets that the supervisor has bound, and beat beside it if that is wanted.

python -m era_project.serve.web [--beat] FD [FD ...]
"""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Sequence

GRACE_S = 3
"""How long open answers may take after TERM; the server as a whole ends within 5 s."""

MESSAGE_BYTES = 1 << 20
"""Largest message of a web socket."""


def main(descriptors: Sequence[int], *, with_beat: bool) -> None:
    """Serves until INT or TERM."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "era_project.settings")
    import uvicorn

    from era_project import http_protocol
    from era_project.asgi import application

    config = uvicorn.Config(
        application,
        loop="uvloop",
        http=http_protocol.Protocol,
        ws="websockets-sansio",
        ws_max_size=MESSAGE_BYTES,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    if with_beat:
        from sessions_app.beat import Beat

        Beat().start()  # its threads end with the process, as after a kill
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor) for descriptor in descriptors])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--beat", action="store_true")
    parser.add_argument("descriptors", type=int, nargs="+")
    arguments = parser.parse_args()
    main(arguments.descriptors, with_beat=arguments.beat)

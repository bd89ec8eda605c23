"""A program for ``test_full_disk``: uploads until the small disk that holds the state is full, and after."""

from __future__ import annotations

import json
import sys

import django

django.setup()

from sessions_app.models import Session  # noqa: E402
from storage_app import blobs, objects  # noqa: E402
from tests.integration.files.asgi import request  # noqa: E402


def main(name: str) -> None:
    session = Session.objects.get(name=name).name
    told = {
        "small": request("PUT", session, "a", pieces=(b"old",)).status,
        "large": request("PUT", session, "a", pieces=(b"x" * (1 << 20),) * 64).code,
        "status": request("PUT", session, "a", pieces=(b"x" * (64 << 20),)).status,
        "kept": request("GET", session, "a").body.decode(),
        "spooled": len(list(objects.spool_dir().iterdir())),
        "again": request("PUT", session, "a", pieces=(b"new",)).status,
    }
    fill = objects.spool_dir() / "fill"
    try:
        with fill.open("wb") as file:
            while True:
                file.write(b"x" * (1 << 20))
                file.flush()
    except OSError:
        pass
    told["without any room"] = request("PUT", session, "a", pieces=(b"newer",)).code
    told["still kept"] = request("GET", session, "a").body.decode()
    fill.unlink()
    told["after room was made"] = request("PUT", session, "a", pieces=(b"newer",)).status
    told["direct"] = blobs.put_bytes(b"newer").size
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])

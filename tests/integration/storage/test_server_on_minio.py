"""A whole server whose bytes lie in MinIO, and what it says when MinIO is gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import minio, servers, stack
from tests.waiting import wait_until

pytestmark = [pytest.mark.timeout(minio.BUILD_S), pytest.mark.xdist_group("minio")]


def settings(store: minio.Server) -> dict[str, str]:
    return {
        "ERA_RUNTIMES_DIR": str(stack.current.runtimes.parent),
        "ERA_S3_ENDPOINT": store.endpoint,
        "ERA_S3_ACCESS_KEY": store.access_key,
        "ERA_S3_SECRET_KEY": store.secret_key,
        "ERA_S3_SECURE": "false",
        "ERA_S3_BUCKET": "era-server",
    }


def objects_on_disk(state: Path) -> list[Path]:
    return [file for file in (state / "objects").rglob("*") if file.is_file()]


def test_files_and_health() -> None:
    state = stack.current.state / "on-minio"
    with (
        minio.serve(stack.current.state / "minio-of-server") as store,
        servers.running(settings(store), state=state) as server,
    ):
        name = server.post("/api/sessions", {"language": "python"}).json["id"]
        content = os.urandom(3_000_000)
        path = f"/api/sessions/{name}/files"
        assert server.request("PUT", f"{path}/in.bin", content).status == 200
        code = 'open("out.bin", "wb").write(open("in.bin", "rb").read()[::-1])'
        run = server.post(f"/api/sessions/{name}/run", {"code": code}).json
        assert (run["status"], run["changes"]["created"]) == ("succeeded", ["out.bin"]), run
        assert server.get(f"{path}/out.bin").body == content[::-1]
        assert server.get(f"{path}/out.bin", Range="bytes=5-9").body == content[::-1][5:10]
        assert objects_on_disk(state) == []
        assert server.get("/health").status == 200
        store.stop()
        wait_until(lambda: server.get("/health").status == 503, 60, "health tells that the object store is down")
        lost = server.request("PUT", f"{path}/other.bin", b"x")
        assert (lost.status, lost.json["code"]) == (503, "OBJECT_STORE_DOWN")
        assert server.get(f"{path}/in.bin").status == 503

"""Each test of this folder runs twice: over the folder and over a real MinIO."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from era_project import conf
from storage_app import objects
from storage_app.objects import ObjectStore
from tests import minio, stack


@pytest.fixture(scope="session")
def minio_server() -> Iterator[minio.Server]:
    """One server for this process; a test that needs it fails where it cannot be had."""
    with minio.serve(stack.current.state / "minio") as server:
        yield server


@pytest.fixture(params=["folder", "minio"])
def store(request: pytest.FixtureRequest, real_db: None) -> Iterator[ObjectStore]:
    """This process's object store for one test."""
    if request.param == "folder":
        yield objects.store()
        return
    server: minio.Server = request.getfixturevalue("minio_server")
    request.node.user_properties.append(("spoke to", f"MinIO {server.version()}"))
    with using(server):
        yield objects.store()


@contextlib.contextmanager
def using(server: minio.Server) -> Iterator[None]:
    """This process with that server as its object store."""
    conf.set_for_this_process(
        {
            "ERA_S3_ENDPOINT": server.endpoint,
            "ERA_S3_ACCESS_KEY": server.access_key,
            "ERA_S3_SECRET_KEY": server.secret_key,
            "ERA_S3_SECURE": "false",
            "ERA_S3_BUCKET": "era-tests",
        }
    )
    objects.store.cache_clear()
    try:
        yield
    finally:
        conf.set_for_this_process({"ERA_S3_ENDPOINT": ""})
        objects.store.cache_clear()


@pytest.fixture
def source() -> Path:
    """A folder for files to be stored, on the same disk as the store."""
    folder = stack.current.state / "source"
    folder.mkdir(exist_ok=True)
    return folder

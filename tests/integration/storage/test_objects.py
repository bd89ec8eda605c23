"""The object stores: the same promises from the folder and from MinIO."""

from __future__ import annotations

import hashlib
import os
import socket
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from era_project.conf import Conf
from era_project.errors import Unavailable
from storage_app import blobs, objects
from storage_app.minio_store import MinioStore
from storage_app.objects import MissingObjectError, ObjectStore, Waiting
from tests import minio

pytestmark = [pytest.mark.timeout(minio.BUILD_S), pytest.mark.xdist_group("minio")]


def waiting(content: bytes, folder: Path) -> Waiting:
    path = folder / uuid.uuid4().hex
    path.write_bytes(content)
    return Waiting(hashlib.sha256(content).hexdigest(), path, len(content))


def read(store: ObjectStore, sha256: str, offset: int = 0, length: int | None = None) -> bytes:
    with store.open(sha256, offset, length) as chunks:
        return b"".join(chunks)


@pytest.mark.parametrize("size", [0, 17, 256 * 1024, 6 << 20])
def test_what_was_put_is_read(store: ObjectStore, source: Path, size: int) -> None:
    file = waiting(os.urandom(size), source)
    content = file.path.read_bytes()
    assert size == 0 or not store.exists(file.sha256)
    store.put_all([file])
    assert store.exists(file.sha256)
    assert read(store, file.sha256) == content


def test_parts(store: ObjectStore, source: Path) -> None:
    content = os.urandom(600_000)
    file = waiting(content, source)
    store.put_all([file])
    for offset, length in ((0, 0), (0, 1), (10, None), (300_000, 299_999), (599_999, 1), (0, 600_000)):
        end = None if length is None else offset + length
        assert read(store, file.sha256, offset, length) == content[offset:end]


def test_many_at_once_and_again(store: ObjectStore, source: Path) -> None:
    files = [waiting(os.urandom(100), source) for _ in range(30)]
    store.put_all(files)
    again = waiting(read(store, files[0].sha256), source)
    store.put_all([again])
    assert {file.sha256 for file in files} <= set(store.iterate())


def test_what_is_not_there(store: ObjectStore) -> None:
    missing = hashlib.sha256(os.urandom(8)).hexdigest()
    assert not store.exists(missing)
    store.delete(missing)
    with pytest.raises(MissingObjectError), store.open(missing):
        pass
    with pytest.raises(MissingObjectError):
        blobs.read(missing)


def test_deleting(store: ObjectStore, source: Path) -> None:
    file = waiting(os.urandom(10), source)
    store.put_all([file])
    store.delete(file.sha256)
    assert not store.exists(file.sha256)


def test_check(store: ObjectStore) -> None:
    store.check()


def test_blobs(store: ObjectStore) -> None:
    content = os.urandom(3 << 20)
    with blobs.Upload() as upload:
        for start in range(0, len(content), 1 << 20):
            upload.write(content[start : start + (1 << 20)])
        stored = upload.commit()
    assert stored == (hashlib.sha256(content).hexdigest(), len(content))
    assert blobs.read(stored.sha256) == content
    assert blobs.put_bytes(content) == stored
    assert not upload_files_of_ours()


def test_an_upload_without_a_commit_leaves_nothing(store: ObjectStore) -> None:
    with blobs.Upload() as upload:
        upload.write(b"half")
        digest = upload.stored.sha256
        assert upload_files_of_ours()
    assert not upload_files_of_ours()
    assert not store.exists(digest)


def test_a_whole_object_into_a_descriptor(store: ObjectStore, tmp_path: Path) -> None:
    stored = blobs.put_bytes(os.urandom(700_000))
    with (tmp_path / "out").open("wb") as file:
        objects.copy_to(store, stored.sha256, file.fileno(), stored.size)
    assert hashlib.sha256((tmp_path / "out").read_bytes()).hexdigest() == stored.sha256
    with (tmp_path / "out").open("wb") as file, pytest.raises(MissingObjectError):
        objects.copy_to(store, stored.sha256, file.fileno(), stored.size + 1)


def upload_files_of_ours() -> list[Path]:
    return list(objects.spool_dir().iterdir())


def test_a_server_that_is_down() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{nobody.getsockname()[1]}"
        down = MinioStore.from_settings(
            Conf(s3_endpoint=endpoint, s3_access_key="a", s3_secret_key="b" * 8, s3_secure=False)
        )
        with pytest.raises(Unavailable) as told:
            down.check()
    assert told.value.code == "OBJECT_STORE_DOWN"


@given(st.text(max_size=70))
def test_the_folder_takes_digests_only(name: str) -> None:
    from storage_app.folder_store import FolderStore

    with pytest.raises(ValueError):
        FolderStore(objects.spool_dir().parent).exists(name)

"""Objects in MinIO, or whatever else speaks S3: the store of a fleet. The only user of the ``minio`` client."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Self

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, S3Error, ServerError

from era_project.conf import Conf
from era_project.full_disk import disk_full
from storage_app.objects import CHUNK_BYTES, MissingObjectError, Waiting, missing, store_down

MISSING = frozenset({"NoSuchKey", "NoSuchObject", "NoSuchBucket"})
FULL = frozenset({"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded"})
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30
CHECK_TIMEOUT_S = 3
CONNECTIONS = 32
UPLOADS_AT_ONCE = 8


class MinioStore:
    """One bucket; an object's key is its digest, below two characters of it."""

    def __init__(self, client: Minio, quick: Minio, bucket: str) -> None:
        self._client = client
        self._quick = quick
        self._bucket = bucket
        self._has_bucket = False

    @classmethod
    def from_settings(cls, settings: Conf) -> Self:
        """The store that ``ERA_S3_*`` name; the bucket is made when it is first needed."""
        patient = urllib3.Retry(total=2, backoff_factor=0.2, status_forcelist=[502, 503, 504])
        return cls(
            _client(settings, READ_TIMEOUT_S, patient), _client(settings, CHECK_TIMEOUT_S, False), settings.s3_bucket
        )

    def put_all(self, files: Sequence[Waiting]) -> None:
        """Uploads files, a few at a time."""
        with _errors():
            self._need_bucket()
        if len(files) <= 1:
            for file in files:
                self._put(file)
            return
        with ThreadPoolExecutor(UPLOADS_AT_ONCE, thread_name_prefix="minio-put") as pool:
            for _ in pool.map(self._put, files):
                pass

    def _put(self, file: Waiting) -> None:
        with _errors(), open(file.path, "rb") as content:
            self._client.put_object(self._bucket, _key(file.sha256), content, file.size)

    def open(self, sha256: str, offset: int = 0, length: int | None = None) -> AbstractContextManager[Iterator[bytes]]:
        """See :class:`storage_app.objects.ObjectStore`."""
        return self._opened(sha256, offset, length)

    @contextlib.contextmanager
    def _opened(self, sha256: str, offset: int, length: int | None) -> Iterator[Iterator[bytes]]:
        if length == 0:  # to S3 a length of 0 is "all the rest"
            yield iter(())
            return
        with _errors():
            response = self._client.get_object(self._bucket, _key(sha256), offset=offset, length=length or 0)
        try:
            yield _chunks(response)
        finally:
            response.close()
            response.release_conn()

    def exists(self, sha256: str) -> bool:
        """See :class:`storage_app.objects.ObjectStore`."""
        try:
            with _errors():
                self._client.stat_object(self._bucket, _key(sha256))
        except MissingObjectError:
            return False
        return True

    def delete(self, sha256: str) -> None:
        """See :class:`storage_app.objects.ObjectStore`."""
        with contextlib.suppress(MissingObjectError), _errors():
            self._client.remove_object(self._bucket, _key(sha256))

    def iterate(self) -> Iterator[str]:
        """See :class:`storage_app.objects.ObjectStore`."""
        with _errors():
            self._need_bucket()
            for found in self._client.list_objects(self._bucket, recursive=True):
                yield str(found.object_name).replace("/", "")

    def check(self) -> None:
        """Asks for the bucket, past what is remembered, and does not wait long."""
        with _errors():
            self._has_bucket = False
            self._need_bucket(self._quick)

    def _need_bucket(self, client: Minio | None = None) -> None:
        client = client or self._client
        if not self._has_bucket:
            if not client.bucket_exists(self._bucket):
                self._make_bucket(client)
            self._has_bucket = True

    def _make_bucket(self, client: Minio) -> None:
        try:
            client.make_bucket(self._bucket)
        except S3Error as error:
            if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise


def _client(settings: Conf, read_timeout_s: float, retries: urllib3.Retry | bool) -> Minio:
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=read_timeout_s), maxsize=CONNECTIONS, retries=retries
    )
    return Minio(
        settings.s3_endpoint,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        secure=settings.s3_secure,
        http_client=pool,
    )


def _key(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256[2:]}"


def _chunks(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    with _errors():
        yield from response.stream(CHUNK_BYTES)


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Turns the client's errors into ours."""
    try:
        yield
    except S3Error as error:
        raise _translated(error) from error
    except (ServerError, InvalidResponseError, urllib3.exceptions.HTTPError) as error:
        raise store_down(type(error).__name__) from error


def _translated(error: S3Error) -> Exception:
    if error.code in MISSING:
        return missing(str(error.object_name).replace("/", ""))
    if error.code in FULL:
        return disk_full()
    return store_down(str(error.code))

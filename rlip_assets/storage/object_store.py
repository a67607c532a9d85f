"""Objects of an S3-compatible store. The only module that imports boto3, whose transfer manager and retries do the work.

Which store, and with whose credentials, is the environment's business (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_PROFILE, an instance
role ...); no file of the project names either.

    report = mirror(ObjectStore.connect(), "s3://datasets/coco", Path("data/raw/s3/datasets/coco"))
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rlip_assets.storage.errors import DataError, InputError, TransientError, UnavailableError, explain

SCHEME = "s3://"
ATTEMPTS = 8
_TRANSFERS = 16
_FATAL = {
    "NoSuchBucket": "create it or correct the prefix",
    "NoSuchKey": "correct the name",
    "AccessDenied": "give these credentials access",
    "Forbidden": "give these credentials access",
    "403": "give these credentials access",
    "404": "correct the name",
    "InvalidAccessKeyId": "correct AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "correct AWS_SECRET_ACCESS_KEY",
}
"""Codes that no second try changes, with the remedy."""


class ChangedObjectError(TransientError):
    """An object was replaced while it was being read."""


@dataclass(frozen=True)
class Prefix:
    """`s3://bucket/prefix`. `prefix` is empty or ends with a slash."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Prefix:
        """Return the prefix that a root names.

        Raises:
            InputError: another scheme, or no bucket.
        """
        bucket, _, prefix = url.removeprefix(SCHEME).partition("/")
        if not url.startswith(SCHEME) or not bucket:
            raise InputError(f"{url} is not the address of a prefix; write s3://BUCKET/PREFIX")
        prefix = prefix.strip("/")
        return cls(bucket, f"{prefix}/" if prefix else "")

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.prefix}"


@dataclass(frozen=True)
class RemoteObject:
    """One object as listed: `name` relative to its prefix, size in bytes, and the store's tag of its content."""

    name: str
    size: int
    etag: str


class ObjectStore:
    """Requests to one store; `client` is a boto3 S3 client."""

    def __init__(self, client: Any, attempts: int = ATTEMPTS) -> None:
        self._client, self._attempts = client, attempts

    @classmethod
    def connect(
        cls, endpoint: str | None = None, *, attempts: int = ATTEMPTS, seconds: float | None = None
    ) -> ObjectStore:
        """Return the store of the environment, or the one at `endpoint`.

        Args:
            attempts: per request.
            seconds: after which an attempt fails; by default long enough for a busy store.
        """
        import boto3.session
        from botocore.config import Config

        config = Config(
            retries={"mode": "adaptive", "total_max_attempts": attempts},
            connect_timeout=seconds or 10,
            read_timeout=seconds or 60,
            max_pool_connections=2 * _TRANSFERS,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return cls(boto3.session.Session().client("s3", endpoint_url=endpoint, config=config), attempts)

    def list(self, prefix: Prefix) -> Iterator[RemoteObject]:
        """Yield every object below a prefix in the order of names; markers of empty folders are left out.

        Raises:
            InputError: no such bucket, no access, or a store that keeps failing.
            DataError: a name that would leave the folder it is mirrored to.
        """
        pages = iter(self._client.get_paginator("list_objects_v2").paginate(Bucket=prefix.bucket, Prefix=prefix.prefix))
        while True:
            with one_sentence(str(prefix), self._attempts):
                page = next(pages, None)
            if page is None:
                return
            for entry in page.get("Contents", []):
                name = entry["Key"].removeprefix(prefix.prefix)
                if name and not name.endswith("/"):
                    yield RemoteObject(_safe(name, prefix), int(entry["Size"]), entry["ETag"].strip('"'))

    def fetch(self, prefix: Prefix, objects: Iterable[RemoteObject], folder: Path) -> Iterator[RemoteObject]:
        """Download objects into `folder`, several at a time, large ones in parts; yield each when it is there whole.

        Raises:
            InputError: an object cannot be read, or the folder not written.
            ChangedObjectError: an object was replaced since it was listed.
            DataError: an object arrives other than the store describes it, or its name lies below another object's.
        """
        from boto3.s3.transfer import TransferConfig
        from s3transfer.manager import TransferManager

        config = TransferConfig(max_concurrency=_TRANSFERS, num_download_attempts=ATTEMPTS)
        with TransferManager(self._client, config) as manager:
            running: deque[tuple[RemoteObject, Any]] = deque()
            for found in objects:
                path = folder / found.name
                with one_sentence(f"{prefix}{found.name}"):
                    path.parent.mkdir(parents=True, exist_ok=True)
                running.append((found, manager.download(prefix.bucket, prefix.prefix + found.name, str(path))))
                if len(running) > 4 * _TRANSFERS:
                    yield self._finished(prefix, *running.popleft(), folder)
            while running:
                yield self._finished(prefix, *running.popleft(), folder)

    def _finished(self, prefix: Prefix, found: RemoteObject, transfer: Any, folder: Path) -> RemoteObject:
        """Wait for a transfer and compare what arrived with the listing: its size, and its MD5 where that is the tag."""
        where, path = f"{prefix}{found.name}", folder / found.name
        with one_sentence(where):
            transfer.result()
            with path.open("rb") as stream:
                md5 = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            if path.stat().st_size == found.size and (len(found.etag) != 32 or md5 == found.etag):
                return found
            path.unlink()
            now = self._client.head_object(Bucket=prefix.bucket, Key=prefix.prefix + found.name)["ETag"].strip('"')
        if now != found.etag:
            raise ChangedObjectError(f"{where} was replaced while it was being read; run this again")
        raise DataError(
            f"{where} arrives damaged: its bytes do not have the checksum that the store gives; upload it again"
        )


@contextmanager
def one_sentence(where: str, attempts: int = ATTEMPTS) -> Iterator[None]:
    """Turn what the S3 client raises into an error that a user can act on."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
    from s3transfer.exceptions import RetriesExceededError

    try:
        yield
    except NoCredentialsError:
        raise InputError(
            f"{where} needs credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE"
        ) from None
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in ("PreconditionFailed", "412"):
            raise ChangedObjectError(f"{where} was replaced while it was being read; run this again") from None
        if code in _FATAL:
            raise InputError(f"{where} cannot be used ({code}); {_FATAL[code]}") from None
        raise _failed(where, code, attempts) from None
    except (BotoCoreError, Boto3Error, RetriesExceededError, ConnectionError, TimeoutError) as error:
        raise _failed(where, f"{type(error).__name__}: {error}", attempts) from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise DataError(f"{where} lies below a name that is an object itself; rename one of the two") from None
    except OSError as error:
        raise InputError(f"{where} cannot be written to this machine ({explain(error) or error})") from None


def _failed(where: str, problem: str, attempts: int) -> InputError:
    times = f"{attempts} times, the last time" if attempts > 1 else "once,"
    return UnavailableError(f"{where} failed {times} with {problem}; is the store up? Run this again")


def _safe(name: str, prefix: Prefix) -> str:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or "//" in name or ".." in parts or "." in parts or "\0" in name:
        raise DataError(f"{prefix}{name} has a name that cannot be a file of the mirror; rename the object")
    return name

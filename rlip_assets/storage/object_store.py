"""Objects of an S3-compatible store and their mirror in a local folder. The only module that imports boto3.

Which store, and with whose credentials, is the environment's business (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_PROFILE, an instance
role ...); no file of the project names either. Every request is tried again with growing pauses when the store or the network fails.

    report = mirror(ObjectStore.connect(), "s3://datasets/coco", Path("data/raw/s3/datasets/coco"))
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from rlip_assets.storage.errors import DataError, InputError, RlipError
from rlip_assets.storage.files import CHUNK, sha256_file

SCHEME = "s3://"
PART_BYTES = 16 << 20
"""Size of the parts of a large upload; files up to one part go in one request. The store's own least size is 5 MiB."""
_ATTEMPTS = 8
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 20.0
_SHA256 = "sha256"
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
Result = TypeVar("Result")


class ChangedObjectError(RlipError):
    """An object was replaced while it was being read."""


@dataclass(frozen=True)
class Prefix:
    """`s3://bucket/prefix`. `prefix` is empty or ends with a slash."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Prefix:
        """From the text of a root.

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
    """Requests to one store. Safe to use from several threads."""

    def __init__(self, client: Any, sleep: Callable[[float], None] = time.sleep) -> None:
        """
        Args:
            client: a boto3 S3 client that does not try again by itself.
            sleep: waits some seconds; tests pass one that does not.
        """
        self._client, self._sleep = client, sleep

    @classmethod
    def connect(cls, endpoint: str | None = None, sleep: Callable[[float], None] = time.sleep) -> ObjectStore:
        """The store of the environment, or the one at `endpoint`."""
        import boto3.session
        from botocore.config import Config

        config = Config(
            retries={"total_max_attempts": 1},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=32,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return cls(boto3.session.Session().client("s3", endpoint_url=endpoint, config=config), sleep)

    def list(self, prefix: Prefix) -> Iterator[RemoteObject]:
        """Every object below a prefix in the order of names, a thousand a request; markers of empty folders are left out.

        Raises:
            InputError: no such bucket, no access, or a store that keeps failing.
            DataError: a name that would leave the folder it is mirrored to.
        """
        token: dict[str, str] = {}
        while True:
            page = self._request(
                str(prefix),
                partial(self._client.list_objects_v2, Bucket=prefix.bucket, Prefix=prefix.prefix, **token),
            )
            for entry in page.get("Contents", []):
                name = entry["Key"].removeprefix(prefix.prefix)
                if name and not name.endswith("/"):
                    yield RemoteObject(_safe(name, prefix), int(entry["Size"]), entry["ETag"].strip('"'))
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def download(self, prefix: Prefix, found: RemoteObject, path: Path) -> str:
        """Write an object to `path`, whole or not at all; returns its SHA-256.

        What arrived is kept beside `path` under the tag of its content, so that a broken or killed transfer goes on where it was.

        Raises:
            InputError: the object cannot be read.
            ChangedObjectError: it was replaced since it was listed.
            DataError: what arrived is not what the store holds, twice in a row.
        """
        where = f"{prefix}{found.name}"
        arrived = path.with_name(f".{path.name}.{hashlib.sha256(found.etag.encode()).hexdigest()[:12]}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise DataError(f"{where} lies below a name that is an object itself; rename one of the two") from None
        for last in (False, True):
            try:
                expected = self._request(where, lambda: self._fetch(prefix, found, arrived))
            except ChangedObjectError:
                arrived.unlink(missing_ok=True)
                raise
            digest = sha256_file(arrived)
            if _is_whole(arrived, digest, found, expected):
                arrived.replace(path)
                return digest
            arrived.unlink()
            if last:
                break
        raise DataError(
            f"{where} arrives damaged: its bytes do not have the checksum that the store gives; upload it again"
        )

    def _fetch(self, prefix: Prefix, found: RemoteObject, arrived: Path) -> str | None:
        """Append the bytes that are missing from `arrived`; returns the SHA-256 that the object's maker recorded, if any."""
        done = arrived.stat().st_size if arrived.exists() else 0
        if done > found.size:
            arrived.unlink()
            done = 0
        key = prefix.prefix + found.name
        if done == found.size:
            arrived.touch()
            answer = self._client.head_object(Bucket=prefix.bucket, Key=key, IfMatch=found.etag)
        else:
            span = {"Range": f"bytes={done}-"} if done else {}
            answer = self._client.get_object(Bucket=prefix.bucket, Key=key, IfMatch=found.etag, **span)
            with arrived.open("ab") as stream:
                for chunk in answer["Body"].iter_chunks(CHUNK):
                    stream.write(chunk)
            if arrived.stat().st_size < found.size:
                raise ConnectionError(f"{arrived.stat().st_size} of {found.size} bytes arrived")
        recorded: str | None = answer.get("Metadata", {}).get(_SHA256)
        return recorded

    def upload(self, path: Path, prefix: Prefix, name: str) -> str:
        """Write a file to the store with its SHA-256 as metadata; returns the SHA-256.

        A large file goes in parts; parts that an earlier, broken upload of the same bytes left there are not sent again.

        Raises:
            InputError: the file cannot be read, or the store does not take it.
        """
        try:
            digest, size = sha256_file(path), path.stat().st_size
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}); nothing was uploaded") from None
        target = {"Bucket": prefix.bucket, "Key": prefix.prefix + name}
        where = f"{prefix}{name}"
        if size <= PART_BYTES:
            content = path.read_bytes()
            self._request(where, lambda: self._client.put_object(**target, Body=content, Metadata={_SHA256: digest}))
            return digest
        self._upload_parts(path, size, digest, target, where, resume=True)
        head = self._request(where, lambda: self._client.head_object(**target))
        if head["Metadata"].get(_SHA256) != digest:
            self._upload_parts(path, size, digest, target, where, resume=False)
        return digest

    def _upload_parts(
        self, path: Path, size: int, digest: str, target: dict[str, str], where: str, *, resume: bool
    ) -> None:
        upload, there = self._open_upload(target, where) if resume else (None, {})
        if upload is None:
            created = self._request(
                where, lambda: self._client.create_multipart_upload(**target, Metadata={_SHA256: digest})
            )
            upload = created["UploadId"]
        parts = []
        with path.open("rb") as stream:
            for number in range(1, -(-size // PART_BYTES) + 1):
                content = stream.read(PART_BYTES)
                if there.get(number) != hashlib.md5(content, usedforsecurity=False).hexdigest():
                    self._request(
                        where,
                        partial(self._client.upload_part, **target, UploadId=upload, PartNumber=number, Body=content),
                    )
                parts.append(number)
        tags = self._parts(target, upload, where)
        listed = [{"PartNumber": number, "ETag": tags[number]} for number in parts]
        self._request(
            where,
            lambda: self._client.complete_multipart_upload(
                **target, UploadId=upload, MultipartUpload={"Parts": listed}
            ),
        )

    def _open_upload(self, target: dict[str, str], where: str) -> tuple[str | None, dict[int, str]]:
        """An upload of this object that was begun and not completed, with the tags of its parts."""
        answer = self._request(
            where, lambda: self._client.list_multipart_uploads(Bucket=target["Bucket"], Prefix=target["Key"])
        )
        for entry in answer.get("Uploads", []):
            if entry["Key"] == target["Key"]:
                return entry["UploadId"], self._parts(target, entry["UploadId"], where)
        return None, {}

    def _parts(self, target: dict[str, str], upload: str, where: str) -> dict[int, str]:
        """Part number -> tag (the MD5 of its bytes) of an upload that is not completed."""
        found: dict[int, str] = {}
        marker: dict[str, int] = {}
        while True:
            page = self._request(where, partial(self._client.list_parts, **target, UploadId=upload, **marker))
            found |= {part["PartNumber"]: part["ETag"].strip('"') for part in page.get("Parts", [])}
            if not page.get("IsTruncated"):
                return found
            marker = {"PartNumberMarker": page["NextPartNumberMarker"]}

    def _request(self, where: str, call: Callable[[], Result]) -> Result:
        """The result of `call`, tried again with growing, randomly shortened pauses."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
        from botocore.exceptions import ConnectionError as StoreConnectionError

        pause = _FIRST_PAUSE
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return call()
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
                problem = code
            except (BotoCoreError, StoreConnectionError, OSError) as error:
                if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
                    raise InputError(
                        f"{where} cannot be written to this machine ({error.strerror}); make room and run this again"
                    ) from None
                problem = f"{type(error).__name__}: {error}"
            if attempt < _ATTEMPTS:
                self._sleep(pause * random.uniform(0.5, 1))
                pause = min(2 * pause, _LONGEST_PAUSE)
        raise InputError(
            f"{where} failed {_ATTEMPTS} times, the last time with {problem}; is the store up? Run this again"
        )


def _safe(name: str, prefix: Prefix) -> str:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or "//" in name or ".." in parts or "." in parts or "\0" in name:
        raise DataError(f"{prefix}{name} has a name that cannot be a file of the mirror; rename the object")
    return name


def _is_whole(arrived: Path, digest: str, found: RemoteObject, recorded: str | None) -> bool:
    """Whether bytes are those of the object, by the best checksum there is: SHA-256, MD5 (the tag of a plain upload), or size."""
    if arrived.stat().st_size != found.size:
        return False
    if recorded is not None:
        return digest == recorded
    if len(found.etag) != 32:
        return True
    md5 = hashlib.md5(usedforsecurity=False)
    with arrived.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            md5.update(chunk)
    return md5.hexdigest() == found.etag

"""The object store and its mirror against a real S3-compatible server: incremental, resumable, and unmoved by failures."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from botocore.response import StreamingBody
from PIL import Image

from rlip_assets.datasets.scenes import bucket_of
from rlip_assets.datasets.sources.stage import raw_manifest_stage
from rlip_assets.lineage.context import NullLog, StageContext
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.params.sources import SourcesParams
from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.mirror import difference, mirror
from rlip_assets.storage.object_store import ChangedObjectError, ObjectStore, Prefix, RemoteObject
from tests.support.object_server import KEY, SECRET, Door, open_door, s3_server

PART = 8 << 20
pytestmark = pytest.mark.s3


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3")) as address:
        yield address


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.endpoint.time", Mock(sleep=lambda seconds: None))


connect = ObjectStore.connect


@pytest.fixture
def prefix(address: str, request: pytest.FixtureRequest) -> Prefix:
    """A prefix of its own for the test, in a bucket that exists."""
    client = connect(address)._client
    if "datasets" not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket="datasets")
    return Prefix("datasets", f"{hashlib.sha256(request.node.name.encode()).hexdigest()[:8]}/")


def put(address: str, prefix: Prefix, **objects: bytes) -> None:
    client = connect(address)._client
    for name, content in objects.items():
        client.put_object(Bucket=prefix.bucket, Key=prefix.prefix + name, Body=content)


def tree(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_addresses() -> None:
    assert Prefix.parse("s3://b/x/y/") == Prefix.parse("s3://b/x/y") == Prefix("b", "x/y/")
    assert str(Prefix.parse("s3://b")) == "s3://b/"
    for wrong in ("gs://b/x", "s3://", "/data/raw"):
        with pytest.raises(InputError, match="write s3://BUCKET/PREFIX"):
            Prefix.parse(wrong)


def test_only_what_changed_is_fetched(address: str, prefix: Prefix, tmp_path: Path) -> None:
    objects = {f"images/{i:03d}.jpg": f"image {i}".encode() for i in range(12)}
    put(address, prefix, **objects, **{"annotations/all.json": b"{}"})
    folder, door = tmp_path / "mirror", Door(address, every=0)
    with open_door(door) as way:
        first = mirror(connect(way), str(prefix), folder)
        assert (first.fetched, first.kept, first.removed) == (13, 0, 0)
        assert tree(folder) == {**objects, "annotations/all.json": b"{}"}
        put(address, prefix, **{"images/007.jpg": b"IMAGE 7", "images/new.jpg": b"new"})
        connect(address)._client.delete_object(Bucket=prefix.bucket, Key=f"{prefix.prefix}images/001.jpg")
        (folder / "images/002.jpg").write_bytes(b"damaged")
        found = difference(connect(way), str(prefix), folder)
        assert [entry.name for entry in found.fetch] == ["images/002.jpg", "images/007.jpg", "images/new.jpg"]
        assert (found.remove, found.kept) == (("images/001.jpg",), 10)
        door.seen.clear()
        second = mirror(connect(way), str(prefix), folder)
        assert (second.fetched, second.kept, second.removed) == (3, 10, 1)
        assert len([path for method, path, _ in door.seen if method == "GET" and "images" in path]) == 3
        assert not difference(connect(way), str(prefix), folder)
    expected = {**objects, "images/007.jpg": b"IMAGE 7", "images/new.jpg": b"new", "annotations/all.json": b"{}"}
    del expected["images/001.jpg"]
    assert tree(folder) == expected


def test_more_objects_than_a_listing_has(
    address: str, prefix: Prefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(address, prefix, **{f"{i}.txt": str(i).encode() for i in range(25)})
    store = connect(address)
    original = store._client.list_objects_v2
    monkeypatch.setattr(store._client, "list_objects_v2", lambda **options: original(**options, MaxKeys=10))
    assert mirror(store, str(prefix), tmp_path / "mirror").fetched == 25
    assert len(tree(tmp_path / "mirror")) == 25


def test_a_store_that_fails_one_request_in_five(address: str, prefix: Prefix, tmp_path: Path) -> None:
    objects = {f"{i}.bin": random.Random(i).randbytes(3000 + i) for i in range(20)}
    objects["big.bin"] = random.Random(7).randbytes(2 * PART + 77)
    put(address, prefix, **objects)
    door = Door(address)
    with open_door(door) as way:
        assert mirror(connect(way), str(prefix), tmp_path / "mirror").fetched == 21
    assert door.failures >= 5
    assert tree(tmp_path / "mirror") == objects


def test_a_broken_transfer_fetches_the_missing_part_alone(address: str, prefix: Prefix, tmp_path: Path) -> None:
    content = random.Random(1).randbytes(3 * PART)
    put(address, prefix, **{"big.bin": content})
    door = Door(address, every=0)
    broken: list[str | None] = ["half"]
    door.next_failure = lambda: broken.pop() if broken and door.seen else None  # type: ignore[method-assign]
    with open_door(door) as way:
        listed = list(connect(address).list(prefix))
        assert list(connect(way).fetch(prefix, listed, tmp_path)) == listed
    spans = [span for method, _, span in door.seen if method == "GET"]
    assert (len(spans), len(set(spans))) == (4, 3)
    assert tree(tmp_path) == {"big.bin": content}


def test_a_killed_synchronisation_fetches_the_missing_objects_alone(
    address: str, prefix: Prefix, tmp_path: Path
) -> None:
    objects = {f"{i:02d}.bin": bytes([i]) * 100 for i in range(10)}
    put(address, prefix, **objects)

    def killed(done: int, total: int, unit: str) -> None:
        if len(tree(tmp_path / "mirror")) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mirror(connect(address), str(prefix), tmp_path / "mirror", killed)
    report = mirror(connect(address), str(prefix), tmp_path / "mirror")
    assert (report.fetched, report.kept) == (6, 4)
    assert tree(tmp_path / "mirror") == objects
    assert not (tmp_path / "mirror.objects.arriving").exists()


def test_an_object_replaced_since_it_was_listed_is_refused(address: str, prefix: Prefix, tmp_path: Path) -> None:
    put(address, prefix, **{"a.txt": b"old"})
    (listed,) = connect(address).list(prefix)
    put(address, prefix, **{"a.txt": b"new"})
    with pytest.raises(ChangedObjectError, match=r"a\.txt was replaced while it was being read"):
        list(connect(address).fetch(prefix, [listed], tmp_path))
    assert tree(tmp_path) == {}


def test_bytes_that_are_not_those_of_the_object_are_refused(address: str, prefix: Prefix, tmp_path: Path) -> None:
    put(address, prefix, **{"a.txt": b"right"})
    (listed,) = connect(address).list(prefix)
    md5 = hashlib.md5(b"right", usedforsecurity=False).hexdigest()
    assert listed == RemoteObject("a.txt", 5, md5)
    store = connect(address)
    store._client.meta.events.register("after-call.s3.GetObject", damage)
    with pytest.raises(DataError, match="arrives damaged"):
        mirror(store, str(prefix), tmp_path / "mirror")
    assert tree(tmp_path / "mirror") == {}


def damage(parsed: dict[str, Any], **_: Any) -> None:
    """Other bytes of the same length in the answer to a request."""
    parsed["Body"] = StreamingBody(io.BytesIO(b"wrong"), 5)


def test_what_the_user_can_act_on_is_one_sentence(
    address: str, prefix: Prefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="holds no object"):
        mirror(connect(address), f"s3://datasets/{prefix.prefix}empty", tmp_path / "mirror")
    with pytest.raises(InputError, match="NoSuchBucket"):
        mirror(connect(address), "s3://no-such-bucket/x", tmp_path / "mirror")
    with pytest.raises(InputError, match=r"failed 8 times.*is the store up"):
        list(connect("http://127.0.0.1:9").list(prefix))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stranger")
    with pytest.raises(InputError, match="correct AWS_ACCESS_KEY_ID"):
        list(connect(address).list(prefix))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(InputError, match="needs credentials"):
        list(connect(address).list(prefix))


def test_a_full_disk_is_one_sentence(address: str, prefix: Prefix, tmp_path: Path) -> None:
    put(address, prefix, **{"a.txt": b"text"})
    (listed,) = connect(address).list(prefix)

    def full(**_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = connect(address)
    store._client.meta.events.register("before-call.s3.GetObject", full)
    with pytest.raises(InputError, match=r"No space left on device.*make room"):
        list(store.fetch(prefix, [listed], tmp_path))


def test_names_that_leave_the_folder_are_refused() -> None:
    pages = [{"Contents": [{"Key": "p/../../etc/passwd", "Size": 1, "ETag": '"x"'}]}]
    client = Mock(get_paginator=lambda name: Mock(paginate=lambda **options: pages))
    with pytest.raises(DataError, match="cannot be a file of the mirror"):
        list(ObjectStore(client).list(Prefix("b", "p/")))


def test_a_name_below_another_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("an object")
    with pytest.raises(DataError, match="below a name that is an object itself"):
        list(ObjectStore(Mock()).fetch(Prefix("b", ""), [RemoteObject("a/b", 1, "x")], tmp_path))


def test_a_dataset_in_a_store_is_read_from_its_mirror(
    address: str, prefix: Prefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest stage brings the mirror up to date; a new image changes the manifest of its own bucket alone."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)

    def jpeg(number: int) -> bytes:
        stream = io.BytesIO()
        Image.new("RGB", (40, 30), (number, 100, 200)).save(stream, "JPEG")
        return stream.getvalue()

    def publish(numbers: range) -> None:
        images = [{"id": n, "file_name": f"{n:012d}.jpg", "width": 40, "height": 30} for n in numbers]
        boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 5, 5]} for n in numbers]
        table = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "person"}]}
        files = {f"train2017/{n:012d}.jpg": jpeg(n) for n in numbers}
        put(address, prefix, **files, **{"annotations/instances_train2017.json": json.dumps(table).encode()})

    def manifests() -> dict[str, bytes]:
        defaults = SourcesParams().model_dump()
        defaults["coco"] |= {"root": str(prefix), "buckets": 4}
        params = Params(sources=SourcesParams.model_validate(defaults))
        output, work = tmp_path / "out" / str(time.time_ns()), tmp_path / "profile/work/raw_manifest/key"
        output.mkdir(parents=True)
        raw_manifest_stage(StageContext("raw_manifest", "coco", params, {}, {"manifests": output}, work, NullLog()))
        return {file.name: file.read_bytes() for file in output.glob("bucket-*.json")}

    publish(range(8))
    before = manifests()
    assert sorted(before) == [f"bucket-{k}.json" for k in range(4)]
    assert sum(content.count(b'"sha256"') for content in before.values()) == 8
    publish(range(9))
    after = manifests()
    assert [name for name in sorted(before) if before[name] != after[name]] == [f"bucket-{bucket_of('8', 4)}.json"]

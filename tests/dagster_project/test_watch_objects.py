"""New objects below a prefix: noticed once for each state, and only where a manifest was made before."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest

from dagster_dvc.translator import FORCE_TAG
from dagster_project.defs import automation
from dagster_project.profile import ActiveProfile
from rlip_assets.datasets.sources.roots import raw_root
from rlip_assets.labelling.retagging import Due, object_changes
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.params.sources import SourcesParams
from rlip_assets.lineage.registry import build_registry
from rlip_assets.storage.checksums import FileRecords
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.files import write_json
from rlip_assets.storage.mirror import mirror
from rlip_assets.storage.object_store import ObjectStore, Prefix, RemoteObject

URL = "s3://datasets/coco"


class Store(ObjectStore):
    """A store of a few small objects below `coco/`."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def list(self, prefix: Prefix) -> Iterator[RemoteObject]:
        for key, data in sorted(self.objects.items()):
            md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
            yield RemoteObject(key.removeprefix(prefix.prefix), len(data), md5)

    def fetch(self, prefix: Prefix, objects: Iterable[RemoteObject], folder: Path) -> Iterator[RemoteObject]:
        for found in objects:
            folder.mkdir(exist_ok=True)
            (folder / found.name).write_bytes(self.objects[prefix.prefix + found.name])
            yield found


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()
    monkeypatch.setattr(ObjectStore, "connect", lambda *arguments: store)
    return store


@pytest.fixture
def sources() -> SourcesParams:
    values = SourcesParams().model_dump()
    values["coco"]["root"] = URL
    return SourcesParams.model_validate(values)


@pytest.fixture
def look(sources: SourcesParams, tmp_path: Path) -> Callable[[], list[Due]]:
    registry = build_registry(Params(sources=sources))
    return lambda: object_changes(sources, registry, tmp_path)[0]


def observe(sources: SourcesParams, root: Path, started: str) -> None:
    """Write what a run of the manifest stage leaves."""
    mirror(ObjectStore.connect(), URL, raw_root(sources, "coco", root))
    write_json(root / "provenance/raw_manifest@coco.json", {"started": started})


def test_each_state_of_a_prefix_is_asked_for_once(
    client: Store, sources: SourcesParams, look: Callable[[], list[Due]], tmp_path: Path
) -> None:
    client.objects = {"coco/a.jpg": b"a", "coco/b.jpg": b"b"}
    assert look() == []
    observe(sources, tmp_path, "2026-01-01T00:00:00+00:00")
    assert look() == []
    client.objects["coco/c.jpg"] = b"c"
    (first,), (again,) = look(), look()
    assert (first.stage, first.partition) == ("raw_manifest", "coco")
    assert first.reason == f"{URL} has 1 new or changed objects and 0 fewer than its mirror"
    assert first.key == again.key
    client.objects["coco/c.jpg"] = b"another c"
    assert look()[0].key != first.key
    observe(sources, tmp_path, "2026-01-02T00:00:00+00:00")
    assert look() == []
    del client.objects["coco/a.jpg"]
    assert look()[0].reason == f"{URL} has 0 new or changed objects and 1 fewer than its mirror"


def test_a_mirror_that_is_half_there_is_no_other_state(
    client: Store,
    sources: SourcesParams,
    look: Callable[[], list[Due]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run fetches for hours and notes in batches what it has; the sensor asks no other run meanwhile."""
    client.objects = {"coco/a.jpg": b"a", "coco/old.jpg": b"old"}
    observe(sources, tmp_path, "2026-01-01T00:00:00+00:00")
    del client.objects["coco/old.jpg"]
    client.objects |= {"coco/b.jpg": b"b", "coco/c.jpg": b"c"}
    (before,), fetch = look(), client.fetch
    meanwhile: list[Due] = []

    def fetch_and_look(*arguments: Any) -> Iterator[RemoteObject]:
        for found in fetch(*arguments):
            yield found
            meanwhile.extend(look())

    monkeypatch.setattr(FileRecords, "_COMMIT_EVERY", 1)
    monkeypatch.setattr(client, "fetch", fetch_and_look)
    observe(sources, tmp_path, "2026-01-02T00:00:00+00:00")
    assert {due.key for due in meanwhile} == {before.key}
    assert meanwhile[0].reason == f"{URL} has 1 new or changed objects and 0 fewer than its mirror"
    assert look() == []


def test_a_prefix_that_cannot_be_listed_does_not_hide_the_others(
    client: Store, sources: SourcesParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = sources.model_dump()
    values["objects365"]["root"] = "s3://datasets/objects365"
    both = SourcesParams.model_validate(values)
    client.objects = {"coco/a.jpg": b"a", "objects365/a.jpg": b"a"}
    for dataset in ("coco", "objects365"):
        write_json(tmp_path / f"provenance/raw_manifest@{dataset}.json", {"started": "2026-01-01T00:00:00+00:00"})
    listing = client.list

    def fails(prefix: Prefix) -> Iterator[RemoteObject]:
        if prefix.prefix == "coco/":
            raise InputError("the store is away")
        return listing(prefix)

    monkeypatch.setattr(client, "list", fails)
    due, unseen = object_changes(both, build_registry(Params(sources=both)), tmp_path)
    assert [one.partition for one in due] == ["objects365"]
    assert unseen == {"raw_manifest@coco": "the store is away"}


def test_the_sensor_forces_a_run_or_says_why_it_does_not(
    client: Store, sources: SourcesParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage's inputs in DVC are the same, so only a forced run looks at the store."""
    params = Params(sources=sources)
    profile = ActiveProfile("toy", tmp_path, build_registry(params))
    monkeypatch.setattr(automation, "active_profile", lambda: profile)
    monkeypatch.setattr(automation, "load_params", lambda path: params)
    client.objects = {"coco/a.jpg": b"a"}
    observe(sources, tmp_path, "2026-01-01T00:00:00+00:00")
    context = dg.build_sensor_context()
    skipped = automation.new_objects(context)
    assert isinstance(skipped, dg.SkipReason)
    for day in (2, 4):  # the same object again, after it was removed: its state was asked for before
        client.objects["coco/b.jpg"] = b"b"
        (request,) = cast(Iterable[dg.RunRequest], automation.new_objects(context))
        assert (request.partition_key, request.job_name) == ("coco", "renew_manifest")
        assert request.tags[FORCE_TAG] == "true"
        assert isinstance(automation.new_objects(context), dg.SkipReason)
        observe(sources, tmp_path, f"2026-01-0{day}T00:00:00+00:00")
        del client.objects["coco/b.jpg"]
        assert len(cast(list[dg.RunRequest], automation.new_objects(context))) == 1
        observe(sources, tmp_path, f"2026-01-0{day + 1}T00:00:00+00:00")
        assert isinstance(automation.new_objects(context), dg.SkipReason)

    def unreachable(prefix: Prefix) -> None:
        raise InputError("the store is away")

    monkeypatch.setattr(client, "list", unreachable)
    skipped = automation.new_objects(context)
    assert isinstance(skipped, dg.SkipReason)
    nothing = "no dataset in an object store has changed"
    assert skipped.skip_message == f"{nothing}; raw_manifest@coco is passed over: the store is away"

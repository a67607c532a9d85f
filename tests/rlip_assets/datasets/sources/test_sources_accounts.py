"""Whatever is wrong with raw data, the accounts are right; and large files are read in little memory."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from rlip_assets.datasets.sources import stage
from rlip_assets.datasets.sources.coco_style import CocoStyleReader
from rlip_assets.datasets.sources.manifests import Manifest, read_manifest, write_manifest
from rlip_assets.datasets.sources.record_index import RecordIndex
from rlip_assets.lineage.context import NullLog
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.file_state import is_settled
from tests.support.raw_roots import NUMBER, change_json, coco

WRONG = {
    "missing": lambda path, entry, boxes: path.unlink(),
    "truncated": lambda path, entry, boxes: path.write_bytes(path.read_bytes()[:200]),
    "empty": lambda path, entry, boxes: path.write_bytes(b""),
    "size": lambda path, entry, boxes: entry.update(width=41),
    "category": lambda path, entry, boxes: boxes[0].update(category_id=2),
}
HARMLESS = {
    "fine": lambda path, entry, boxes: None,
    "inverted": lambda path, entry, boxes: boxes[0].update(bbox=[5, 5, -3, 4]),
    "outside": lambda path, entry, boxes: boxes[0].update(bbox=[500, 5, 3, 4]),
    "no size": lambda path, entry, boxes: [entry.pop(key) for key in ("width", "height")],
    "text": lambda path, entry, boxes: boxes[0].update(bbox=["a", 1, 2, 3]),
}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    states=st.lists(st.sampled_from([*WRONG, *HARMLESS]), min_size=1, max_size=9),
    twice=st.sets(st.integers(0, 8)),
    buckets=st.integers(1, 3),
)
def test_images_in_are_images_out_and_quarantined(
    states: list[str], twice: set[int], buckets: int, make_lineage: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("accounts")
    (base / "raw/train2017").mkdir(parents=True)
    (base / "raw/annotations").mkdir()
    images, annotations = [], []
    for number, state in enumerate(states):
        path = base / f"raw/train2017/{number}.jpg"
        Image.effect_noise((40, 30), 80).save(path)
        entry = {"id": number, "file_name": path.name, "width": 40, "height": 30}
        boxes = [{"id": n, "image_id": number, "category_id": 1, "bbox": [1, 1, 5, 5]} for n in range(3)]
        {**WRONG, **HARMLESS}[state](path, entry, boxes)
        images += [entry] * (2 if number in twice else 1)
        annotations += boxes
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (base / "raw/annotations/instances_train2017.json").write_text(json.dumps(content))
    lines = make_lineage(base / "profile", "coco", root=str(base / "raw"), buckets=buckets)
    listed = lines.manifest()
    figures = [lines.scenes(bucket) for bucket in range(buckets)]
    good = {str(number) for number, state in enumerate(states) if state in HARMLESS}
    rows = {key for bucket in range(buckets) for key in lines.rows(bucket)}
    assert rows == good
    assert sum(figure["images"] for figure in figures) == len(good)
    assert sum(figure["quarantined"] for figure in figures) == len(images) - len(good)
    assert sum(figure["input"] for figure in figures) == listed["images"] + listed["rejected"] == len(images)
    for bucket, figure in enumerate(figures):
        assert len(lines.quarantined(bucket)) == figure["quarantined"]


def test_memory_follows_the_bucket_and_not_the_file(tmp_path: Path) -> None:
    """A file of 12 MB is spread over 32 buckets, and one of them read, within 2 MB of Python objects."""
    count = 5_000
    mask = {"size": [480, 640], "counts": "x" * 2500}
    with (tmp_path / "large.json").open("w") as stream:
        stream.write('{"categories": [{"id": 1, "name": "person"}], "images": [')
        stream.write(
            ",".join(json.dumps({"id": n, "file_name": f"{n}.jpg", "width": 64, "height": 48}) for n in range(count))
        )
        stream.write('], "annotations": [')
        box = {"category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": mask}
        stream.write(",".join(json.dumps({"id": n, "image_id": n, **box}) for n in range(count)))
        stream.write("]}")
    assert (tmp_path / "large.json").stat().st_size > 12e6
    while not is_settled(
        (0, (tmp_path / "large.json").stat().st_ctime_ns)
    ):  # a file this young is hashed, in blocks of 1 MB
        time.sleep(0.01)
    reader = CocoStyleReader("large", tmp_path, {"train": ("large.json", "images")})
    tracemalloc.start()
    index = RecordIndex(reader, 32, tmp_path / "cache")
    _, spreading = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    images = sum(1 for _ in index.images(7))
    _, reading = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 120 < images < 200
    assert spreading < 2e6
    assert reading < 2e6


def test_manifests_read_back_and_refuse_strangers(tmp_path: Path) -> None:
    path = tmp_path / "bucket-0.json"
    manifest = Manifest("coco", 0, 2, (), ())
    write_manifest(path, manifest)
    assert read_manifest(path) == manifest
    for content, message in (
        ("{}", "is not a raw manifest"),
        ("[", "is not a raw manifest"),
        ('{"schema": "rlip.raw_manifest", "version": 0}', "is not a raw manifest of version 1"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            read_manifest(path)
    with pytest.raises(InputError, match=r"nothing\.json does not exist; run the raw_manifest stage"):
        read_manifest(tmp_path / "nothing.json")


def test_an_unknown_dataset_or_bucket_is_refused(raw: Any, lineage: Callable[..., Any]) -> None:
    from rlip_assets.datasets.sources.roots import raw_root
    from rlip_assets.storage.errors import ParameterError

    lines = lineage("coco", root="gs://bucket/coco")
    with pytest.raises(ParameterError, match=r"sources\.coco\.root is gs://bucket/coco; a root is a folder or s3"):
        lines.manifest()
    with pytest.raises(ParameterError, match="there is no dataset 'lvis'; choose one of visual_genome, coco"):
        raw_root(lines.params.sources, "lvis", Path())


def test_progress_of_a_manifest_counts_images(
    tmp_path: Path, make_lineage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checksums of a bucket of Objects365 take minutes: its images are told, used or not."""
    told: list[tuple[int, int, str]] = []
    monkeypatch.setattr(NullLog, "progress", lambda self, *report: told.append(report))
    monkeypatch.setattr(stage, "_REPORTED", 1)
    coco(tmp_path / "raw")
    change_json(
        tmp_path / "raw/annotations/instances_train2017.json", lambda content: content["annotations"].pop()
    )  # an image that is not used
    lines = make_lineage(tmp_path / "profile", "coco", root=str(tmp_path / "raw"), buckets=2)
    assert lines.manifest()["unused"] == 1
    assert {(total, unit) for _, total, unit in told} == {(2 * NUMBER, "images")}
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1][0] == 2 * NUMBER
    assert len(told) > NUMBER

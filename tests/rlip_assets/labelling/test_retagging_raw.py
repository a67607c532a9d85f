"""A raw folder that differs from what its manifest was made from, whatever the clocks say."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rlip_assets.datasets.sources.raw_folder import OBSERVED, folder_state
from rlip_assets.labelling.retagging import Due, raw_changes
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.registry import build_registry
from rlip_assets.storage.files import write_json

REGISTRY = build_registry(Params())
PAST, FUTURE = 10**9, 4 * 10**9


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / str(REGISTRY.item("raw_manifest", "coco").untracked["raw"])
    (folder / "train2017").mkdir(parents=True)
    (folder / "annotations.json").write_text("{}")
    for name in ("a.jpg", "b.jpg"):
        (folder / "train2017" / name).write_text(name)
    (folder / "train2017/around").symlink_to(folder)
    (folder / "broken").symlink_to("nowhere")
    return folder


def make_manifest(root: Path, raw: Path, started: str = "2100-01-01T00:00:00+00:00") -> None:
    """Write what a run leaves, on a machine whose clock is ahead."""
    observed = {OBSERVED: folder_state(raw)}
    write_json(root / "provenance/raw_manifest@coco.json", {"started": started, "observed": observed})


def due_in(root: Path) -> list[Due]:
    return raw_changes(REGISTRY, root)[0]


def add(raw: Path) -> None:
    (raw / "train2017/c.jpg").write_text("new")


def replace(raw: Path) -> None:
    (raw / "other.jpg").write_text("B")
    (raw / "other.jpg").rename(raw / "train2017/b.jpg")


def remove(raw: Path) -> None:
    (raw / "train2017/a.jpg").unlink()


def annotate(raw: Path) -> None:
    (raw / "annotations.json").write_text("{} ")
    os.utime(raw / "annotations.json", (PAST, PAST))


@pytest.mark.parametrize("change", [add, replace, remove, annotate])
def test_every_change_is_seen_once_its_manifest_is_made_not_any_more(
    tmp_path: Path, raw: Path, change: Callable[[Path], None]
) -> None:
    assert due_in(tmp_path) == []  # nothing was listed before
    os.utime(raw / "train2017", (FUTURE, FUTURE))
    make_manifest(tmp_path, raw)
    assert due_in(tmp_path) == []
    change(raw)
    (due,) = due_in(tmp_path)
    assert (due.stage, due.partition) == ("raw_manifest", "coco")
    assert due.key == due_in(tmp_path)[0].key
    make_manifest(tmp_path, raw, "1970-01-01T00:00:00+00:00")
    assert due_in(tmp_path) == []


def test_a_manifest_that_did_not_note_the_state_is_made_again(tmp_path: Path, raw: Path) -> None:
    write_json(tmp_path / "provenance/raw_manifest@coco.json", {"started": "2100-01-01T00:00:00+00:00"})
    assert [due.partition for due in due_in(tmp_path)] == ["coco"]


def test_a_folder_that_cannot_be_read_does_not_hide_the_others(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_manifest(tmp_path, raw)
    add(raw)
    other = REGISTRY.item("raw_manifest", "objects365")
    write_json(tmp_path / other.provenance, {"observed": {OBSERVED: "before"}})
    _, unseen = raw_changes(REGISTRY, tmp_path)
    assert "objects365: No such file or directory" in unseen[other.address]
    (tmp_path / str(other.untracked["raw"])).mkdir(parents=True)
    assert [due.partition for due in due_in(tmp_path)] == ["coco", "objects365"]
    scan = os.scandir

    def away(folder: Path) -> object:
        if Path(folder) == raw / "train2017":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(folder))
        return scan(folder)

    monkeypatch.setattr("rlip_assets.datasets.sources.raw_folder.os.scandir", away)
    due, unseen = raw_changes(REGISTRY, tmp_path)
    assert [one.partition for one in due] == ["objects365"]
    assert list(unseen) == ["raw_manifest@coco"]
    assert "train2017: Stale file handle; mount the network file system again" in unseen["raw_manifest@coco"]

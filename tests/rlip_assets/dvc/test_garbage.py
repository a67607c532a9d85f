"""Garbage: what a lock, a promotion or a run refers to stays; the rest is found when it is old enough, and only that is removed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from rlip_assets.datasets.scenes import SceneStore, make_scene, write_scenes
from rlip_assets.datasets.scenes.store import current_entries
from rlip_assets.dvc import garbage
from rlip_assets.dvc.garbage import YOUNG_SECONDS, Keep, find_garbage, locked_hashes, remove
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.registry import build_registry

REGISTRY = build_registry(Params())
NOTHING = Keep()
LATER = time.time() + 2 * YOUNG_SECONDS


def cached(root: Path, content: str, suffix: str = "") -> str:
    """Put an object into the cache; returns its hash."""
    name = hashlib.md5(content.encode(), usedforsecurity=False).hexdigest() + suffix
    path = root / ".dvc/cache/files/md5" / name[:2] / name[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return name


def folder_of(root: Path, *hashes: str) -> str:
    return cached(root, json.dumps([{"md5": name, "relpath": f"{n}"} for n, name in enumerate(hashes)]), ".dir")


def lock(root: Path, *hashes: str) -> None:
    outs = [{"path": f"data/{n}", "md5": name} for n, name in enumerate(hashes)]
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"s": {"cmd": "c", "outs": outs}}}))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(garbage, "_cache_folder", lambda root: root / ".dvc/cache/files/md5")
    return tmp_path


def keep(*hashes: str) -> Keep:
    return Keep(frozenset(hashes))


def found(root: Path, keep: Keep = NOTHING, now: float = LATER) -> dict[str, set[str]]:
    result: dict[str, set[str]] = {}
    for entry in find_garbage(REGISTRY, root, keep, now):
        result.setdefault(entry.kind, set()).add(entry.path.relative_to(root).as_posix())
    return result


def objects(*hashes: str) -> set[str]:
    return {f".dvc/cache/files/md5/{name[:2]}/{name[2:]}" for name in hashes}


def test_locks_and_references_from_elsewhere_keep_objects(root: Path) -> None:
    a, b, c, d, e, f = (cached(root, text) for text in "abcdef")
    table, model, old = folder_of(root, a, b), folder_of(root, b, c), folder_of(root, c, e)
    lock(root, table, d)
    assert found(root, keep(model)) == {"DVC cache": objects(old, e, f)}
    assert found(root, keep(model, old)) == {"DVC cache": objects(f)}
    assert found(root, keep(model), now=time.time()) == {}  # too young
    assert len(find_garbage(REGISTRY, root, keep(model), time.time() + 60, young=30)) == 3
    assert find_garbage(REGISTRY, root, keep(model), time.time() + 60, young=90) == []
    remove(find_garbage(REGISTRY, root, keep(model), LATER))
    assert found(root, keep(model)) == {}
    assert locked_hashes(root) == {table, d}
    assert all((root / path).exists() for path in objects(a, b, c, d, table, model))


def test_locks_of_branches_keep_objects(root: Path) -> None:
    a, b, c = (cached(root, text) for text in "abc")

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)

    git("init", "-q")
    lock(root, a)
    git("add", "dvc.lock")
    git("commit", "-qm", "a")
    git("tag", "v1")
    lock(root, b)
    assert found(root) == {"DVC cache": objects(c)}


def test_leftovers_of_work_and_outputs_of_no_stage(root: Path) -> None:
    write_scenes(root / "data/scenes/coco/bucket-0", [make_scene("1", "coco", "train", "f", 9, 9, [], [])])
    SceneStore.open([root / "data/scenes/coco/bucket-0"], root / "work/scene_cache")
    (kept,) = (path.name for path in (root / "work/scene_cache").iterdir() if path.is_dir())
    strange = ["work/scene_cache/0123", "work/captions/shards/coco-9", "work/captions/0123456789abcdef",
               "data/scenes/coco/bucket-7", "data/models/pretrain/gone"]  # fmt: skip
    for name in [*strange, "work/captions/shards/coco-1", "data/raw/coco", "data/models/r_tagger", "data/mine"]:
        (root / name).mkdir(parents=True)
        (root / name / "file").write_text("x")
    (root / "provenance").mkdir()
    for name in ("captions@coco-0.json", "captions@coco-9.json"):
        (root / "provenance" / name).write_text("{}")
    tables = {path.relative_to(root).as_posix() for path in current_entries(root / "data", root / "work/scene_cache")}
    assert found(root, Keep(paths=frozenset(tables))) == {
        "table for training, outdated": {"work/scene_cache/0123"},
        "shards of no partition": {"work/captions/shards/coco-9"},
        "unfinished run": {"work/captions/0123456789abcdef"},
        "output of no stage": {
            "data/scenes/coco/bucket-7",
            "data/models/pretrain/gone",
            "provenance/captions@coco-9.json",
        },
    }
    assert (root / "work/scene_cache" / kept).is_dir()

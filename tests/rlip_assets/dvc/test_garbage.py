"""Garbage: what a lock, a promotion or a run refers to stays; the rest is found when it is old enough, and only that is removed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from rlip_assets.datasets.scenes import SceneStore, make_scene, write_scenes
from rlip_assets.datasets.scenes.store import current_entries
from rlip_assets.dvc.cache import cache_users
from rlip_assets.dvc.garbage import YOUNG_SECONDS, Keep, find_garbage, named_hashes, remove
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.registry import build_registry
from rlip_assets.storage.errors import DataError, InputError, ParameterError

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


def project(root: Path, cache: Path | None = None) -> Path:
    """A DVC project, with the default cache or another."""
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc/config").write_text(f"[cache]\n    dir = {cache}\n" if cache else "")
    return root


def folder_of(root: Path, *hashes: str) -> str:
    return cached(root, json.dumps([{"md5": name, "relpath": f"{n}"} for n, name in enumerate(hashes)]), ".dir")


def lock(root: Path, *hashes: str) -> None:
    outs = [{"path": f"data/{n}", "md5": name} for n, name in enumerate(hashes)]
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"s": {"cmd": "c", "outs": outs}}}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return project(tmp_path)


def keep(*hashes: str) -> Keep:
    return Keep(frozenset(hashes))


def found(
    root: Path, keep: Keep = NOTHING, now: float = LATER, users: Sequence[Path] | None = None
) -> dict[str, set[str]]:
    result: dict[str, set[str]] = {}
    for entry in find_garbage(REGISTRY, root, [root] if users is None else users, keep, now):
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
    assert len(find_garbage(REGISTRY, root, [root], keep(model), time.time() + 60, young=30)) == 3
    assert find_garbage(REGISTRY, root, [root], keep(model), time.time() + 60, young=90) == []
    remove(find_garbage(REGISTRY, root, [root], keep(model), LATER))
    assert found(root, keep(model)) == {}
    assert named_hashes(root) == {table, d}
    assert all((root / path).exists() for path in objects(a, b, c, d, table, model))


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


def test_locks_of_branches_keep_objects(root: Path) -> None:
    a, b, c = (cached(root, text) for text in "abc")
    git(root, "init", "-q")
    lock(root, a)
    git(root, "add", "dvc.lock")
    git(root, "commit", "-qm", "a")
    git(root, "tag", "v1")
    lock(root, b)
    assert found(root) == {"DVC cache": objects(c)}
    (root / "photos.dvc").write_text(f"outs:\n- md5: {c}\n  path: photos\n")
    assert found(root) == {}


def test_what_is_linked_into_a_working_tree_stays(root: Path) -> None:
    a, b, c = (cached(root, text) for text in "abc")
    in_use, half = folder_of(root, a, b), folder_of(root, b, c)
    for name in (a, b):
        (root / f"tree-{name}").hardlink_to(root / objects(name).pop())
    assert found(root) == {"DVC cache": objects(half, c)}
    assert in_use not in found(root)["DVC cache"]


def test_a_lock_that_cannot_be_read_stops_the_search(root: Path) -> None:
    lock(root, cached(root, "a"))
    text = (root / "dvc.lock").read_text()
    (root / "dvc.lock").write_text(f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> other\n")
    with pytest.raises(DataError, match=r"dvc\.lock has merge conflicts; resolve them"):
        found(root)
    (root / "dvc.lock").write_text(text[:-20])
    with pytest.raises(DataError, match=r"dvc\.lock is not a DVC lock file.*rlip repair"):
        found(root)
    (root / "dvc.lock").write_text(text)
    (root / objects(folder_of(root, "x" * 32)).pop()).write_text("[{")
    with pytest.raises(DataError, match=r"is damaged .*dvc fetch"):
        found(root)


def test_a_cache_inside_the_project_keeps_what_profiles_and_worktrees_name(tmp_path: Path) -> None:
    main = project(tmp_path / "main")
    study = project(main / "profiles/study", Path("../../../.dvc/cache"))
    apart = project(main / "profiles/apart")
    git(main, "init", "-q")
    git(main, "add", ".")
    git(main, "commit", "-qm", "a")
    git(main, "worktree", "add", "-q", str(tmp_path / "other"))
    (tmp_path / "other/.dvc/config.local").write_text(f"[cache]\n    dir = {main / '.dvc/cache'}\n")
    users = cache_users(main, [main, study, apart])
    assert users == [main, study, tmp_path / "other"]
    assert cache_users(tmp_path / "other") == [main, tmp_path / "other"]
    assert cache_users(apart, [main, study]) == [apart, tmp_path / "other/profiles/apart"][:1]
    names = [cached(main, text) for text in "abcd"]
    for user, name in zip(users, names, strict=False):
        lock(user, name)
    assert found(main, users=users) == {"DVC cache": objects(names[3])}


@pytest.mark.parametrize("link", [False, True])
def test_a_cache_outside_is_left_alone_until_its_users_are_named(tmp_path: Path, link: bool) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    mine = project(tmp_path / "mine", None if link else shared)
    if link:
        (mine / ".dvc/cache").symlink_to(shared)
    theirs = project(tmp_path / "theirs", shared)
    with pytest.raises(InputError, match=r"shared is a DVC cache outside of this project.*--project"):
        cache_users(mine)
    with pytest.raises(ParameterError, match=r"nowhere is not a DVC project"):
        cache_users(mine, projects=[tmp_path / "nowhere"])
    users = cache_users(mine, projects=[theirs])
    assert users == [mine, theirs]
    assert cache_users(theirs, projects=[mine]) == users


def test_the_command_takes_the_cache_or_leaves_it(root: Path) -> None:
    name = cached(root, "a")
    assert found(root) == {"DVC cache": objects(name)}
    assert found(root, users=[]) == {}


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

"""Runs that the re-tagging sensors ask for, tick by tick: once for a state, however the run ends, and again when the state comes back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import yaml

from dagster_project.defs import automation
from dagster_project.profile import ActiveProfile
from rlip_assets.datasets.sources.raw_folder import OBSERVED
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.registry import build_registry
from rlip_assets.storage.files import write_json, write_text
from rlip_assets.tracking.promotion import PROMOTIONS_FILE, Promotion

REGISTRY = build_registry(Params())
SCENES, CAPTIONS, LABELS = (REGISTRY.item(stage, "coco-0") for stage in ("scenes", "captions", "pseudo_labels"))
TAGGER = REGISTRY.item("r_tagger")
CHECKPOINT = TAGGER.outputs["checkpoint"]


@dataclass
class Site:
    """A profile whose lock says what the items of one bucket were made from, and a sensor with its cursor."""

    root: Path
    sensor: Callable[[dg.SensorEvaluationContext], list[dg.RunRequest] | dg.SkipReason]
    cursor: str | None = None

    def record(self, **stages: tuple[dict[str, str], dict[str, str]]) -> None:
        """Write the lock: dependencies and outputs by stage, each path with its hash."""

        def rows(files: dict[str, str]) -> list[dict[str, str]]:
            return [{"path": path, "md5": md5} for path, md5 in files.items()]

        addresses = {item.stage: item.address for item in (SCENES, CAPTIONS, LABELS, TAGGER)}
        entries = {
            addresses[stage]: {"cmd": "rlip", "deps": rows(deps), "outs": rows(outs)}
            for stage, (deps, outs) in stages.items()
        }
        write_text(self.root / "dvc.lock", yaml.safe_dump({"schema": "2.0", "stages": entries}))

    def tick(self) -> list[tuple[str | None, str | None]]:
        """Job and partition of the runs of a tick, which a daemon of its own evaluates: the cursor is all that is left of the last one."""
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(instance=instance, cursor=self.cursor)
            asked = self.sensor(context)
        self.cursor = context.cursor
        if isinstance(asked, dg.SkipReason):
            return []
        assert all(request.run_key is None for request in asked)  # a key that has a run would be passed over
        return [(request.job_name, request.partition_key) for request in asked]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[object], Site]:
    monkeypatch.setattr(automation, "active_profile", lambda: ActiveProfile("toy", tmp_path, REGISTRY))
    return lambda sensor: Site(tmp_path, sensor)  # type: ignore[arg-type]


def test_an_image_that_is_added_removed_and_added_again_is_followed_each_time(site: Callable[[object], Site]) -> None:
    at = site(automation.new_images)
    manifest = at.root / SCENES.inputs["manifest"]

    def made_from(content: str) -> None:
        md5 = hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()
        at.record(scenes=({SCENES.inputs["manifest"]: md5}, {SCENES.outputs["scenes"]: md5}))

    write_text(manifest, "M0")
    assert at.tick() == []  # nothing was ever run
    made_from("M0")
    assert at.tick() == []
    for content in ("M1", "M0", "M1", "M0"):
        write_text(manifest, content)
        assert at.tick() == [("renew_scenes", "coco-0")]
        assert at.tick() == []  # the run is under way, or has failed
        made_from(content)
        assert at.tick() == []
    write_text(manifest, "M1")
    assert at.tick() == [("renew_scenes", "coco-0")]
    write_text(manifest, "M2")
    assert at.tick() == [("renew_scenes", "coco-0")]  # another state, while the first run is under way


def test_a_scene_table_that_comes_back_is_captioned_again(site: Callable[[object], Site]) -> None:
    at, table = site(automation.new_images), SCENES.outputs["scenes"]
    for scenes, captioned in (("a", "a"), ("b", "a"), ("b", "b"), ("a", "b"), ("a", "a"), ("b", "a")):
        at.record(scenes=({}, {table: scenes}), captions=({table: captioned}, {}))
        assert at.tick() == ([("retag", "coco-0")] if scenes != captioned else [])
        assert at.tick() == []


def test_a_promotion_that_is_rolled_back_is_followed(site: Callable[[object], Site]) -> None:
    at = site(automation.promoted_r_tagger)
    assert at.tick() == []
    for tagger, labelled in (("a", "a"), ("b", "a"), ("b", "b"), ("a", "b"), ("a", "a"), ("b", "a")):
        at.record(r_tagger=({}, {CHECKPOINT: tagger}), pseudo_labels=({CHECKPOINT: labelled}, {}))
        record = Promotion("r_tagger", "1", "run", tagger)
        write_json(at.root / PROMOTIONS_FILE, {"r_tagger": {**record.__dict__}})
        assert at.tick() == ([("retag", "coco-0")] if tagger != labelled else [])
        assert at.tick() == []


def test_a_promotion_that_is_withdrawn_and_made_again_is_followed(site: Callable[[object], Site]) -> None:
    at = site(automation.promoted_r_tagger)
    at.record(r_tagger=({}, {CHECKPOINT: "b"}), pseudo_labels=({CHECKPOINT: "a"}, {}))
    for _ in range(2):
        write_json(at.root / PROMOTIONS_FILE, {"r_tagger": {**Promotion("r_tagger", "1", "run", "b").__dict__}})
        assert at.tick() == [("retag", "coco-0")]
        assert at.tick() == []
        (at.root / PROMOTIONS_FILE).unlink()
        assert at.tick() == []


@pytest.mark.parametrize("content", [None, ""])
@pytest.mark.parametrize("sensor", [automation.new_images, automation.promoted_r_tagger])
def test_a_lock_that_git_is_checking_out_makes_nothing_due_again(
    site: Callable[[object], Site], sensor: object, content: str | None
) -> None:
    at, table, lock = site(sensor), SCENES.outputs["scenes"], "dvc.lock"
    write_json(at.root / PROMOTIONS_FILE, {"r_tagger": {**Promotion("r_tagger", "1", "run", "b").__dict__}})
    at.record(
        scenes=({}, {table: "b"}),
        captions=({table: "a"}, {}),
        r_tagger=({}, {CHECKPOINT: "b"}),
        pseudo_labels=({CHECKPOINT: "a"}, {}),
    )
    assert at.tick() == [("retag", "coco-0")]
    (at.root / lock).rename(at.root / "away")
    if content is not None:
        write_text(at.root / lock, content)
    assert at.tick() == []
    (at.root / "away").rename(at.root / lock)
    assert at.tick() == []


def test_a_manifest_that_is_being_made_makes_nothing_due_again(site: Callable[[object], Site]) -> None:
    """DVC removes the outputs of a stage before it runs."""
    at, dataset = site(automation.new_images), REGISTRY.item("raw_manifest", "coco")
    raw, manifest = at.root / dataset.untracked["raw"], at.root / SCENES.inputs["manifest"]
    raw.mkdir(parents=True)
    at.record(scenes=({SCENES.inputs["manifest"]: "before"}, {}))

    def put() -> None:
        write_json(at.root / dataset.provenance, {"observed": {OBSERVED: "before"}})
        write_text(manifest, "M1")

    put()
    assert at.tick() == [("renew_manifest", "coco"), ("renew_scenes", "coco-0")]
    manifest.unlink()
    (at.root / dataset.provenance).unlink()
    assert at.tick() == []
    put()  # the run failed, and `dvc checkout` brought back what was there
    assert at.tick() == []
    raw.rename(raw.with_name("away"))
    assert at.tick() == []
    raw.with_name("away").rename(raw)
    assert at.tick() == []

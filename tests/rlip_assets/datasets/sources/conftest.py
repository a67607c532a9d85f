"""Tiny raw datasets in official layouts, and the two stages run on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rlip_assets.datasets.scenes import Scene, read_scenes
from rlip_assets.datasets.sources.classes import Classes, read_classes
from rlip_assets.datasets.sources.stage import raw_manifest_stage, scenes_stage
from rlip_assets.lineage.context import NullLog, StageContext
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.params.sources import SourcesParams
from rlip_assets.storage.files import digest_json, sha256_file
from rlip_assets.storage.quarantine import Quarantined, read_quarantine
from tests.support.facts import REAL_ANNOTATIONS


class RawFolder:
    """A raw dataset being written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def json(self, name: str, value: Any) -> Path:
        return self.text(name, json.dumps(value))

    def text(self, name: str, content: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return path

    def image(self, name: str, size: tuple[int, int] = (40, 30)) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (len(name) % 255, 100, 200)).save(path)
        return path


class Lineage:
    """Both stages of one raw dataset, in the folder layout of the stage runner; `own` are the parameters of one's own dataset."""

    def __init__(self, base: Path, dataset: str, /, *, own: dict[str, Any] | None = None, **params: Any) -> None:
        self.base, self.dataset = base, dataset
        self.manifests = base / "data/manifests" / dataset
        if own is not None:
            self.params = Params.model_validate({"sources": {"own": {dataset: own}}})
            return
        settings = {"quarantine_limit": 1.0, "buckets": 1, **params}
        defaults = SourcesParams().model_dump()
        sources = SourcesParams.model_validate({**defaults, dataset: {**defaults[dataset], **settings}})
        self.params = Params(sources=sources)

    def _run(
        self, function: Callable[..., Any], name: str, partition: str, inputs: dict[str, Path], output: Path
    ) -> Any:
        key = [partition, self.params.model_dump(mode="json"), [sha256_file(path) for path in inputs.values()]]
        work = self.base / "work" / name / digest_json(key)
        work.mkdir(parents=True, exist_ok=True)
        output.mkdir(parents=True, exist_ok=True)
        outputs = {"manifests" if name == "raw_manifest" else "scenes": output}
        return function(StageContext(name, partition, self.params, inputs, outputs, work, NullLog()))

    def manifest(self) -> dict[str, Any]:
        return self._run(raw_manifest_stage, "raw_manifest", self.dataset, {}, self.manifests)

    def scenes(self, bucket: int = 0) -> dict[str, Any]:
        inputs = {"manifest": self.manifests / f"bucket-{bucket}.json", "classes": self.manifests / "classes.json"}
        return self._run(scenes_stage, "scenes", f"{self.dataset}-{bucket}", inputs, self.table(bucket))

    def run(self) -> dict[str, Any]:
        """Manifest and the scenes of bucket 0; the figures of the latter."""
        self.manifest()
        return self.scenes()

    def table(self, bucket: int = 0) -> Path:
        return self.base / "data/scenes" / self.dataset / f"bucket-{bucket}"

    def rows(self, bucket: int = 0) -> dict[str, Scene]:
        return {scene.image_id: scene for scene in read_scenes(self.table(bucket))}

    def quarantined(self, bucket: int = 0) -> list[Quarantined]:
        return read_quarantine(self.table(bucket))

    @property
    def classes(self) -> Classes:
        return read_classes(self.manifests / "classes.json")


@pytest.fixture
def raw(tmp_path: Path) -> RawFolder:
    return RawFolder(tmp_path / "raw")


@pytest.fixture
def lineage(tmp_path: Path, raw: RawFolder) -> Callable[..., Lineage]:
    def make(dataset: str, **params: Any) -> Lineage:
        return Lineage(tmp_path / "profile", dataset, **{"root": str(raw.root), **params})

    return make


@pytest.fixture(scope="session")
def make_lineage() -> type[Lineage]:
    return Lineage


@pytest.fixture
def facts() -> Path:
    return REAL_ANNOTATIONS

"""A profile on small datasets in official layouts, in which nothing is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rlip_assets.doctor import official_counts
from rlip_assets.doctor.checks import annotation_files
from rlip_assets.doctor.examination import Examination
from rlip_assets.dvc.pipeline import render_dvc_yaml
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.params_yaml import render_params_yaml
from rlip_assets.lineage.profiles import relative_project
from rlip_assets.lineage.registry import load_registry
from tests.support.raw_roots import NUMBER, WRITERS

WEIGHTS = Path(__file__).parents[3] / "rlip_assets/micro_world/starting_weights/weights"


class Profile:
    """A profile folder whose roots are folders of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for dataset, write in WRITERS.items():
            write(self.raw(dataset))
        (root / ".dvc").mkdir()
        (root / ".dvc/config").touch()
        self.write({})

    def raw(self, dataset: str) -> Path:
        return self.root / "roots" / dataset

    def write(self, changes: dict[str, Any]) -> None:
        """Write `params.yaml` with top-level sections replaced, and the `dvc.yaml` that follows."""
        sources = Params().model_dump(mode="json")["sources"]
        for dataset in WRITERS:
            sources[dataset]["root"] = f"roots/{dataset}"
        sources |= changes.pop("sources", {})
        external = {name: str(WEIGHTS / name) for name in ("detector", "text_encoder", "captioner")} | changes.pop(
            "external", {}
        )
        path = self.root / "params.yaml"
        path.write_text(yaml.safe_dump({"profile": "small", "sources": sources, "external": external, **changes}))
        path.write_text(render_params_yaml(path))
        (self.root / "dvc.yaml").write_text(render_dvc_yaml(load_registry(self.root), relative_project(self.root)))

    def case(self, **options: Any) -> Examination:
        return Examination(self.root, **options)


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    monkeypatch.setattr(annotation_files, "IMAGES", dict.fromkeys(official_counts.IMAGES, (NUMBER,)))
    monkeypatch.setattr(annotation_files, "ANNOTATIONS", {})
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Profile(tmp_path / "small")

"""The stage: same bytes every time, nothing half-written, nothing done twice."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlip_assets.lineage.params import Params
from rlip_assets.lineage.params.world import WorldParams
from rlip_assets.micro_world import stage
from rlip_assets.micro_world.writers import Progress
from rlip_assets.storage.errors import DataError
from rlip_assets.storage.files import sha256_folder

from .conftest import SMALL, World, stage_context

PRINT_DIGESTS = """
import sys
from pathlib import Path
from rlip_assets.storage.files import sha256_folder
from rlip_assets.micro_world.writers import coco, hico_det, open_images, v_coco, visual_genome
from rlip_assets.lineage.params.world import WorldParams
params = WorldParams(seed=3, visual_genome=20, coco_train=10, coco_val=4, v_coco_trainval=12, v_coco_test=4, open_images_train=8,
                     open_images_val=2, open_images_test=2, hico_det_train=400, hico_det_test=200)
for writer in (visual_genome, coco, v_coco, open_images) + ((hico_det,) if "hico" in sys.argv else ()):
    folder = Path(sys.argv[1]) / writer.__name__
    folder.mkdir(parents=True)
    writer.write(folder, params, lambda images: None)
    print(sha256_folder(folder))
"""


def digests(folder: Path, hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", PRINT_DIGESTS, str(folder), "hico"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_bytes_do_not_depend_on_the_process(tmp_path: Path) -> None:
    first = digests(tmp_path / "a", "1")
    assert len(first.split()) == 5
    assert first == digests(tmp_path / "b", "2")


def test_a_second_run_makes_nothing_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    receipt = (world.folder / "micro_world.json").read_bytes()
    monkeypatch.setattr(stage, "WRITERS", dict.fromkeys(stage.WRITERS, _refuse))
    figures = stage.generate_stage(stage_context(world.folder, SMALL))
    assert figures == world.figures
    assert (world.folder / "micro_world.json").read_bytes() == receipt


def _refuse(root: Path, params: WorldParams, progress: Progress) -> dict[str, object]:
    raise AssertionError(f"{root} is made again")


def test_a_killed_run_leaves_no_half_tree_and_resumes_at_the_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = SMALL.model_copy(update={"visual_genome": 5, "coco_train": 4, "coco_val": 2, "objects365_train": 4})
    writers = {name: stage.WRITERS[name] for name in ("visual_genome", "coco", "objects365")}
    monkeypatch.setattr(stage, "WRITERS", writers)
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    stage.generate_stage(stage_context(undisturbed, params))

    killed = tmp_path / "killed"
    killed.mkdir()

    def interrupted(root: Path, params: WorldParams, progress: Progress) -> dict[str, object]:
        (root / "half.jpg").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "WRITERS", {**writers, "coco": interrupted})
    with pytest.raises(KeyboardInterrupt):
        stage.generate_stage(stage_context(killed, params))
    assert sorted(path.name for path in (killed / "data/raw").iterdir()) == ["visual_genome"]
    assert not (killed / "micro_world.json").exists()

    monkeypatch.setattr(stage, "WRITERS", {**writers, "visual_genome": _refuse})
    stage.generate_stage(stage_context(killed, params))
    for part in ("data/raw", "truth"):
        assert sha256_folder(killed / part) == sha256_folder(undisturbed / part)


def test_a_damaged_or_outdated_tree_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "WRITERS", {"visual_genome": stage.WRITERS["visual_genome"]})
    params = SMALL.model_copy(update={"visual_genome": 3})
    context = stage_context(tmp_path, params)
    stage.generate_stage(context)
    root = tmp_path / "data/raw/visual_genome"
    whole = sha256_folder(root)
    (root / "scene_graphs.json").write_text("[]")
    stage.generate_stage(context)
    assert sha256_folder(root) == whole
    stage.generate_stage(stage_context(tmp_path, params.model_copy(update={"seed": 6})))
    assert sha256_folder(root) != whole


def test_real_datasets_are_never_replaced(tmp_path: Path) -> None:
    """A root elsewhere is not drawn into, and a folder with files of someone else is refused, however it got its place."""
    mine = tmp_path / "photos/coco/annotations.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("[]")
    params = Params.model_validate(
        {
            "micro_world": SMALL.model_dump() | {"visual_genome": 2},
            "sources": {
                name: {"root": str(mine.parent) if name == "coco" else "s3://datasets/x"}
                for name in stage.WRITERS
                if name != "visual_genome"
            },
        }
    )
    context = replace(stage_context(tmp_path, SMALL), params=params)
    assert list(stage.generate_stage(context)) == ["visual_genome"]
    assert [file.name for file in mine.parent.iterdir()] == ["annotations.json"]
    (tmp_path / "data/raw/visual_genome" / stage.MARK).unlink()
    kept = sha256_folder(tmp_path / "data/raw/visual_genome")
    with pytest.raises(DataError, match=r"visual_genome holds files that the micro world did not write"):
        stage.generate_stage(context)
    assert sha256_folder(tmp_path / "data/raw/visual_genome") == kept


@pytest.mark.font
def test_the_sheet_is_what_the_script_makes(tmp_path: Path) -> None:
    from PIL import Image, ImageChops

    from rlip_assets.micro_world import make_sprites

    make_sprites.make_sheet(make_sprites.FONT, tmp_path)
    assert (tmp_path / "sprites.json").read_text() == (make_sprites.FOLDER / "sprites.json").read_text()
    with Image.open(tmp_path / "sprites.png") as made, Image.open(make_sprites.FOLDER / "sprites.png") as shipped:
        difference = ImageChops.difference(made.convert("RGBA"), shipped.convert("RGBA"))
    assert np.asarray(difference).max() <= 40

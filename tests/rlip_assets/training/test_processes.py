"""Two processes (gloo) train like one: same losses and gradients on batches with unequal numbers of triplets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from rlip_assets.lineage.profiles import PROJECT_ROOT
from rlip_assets.storage.errors import ParameterError
from rlip_assets.training.loop import Trainer
from rlip_assets.training.processes import Processes, choose_device, join_processes
from rlip_assets.training.resume import History
from rlip_assets.training.training_images import ImageSource
from rlip_model import LabelTokenizer
from tests.support.training_project import CHANGES, Project

SCRIPT = """
import json, sys
sys.path.insert(0, {root!r})
import torch
from pathlib import Path
from tests.support.training_toys import OBJECTS, RELATIONS, small_config
from rlip_assets.lineage.context import NullLog
from rlip_assets.training.batches import Part, StepBatches
from rlip_assets.training.loop import Settings, Trainer
from rlip_assets.training.processes import join_processes
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.training.training_images import ImageSource, training_images
from rlip_assets.training.label_lists import BatchVocabulary, NameSampler
from rlip_model import build_model, train_label_tokenizer

torch.set_num_threads(1)
processes = join_processes(torch.device("cpu"))
recipe = Recipe.model_validate_json(Path({recipe!r}).read_text())
images, _ = training_images(
    recipe, [ImageSource("drawn", (Path({table!r}),), Path({images!r}))], None, Path({cache!r}), 3
)
vocabulary = BatchVocabulary(NameSampler(images.object_counts()), NameSampler(images.relation_counts()), recipe.label_budget)
torch.manual_seed(5)
model = build_model(small_config(queries=4).without_dropout())
tokenizer = train_label_tokenizer([*OBJECTS, *RELATIONS, "no objects", "right of"], 300, max_length=16)
parts = [StepBatches(images, vocabulary, recipe, model.config.pairs, 3, part=Part(processes.index, processes.count))]
settings = Settings(torch.device("cpu"))
history = Trainer(model, tokenizer, recipe, parts, settings, processes, 3, NullLog()).run()
if processes.is_first:
    Path({out!r}).write_text(json.dumps([*history.rows, {{"cut": history.cut_pairs}}]))
"""


@pytest.mark.deep
def test_two_processes_give_the_losses_of_one(
    drawn: Callable[..., ImageSource], small_recipe: object, tmp_path: Path
) -> None:
    source = drawn(number=16, size=(72, 64))
    changes = {"steps": 4, "lr": 1e-4, "augmentation": {"crop": 0.0, "short_sides": (48,)}}
    recipe = small_recipe.changed(changes)  # type: ignore[attr-defined]
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    here = Path(__file__).resolve()
    rows = []
    for count in (1, 2):
        script = SCRIPT.format(
            root=str(here.parents[3]),
            recipe=str(tmp_path / "recipe.json"),
            table=str(source.tables[0]),
            images=str(source.image_root),
            cache=str(tmp_path / "cache"),
            out=str(tmp_path / f"{count}.json"),
        )
        (tmp_path / "train.py").write_text(script)
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*launcher, str(tmp_path / "train.py")], env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-2000:]
        rows.append(json.loads((tmp_path / f"{count}.json").read_text()))
    for one, two in zip(*rows, strict=True):
        assert two == pytest.approx(one, rel=5e-3, abs=1e-4)
    assert rows[0][-1]["cut"] > 0


KILLED = """
import os, signal
from rlip_assets.training.resume import Resume

class KillingLog(NullLog):
    def progress(self, done, total, unit):
        if done == {killed_at}:
            os.kill(os.getpid(), signal.SIGKILL)

settings = Settings(torch.device("cpu"), checkpoint_every=2)
log = KillingLog()
history = Trainer(model, tokenizer, recipe, parts, settings, processes, 3, log, Resume(Path({state!r}), "d")).run()
Path({out!r}).write_text(json.dumps(history.rows))
"""


@pytest.mark.deep
def test_a_process_killed_between_checkpoints_logs_the_losses_of_an_undisturbed_one(
    drawn: Callable[..., ImageSource], small_recipe: object, tmp_path: Path
) -> None:
    source = drawn(number=16, size=(72, 64))
    recipe = small_recipe.changed({"steps": 6})  # type: ignore[attr-defined]
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    here = Path(__file__).resolve()

    def train(state: str, killed_at: int) -> int:
        head = SCRIPT.partition("settings = ")[0]
        script = (head + KILLED).format(
            root=str(here.parents[3]),
            recipe=str(tmp_path / "recipe.json"),
            table=str(source.tables[0]),
            images=str(source.image_root),
            cache=str(tmp_path / "cache"),
            out=str(tmp_path / f"{state}.json"),
            state=str(tmp_path / state),
            killed_at=killed_at,
        )
        (tmp_path / "train.py").write_text(script)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run([sys.executable, str(tmp_path / "train.py")], env=environment, timeout=300).returncode

    assert train("undisturbed", killed_at=0) == 0
    assert train("killed", killed_at=5) == -signal.SIGKILL
    assert not (tmp_path / "killed.json").exists()
    assert train("killed", killed_at=0) == 0
    killed, undisturbed = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("killed", "undisturbed"))
    assert len(killed) == 6
    assert killed == undisturbed


def test_alone_nothing_is_summed() -> None:
    assert join_processes(torch.device("cpu")) == Processes(0, 1)
    values = torch.tensor([1.0, 2.0])
    assert Processes().sum_values(values) is values


def test_input_that_any_process_lacks_is_counted(trainer_of: Callable[..., Trainer]) -> None:
    class Twins(Processes):
        def sum_values(self, values: torch.Tensor) -> torch.Tensor:
            return 2 * values

    trainer, history = trainer_of(), History()
    trainer.processes = Twins(0, 2)
    batch = replace(trainer.parts[0][0], skipped=("a.jpg",), cut_pairs=3)
    trainer._count(history, [batch, batch])
    assert (history.unreadable_images, history.cut_pairs) == (4, 12)


def test_device_names() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(ParameterError, match=r"training\.device is 'tpu'"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ParameterError, match="no GPU"):
            choose_device("cuda")


@pytest.mark.parametrize(("gpus", "auto"), [(1, "cpu"), (2, "cuda:1"), (8, "cuda:1")])
def test_processes_that_outnumber_the_gpus_train_on_the_processor(
    gpus: int, auto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert choose_device("auto") == torch.device("cuda:0")
    for name, value in (("LOCAL_WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert choose_device("auto") == torch.device(auto)
    assert choose_device("cpu") == torch.device("cpu")
    if gpus < 2:
        with pytest.raises(ParameterError, match=r"2 processes want a GPU each, of which 1 are usable; lower"):
            choose_device("cuda")


def test_a_parameter_without_a_gradient_in_every_process_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weight would decay, and its moments would count the steps."""
    others = iter([torch.tensor([0.0, 1.0, 0.0]), torch.tensor([5.0, 7.0])])  # of the other process: uses, gradients
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda values: values.add_(next(others)))
    model = torch.nn.ParameterList(torch.ones(1) for _ in range(3))
    model[0].grad = torch.tensor([1.0])
    Processes(0, 2).sum_gradients(model)
    assert [parameter.grad and parameter.grad.item() for parameter in model] == [6, 7, None]


@pytest.mark.deep
def test_a_stage_in_two_processes_trains_like_in_one(tmp_path: Path, tokenizer: LabelTokenizer) -> None:
    """`training.processes: 2` is all that a user sets: `rlip stage` starts itself under torchrun.

    The images have one size, since padding takes part in the language update (`LossCounts`).
    """
    rows = []
    for count in (1, 2):
        root = tmp_path / str(count)
        project = Project(root, tokenizer, size=(72, 60))
        pretraining = {"vg": {"recipe": "micro_vg", "changes": CHANGES}}
        training = {"pretrain": pretraining, "finetune": {}, "processes": count}
        (root / "params.yaml").write_text(yaml.safe_dump({"training": training}))
        manifest = root / "data/manifests/hico_det/classes.json"
        manifest.parent.mkdir(parents=True)
        shutil.copyfile(project.root / "hico_det.json", manifest)
        environment = {
            **os.environ,
            "PYTHONPATH": str(PROJECT_ROOT),
            "OMP_NUM_THREADS": "1",
            "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db",
        }
        command = [sys.executable, "-m", "rlip_assets.cli", "stage", "pretrain", "--partition", "vg"]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        checkpoint = root / "data/models/pretrain/vg"
        rows.append([json.loads(line) for line in (checkpoint / "history.jsonl").read_text().splitlines()])
        assert (root / "data/predictions/pretrain-vg/hico_det.parquet").is_file()
        assert not list((root / "work/outputs").iterdir())
    for one, two in zip(*rows, strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-6)

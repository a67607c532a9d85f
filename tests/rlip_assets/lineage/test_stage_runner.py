"""Running one stage item: whole outputs or none, a manifest that follows from inputs alone, one sentence where it cannot run."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import tests.support.toy_stage as toy_stage
from rlip_assets.lineage.context import NullLog
from rlip_assets.lineage.params import load_params
from rlip_assets.lineage.runner import run_stage
from rlip_assets.lineage.torchrun import launch_command
from rlip_assets.storage.errors import BusyError, DataError, InputError, ParameterError


@contextmanager
def quiet(_: object) -> Iterator[NullLog]:
    yield NullLog()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return toy_stage.project(tmp_path)


def run(root: Path, function: str = "count_words", partition: str | None = "a", version: int = 1) -> dict[str, Any]:
    params = load_params(root / "params.yaml")
    return run_stage(toy_stage.registry(function), params, root, "words", partition, quiet, version=version)


def test_outputs_appear_with_a_manifest_that_repeats(root: Path) -> None:
    assert run(root) == {"words": 3}
    first = (root / "data/words/manifest.json").read_bytes()
    assert json.loads(first)["params"] == {"training.seed": 42}
    provenance = json.loads((root / "provenance/words@a.json").read_text())
    assert provenance["seconds"]["work"] >= 0
    run(root)
    assert (root / "data/words/manifest.json").read_bytes() == first
    run(root, version=2)
    assert json.loads((root / "data/words/manifest.json").read_text())["version"] == 2


@pytest.mark.parametrize(
    ("function", "error", "words"),
    [
        ("half_written", RuntimeError, "broke"),
        ("writes_nothing", DataError, "ended without writing its output 'words'"),
        ("not_a_number", DataError, "loss is nan"),
    ],
)
def test_a_stage_that_fails_leaves_the_last_outputs(root: Path, function: str, error: type, words: str) -> None:
    run(root)
    before = (root / "data/words/words.txt").read_text()
    with pytest.raises(error, match=words):
        run(root, function)
    assert (root / "data/words/words.txt").read_text() == before
    assert not list((root / "work/outputs").iterdir())


def test_a_missing_input_is_named_with_its_remedy(root: Path) -> None:
    (root / "text.txt").unlink()
    with pytest.raises(
        InputError, match=r"words@a reads .*text\.txt, which does not exist; correct its path in params.yaml"
    ):
        run(root)
    assert not (root / "data").exists()


def test_two_runs_of_one_item_never_meet(root: Path) -> None:
    lock = root / "work/locks/words@a.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="words@a is being run by another process"):
            run(root)
    assert run(root) == {"words": 3}


def test_a_helping_process_computes_and_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the first process, with the same work folder, and whatever that one locks."""
    lock = root / "work/locks/words@a.lock"
    lock.parent.mkdir(parents=True)
    params = load_params(root / "params.yaml")
    shared = toy_stage.registry("count_words", distributed=True)
    monkeypatch.setenv("RANK", "1")
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert run_stage(shared, params, root, "words", "a", quiet, version=1) == {}
    assert not (root / "data").exists()
    assert not list((root / "work/outputs").iterdir())
    with pytest.raises(ParameterError, match="not shared between processes"):
        run(root)


def test_a_stage_starts_itself_under_torchrun_once() -> None:
    arguments = ["stage", "pretrain", "--partition", "vg"]
    command = launch_command(8, arguments, {})
    assert command is not None
    assert "--nproc-per-node=8" in command
    assert command[-5:] == ["rlip_assets.cli", *arguments]
    assert "--local-addr=127.0.0.1" in command  # a machine's own name need not resolve
    assert launch_command(1, arguments, {}) is None
    assert launch_command(8, arguments, {"WORLD_SIZE": "8"}) is None


@pytest.mark.parametrize("partition", ["b", None])
def test_an_unknown_partition_is_refused(root: Path, partition: str | None) -> None:
    with pytest.raises(ParameterError):
        run(root, partition=partition)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("profile: micro\nprofle: x\n", "profle: Extra inputs"),
        ("training: {seed: many}\n", r"training\.seed: Input should be a valid integer"),
        ("a: [", "not valid YAML"),
    ],
)
def test_bad_parameters_name_the_file_and_the_key(root: Path, text: str, words: str) -> None:
    (root / "params.yaml").write_text(text)
    with pytest.raises(ParameterError, match=rf"params\.yaml.*{words}"):
        run(root)

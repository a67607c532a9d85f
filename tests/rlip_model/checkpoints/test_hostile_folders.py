"""Folders that are damaged or come from a stranger: one sentence with the file's name, no traceback and no large allocation."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from rlip_model import CheckpointError, build_model, load_checkpoint, save_checkpoint, train_label_tokenizer
from rlip_model.checkpoints.detector import load_detector, save_detector
from rlip_model.checkpoints.importing import import_checkpoint, import_detector
from rlip_model.checkpoints.official_layout import official_state_dict
from rlip_model.checkpoints.transfer import initialise_from_detector, initialise_text_encoder
from rlip_model.dab_deformable_detr import DabDeformableDetr
from tests.support.network_cases import small

ROOM = 3 << 30
"""Bytes of address space that a test may take beyond what the process has."""
SMALL = small("micro_parseda", encoder_layers=2, decoder_layers=1)
FILES = ["config.json", "metadata.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.sampled_from([10**6, 2**31, 2**63, 10**25, -(2**40)])
    | st.floats()
    | st.text(max_size=6)
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
shared = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
thorough = settings(shared, max_examples=1500)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "whole"
    torch.manual_seed(0)
    save_checkpoint(folder, build_model(SMALL), train_label_tokenizer(["person", "ride"], 300), {"name": "small"})
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "a")


@pytest.fixture(autouse=True)
def _little_memory() -> Iterator[None]:
    """A large allocation fails in this process, whatever the machine has."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


def paths(values: Any, start: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value but long lists and the vocabulary."""
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    found = [start] if start else []
    for key, value in list(items)[:40]:
        found += paths(value, (*start, key))
    return found


def changed(file: Path, data: st.DataObject) -> None:
    """Put any JSON value in any place of a JSON file, or take it away, or add a field beside it."""
    values = json.loads(file.read_text())
    *parents, key = data.draw(st.sampled_from(paths(values)), label="place")
    part = values
    for parent in parents:
        part = part[parent]
    action = data.draw(st.sampled_from(["set", "set", "set", "delete", "add"]), label="action")
    if action == "delete":
        del part[key]
    elif action == "add" and isinstance(part, dict):
        part[data.draw(st.text(max_size=5))] = data.draw(json_values)
    else:
        part[key] = data.draw(json_values, label="value")
    file.write_text(json.dumps(values))


def opens_or_says(folder: Path) -> None:
    said = ""
    try:
        load_checkpoint(folder)
    except CheckpointError as error:
        said = str(error)
    assert not said or str(folder) in said
    assert "\n" not in said


@given(data=st.data())
@shared
def test_any_value_in_any_field_of_the_configuration(whole: Path, folder: Path, data: st.DataObject) -> None:
    shutil.copy(whole / "config.json", folder)
    changed(folder / "config.json", data)
    opens_or_says(folder)


@pytest.mark.deep
@given(data=st.data())
@thorough
def test_any_value_in_any_field_of_the_configuration_deep(whole: Path, folder: Path, data: st.DataObject) -> None:
    shutil.copy(whole / "config.json", folder)
    changed(folder / "config.json", data)
    opens_or_says(folder)


@given(name=st.sampled_from(["tokenizer.json", "tokenizer_config.json", "metadata.json"]), data=st.data())
@shared
def test_any_value_in_any_field_of_the_other_files(whole: Path, folder: Path, name: str, data: st.DataObject) -> None:
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    changed(folder / name, data)
    opens_or_says(folder)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def replace_by(content: bytes) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(content)


def stand_aside(file: Path) -> None:
    file.rename(file.parent.parent / "outside")
    file.symlink_to(file.parent.parent / "outside")


def to_itself(file: Path) -> None:
    file.unlink()
    file.symlink_to(file)


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage",
    [
        cut,
        replace_by(b""),
        replace_by(b"\xff\xfe\x00garbage"),
        replace_by(b"[" * 100_000),
        replace_by(b"[1, 2]"),
        stand_aside,
        pipe,
        directory,
    ],
    ids=["cut", "empty", "garbage", "deep", "list", "link out", "pipe", "directory"],
)
def test_damage_names_its_file(folder: Path, name: str, damage: Callable[[Path], object]) -> None:
    damage(folder / name)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    assert str(folder / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("damage", [Path.unlink, to_itself], ids=["missing", "link to itself"])
def test_a_missing_file_is_named(folder: Path, name: str, damage: Callable[[Path], object]) -> None:
    damage(folder / name)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_checkpoint(folder)


def test_links_into_a_content_addressed_cache_are_followed(whole: Path, tmp_path: Path) -> None:
    """As DVC and the Hub's cache link them; the folder itself may be a link too."""
    folder = tmp_path / "snapshot"
    folder.mkdir()
    for number, file in enumerate(sorted(whole.iterdir())):
        place = ("files/md5/0f/" + f"{number:030x}", "blobs/" + f"{number:064x}")[number % 2]
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tmp_path / place)
        (folder / file.name).symlink_to(tmp_path / place)
    (tmp_path / "link").symlink_to(folder)
    assert load_checkpoint(tmp_path / "link").metadata == {"name": "small"}


@pytest.mark.parametrize(
    "sizes",
    [
        {"width": 1 << 19, "relation_branches": 1},
        {"queries": 1 << 20},
        {"feed_forward": 1 << 20},
        {"encoder_layers": 256},
        {"text": {"layers": 256, "width": 1 << 20, "heads": 1}},
        {"text": {"vocabulary": 1 << 20}},
        {"backbone": {"depths": [256, 256, 256, 256]}},
        {"fusion_width": 1 << 20},
    ],
    ids=str,
)
def test_sizes_that_the_weights_do_not_have_are_never_built(
    folder: Path, sizes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = json.loads((folder / "config.json").read_text())
    for name, value in sizes.items():
        values["model"][name] = values["model"][name] | value if isinstance(value, dict) else value
    (folder / "config.json").write_text(json.dumps(values))
    monkeypatch.setattr("rlip_model.checkpoints.hub.read_tensors", lambda file: pytest.fail("tensors were read"))
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not fit its config\.json"):
        load_checkpoint(folder)


def spoil(file: Path, name: str, value: float) -> None:
    tensors = load_file(file)
    tensors[name].view(-1)[0] = value
    save_file(tensors, file)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_by_name(folder: Path, tmp_path: Path, value: float) -> None:
    spoil(folder / "model.safetensors", "heads.entity_bias", value)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: heads\.entity_bias holds NaN"):
        load_checkpoint(folder)

    detector = DabDeformableDetr(small("micro_detector", queries=4), 3)
    save_detector(tmp_path / "d", detector, {})
    spoil(tmp_path / "d/model.safetensors", "transformer.level_embed", value)
    for use in (load_detector, lambda folder: initialise_from_detector(build_model(SMALL), folder)):
        with pytest.raises(CheckpointError, match=r"transformer\.level_embed holds NaN"):
            use(tmp_path / "d")

    build_model(SMALL).text_encoder.save_pretrained(tmp_path / "t")  # type: ignore[operator]
    spoil(tmp_path / "t/model.safetensors", "pooler.dense.bias", value)
    with pytest.raises(CheckpointError, match=r"pooler\.dense\.bias holds NaN"):
        initialise_text_encoder(build_model(SMALL), tmp_path / "t")

    state = official_state_dict(build_model(SMALL))
    state["projection_text.bias"] = torch.full_like(state["projection_text.bias"], value)
    torch.save({"model": state}, tmp_path / "x.pth")
    for convert in (partial(import_checkpoint, tokenizer=str(folder)), import_detector):
        with pytest.raises(CheckpointError, match=r"x\.pth: projection_text\.bias holds NaN"):
            convert(tmp_path / "x.pth", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_of_another_network_is_refused(folder: Path) -> None:
    values = json.loads((folder / "tokenizer.json").read_text())
    values["model"]["vocab"]["far"] = 5000
    (folder / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="the tokenizer has 5001 tokens, but the text encoder only 1024"):
        load_checkpoint(folder)


def test_long_texts_are_cut_to_the_positions_whatever_the_settings_say(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1000000000000000019884624838656}')
    checkpoint = load_checkpoint(folder)
    tokens = checkpoint.tokenizer(["x" * 1000])
    assert tokens.input_ids.shape[1] == SMALL.text.longest
    assert torch.isfinite(checkpoint.model.encode_text(*tokens)).all()


def test_folders_of_earlier_versions_are_read(folder: Path) -> None:
    (folder / "README.md").unlink()
    (folder / "tokenizer_config.json").unlink()
    (folder / "label_tokenizer.json").write_text('{"max_length": 9}\n')
    values = json.loads((folder / "config.json").read_text())
    del values["model_type"]
    (folder / "config.json").write_text(json.dumps(values))
    assert load_checkpoint(folder).tokenizer.max_length == 9


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_size", [800]),
        ("image_size", [800, 10**9]),
        ("image_size", "800"),
        ("image_size", [800, True]),
        ("objects", ["person", 3]),
        ("relations", "ride"),
        ("subject_scores", "no"),
        ("name", None),
    ],
)
def test_metadata_of_another_kind_are_refused_by_key(folder: Path, key: str, value: object) -> None:
    (folder / "metadata.json").write_text(json.dumps({"name": "small", key: value}))
    with pytest.raises(CheckpointError, match=rf"metadata\.json: {key} is not"):
        load_checkpoint(folder)


def test_an_unknown_device_is_one_sentence(folder: Path) -> None:
    for device in ("cuda:99", "gpu"):
        with pytest.raises(CheckpointError, match=f"the device {device} cannot be used"):
            load_checkpoint(folder, device)


def test_imported_sizes_are_compared_before_memory_is_taken(folder: Path, tmp_path: Path) -> None:
    """A small file whose one vector claims a wide layer."""
    state = official_state_dict(build_model(SMALL))
    state["transformer.encoder.layers.0.linear1.bias"] = torch.zeros(1 << 20)
    torch.save({"model": state}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"x\.pth: transformer\.encoder\.layers\.0\.linear1\.weight has shape"):
        import_checkpoint(tmp_path / "x.pth", tmp_path / "out", str(folder), gate="vxac")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module."])
def test_prefixes_of_wrapped_networks_are_stripped(folder: Path, tmp_path: Path, prefix: str) -> None:
    config = small("micro_parseda", encoder_layers=2, decoder_layers=1, heads=8, fusion_heads=8)
    model = build_model(config)
    state = {prefix + key: value for key, value in official_state_dict(model).items()}
    torch.save({"state_dict": state}, tmp_path / "x.pth")
    import_checkpoint(tmp_path / "x.pth", tmp_path / "out", str(folder), gate="vxac")
    own = load_checkpoint(tmp_path / "out").model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in model.state_dict().items())

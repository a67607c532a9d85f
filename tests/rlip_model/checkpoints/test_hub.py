"""The ways of Hugging Face: folder and Hub name alike, pushed with a model card."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import RepositoryNotFoundError

from rlip_model import CheckpointError, Rlip, build_model, load_checkpoint, save_checkpoint, train_label_tokenizer
from rlip_model.checkpoints import hub
from rlip_model.checkpoints.model_card import model_card
from tests.support.network_cases import small

METADATA = {
    "name": "finetune/hico_full",
    "trained_on": "the micro world, hico_det",
    "figures": {"steps": 120, "held_out_loss": 3.14159, "nested": {"left": "out"}},
    "seed": 3,
}


class Repository:
    """Stands for the Hub: one repository in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def download(self, name: str, allow_patterns: list[str], **options: Any) -> str:
        if name != "me/model":
            raise OSError("there is no such repository\nand more")
        return str(self.folder)

    def api(self, token: str | None = None) -> Repository:
        return self

    def create_repo(self, repo_id: str, private: bool | None = None, exist_ok: bool = False) -> Any:
        return type("Address", (), {"repo_id": repo_id})

    def upload_folder(self, repo_id: str, folder_path: Path, **options: Any) -> str:
        shutil.copytree(folder_path, self.folder)
        return f"https://hub/{repo_id}/commit/1"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    result = Repository(tmp_path / "repository")
    monkeypatch.setattr(hub, "snapshot_download", result.download)
    monkeypatch.setattr(hub, "HfApi", result.api)
    return result


def test_a_pushed_checkpoint_comes_back_by_its_name(tmp_path: Path, repository: Repository) -> None:
    model = build_model(small("micro_parseda"))
    save_checkpoint(tmp_path / "a", model, train_label_tokenizer(["person", "ride"], 300), METADATA)
    checkpoint = load_checkpoint(str(tmp_path / "a"))
    assert checkpoint.push_to_hub("me/model", private=True) == "https://hub/me/model/commit/1"
    assert {file.name for file in repository.folder.iterdir()} == {file.name for file in (tmp_path / "a").iterdir()}
    again = load_checkpoint("me/model")
    assert again.metadata == METADATA
    network = Rlip.from_pretrained("me/model", revision="main")
    assert not network.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])
        assert torch.equal(value, network.state_dict()[name])


def test_a_network_alone_is_saved_and_opened(tmp_path: Path) -> None:
    model = build_model(small("micro_tagger"))
    model.save_pretrained(tmp_path / "a", model_card_kwargs={"metadata": METADATA})
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert '"model_type": "rlip"' in (tmp_path / "a/config.json").read_text()
    assert "R-Tagger" in (tmp_path / "a/README.md").read_text()
    assert Rlip.from_pretrained(tmp_path / "a").config == model.config
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing"):
        load_checkpoint(tmp_path / "a")


def test_an_unknown_name_is_one_sentence(repository: Repository) -> None:
    with pytest.raises(
        CheckpointError, match=r"^me/other is no folder here and no model .* \(there is no such repository\)"
    ):
        load_checkpoint("me/other")
    assert issubclass(RepositoryNotFoundError, OSError)  # the Hub's errors are caught as what they are


def test_the_card_shows_the_run_and_nothing_of_a_stranger() -> None:
    card = model_card(small("micro_parseda"), METADATA | {"name": "<script>x</script>\n# not | a title"})
    assert "| held_out_loss | 3.142 |" in card
    assert "| steps | 120 |" in card
    assert "left" not in card
    assert "not comparable to published results" in card
    assert "\n# &lt;script&gt;x&lt;/script&gt; # not \\| a title\n" in card
    assert "Figures" not in model_card(small("micro_parseda"), {"figures": [1], "trained_on": None})

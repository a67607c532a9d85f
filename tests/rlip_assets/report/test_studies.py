"""Studies resolve to profiles of the same registry, repeat what they compare with every seed, and judge it seed by seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from rlip_assets.cli.application import app
from rlip_assets.dvc.cache import objects_folder
from rlip_assets.lineage.params import load_params
from rlip_assets.lineage.profiles import PARAMS_FILE, profile_root, relative_project
from rlip_assets.lineage.recipes import differences
from rlip_assets.lineage.registry import build_registry
from rlip_assets.report.markdown import tables_markdown
from rlip_assets.report.studies.definitions import Study, studies, study
from rlip_assets.report.studies.study_profiles import StudyProfile, run_name, study_profiles, write_profile
from rlip_assets.report.studies.study_report import PROTOCOL, earliness, gather, section_of, write_results
from rlip_assets.storage.errors import InputError, ParameterError
from rlip_assets.storage.files import digest_json
from rlip_assets.training.start import model_config

BASE = load_params(profile_root("study") / PARAMS_FILE)
BASES = {each: load_params(profile_root(each) / PARAMS_FILE) for each in {one.base for one in studies().values()}}
OWN = {"profile", "training"}


@pytest.mark.parametrize("name", sorted(studies()))
def test_a_study_changes_what_it_says_and_nothing_else(name: str) -> None:
    chosen = study(name)
    profiles = study_profiles(chosen)
    runs = {run: choice for each in profiles for run, choice in getattr(each.params.training, chosen.stage).items()}
    assert len(runs) == len(chosen.arms) * chosen.seeds
    assert chosen.seeds >= 3
    for profile in profiles:
        base, own = BASES[chosen.base].model_dump(mode="json"), profile.params.model_dump(mode="json")
        changed = {section for arm in profile.arms for section in chosen.arms[arm].params}
        assert {section for section in base if base[section] != own[section]} == OWN | changed
        kept = {field for field in base["training"] if base["training"][field] == own["training"][field]}
        assert set(base["training"]) - kept <= {chosen.stage, "finetune", "checkpoints"}
        if chosen.stage == "pretrain":
            assert own["training"]["finetune"] == {}  # no arm needs one, and their start may be no arm
    for arm in chosen.arms:
        recipes = [runs[run_name(arm, seed)].resolve() for seed in range(chosen.seeds)]
        assert recipes == recipes[:1] * chosen.seeds
        assert {runs[run_name(arm, seed)].seed for seed in range(chosen.seeds)} == {None, 1, 2}
        assert recipes[0].steps == chosen.arms[arm].changes.get("steps", chosen.steps)
        model_config(recipes[0])
    one = [runs[arm].resolve() for arm in chosen.arms]
    different = {field for other in one[1:] for field in differences(one[0], other)}
    fields = {"captions": 0, "fusion_layers": 2, "label_terms": 2, "unseen": 3, "own_labels": 11}
    assert len(different) == fields.get(name, 1), different


@pytest.mark.parametrize("name", sorted(studies()))
def test_what_the_base_profile_has_made_is_asked_for_in_the_same_words(name: str) -> None:
    """Equal commands, inputs, outputs and parameters are what DVC goes by."""
    base = build_registry(BASES[study(name).base], "../..")
    for profile in study_profiles(study(name)):
        own = build_registry(profile.params, "../..")
        oracle = profile.params.oracle.captions
        for item in base.items():
            trained = ("finetune", "benchmark", "report", *([] if profile.stage == "finetune" else ["pretrain"]))
            if item.stage in trained or (oracle and item.stage == "captions"):
                continue
            assert own.at(item.address) == item
        for target in profile.targets:
            assert own.at(target)


def test_equal_arms_have_one_name_in_all_studies() -> None:
    """Only then are they one training for DVC: it is made for one study and fetched for the others."""
    named: dict[str, set[str]] = {}
    for chosen in studies().values():
        for profile in study_profiles(chosen):
            shared = profile.params.model_dump(mode="json", exclude={"profile", "training"})
            training = profile.params.training
            for run, choice in getattr(training, chosen.stage).items():
                recipe = choice.resolve().model_dump(mode="json")
                same = digest_json([chosen.base, shared, chosen.stage, recipe, choice.seed, repr(training.checkpoints)])
                named.setdefault(same, set()).add(f"{run} {choice!r}")
    assert [names for names in named.values() if len(names) > 1] == []
    assert len(named) < sum(len(each.arms) * each.seeds for each in studies().values())


def test_the_oracle_alone_reads_the_truth() -> None:
    generated, oracle = study_profiles(study("captions"))
    for profile in (generated, oracle):
        item = build_registry(profile.params, "../..").at("captions@coco-0")
        assert ("truth" in item.inputs) == (profile is oracle)
        assert ("oracle" in item.params) == (profile is oracle)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose profiles `micro`, at its root, and `study` have raw data."""
    for base in (tmp_path, tmp_path / "profiles/study"):
        (base / "data/raw/coco").mkdir(parents=True)
        (base / ".dvc").mkdir()
        for file in (PARAMS_FILE, ".dvc/config", ".dvcignore"):
            (base / file).write_text((profile_root("study") / file).read_text())
    return tmp_path


def test_a_written_profile_is_one_that_commands_take(project: Path) -> None:
    chosen = study("fusion")
    (profile,) = study_profiles(chosen, project)
    for _ in range(2):  # writing again changes nothing
        write_profile(profile, chosen, project)
        assert profile_root("study_fusion", project) == profile.root
        assert load_params(profile.root / PARAMS_FILE) == profile.params
        stages = yaml.safe_load((profile.root / "dvc.yaml").read_text())["stages"]
        assert set(stages["pretrain"]["foreach"]) == set(profile.runs)
        assert (profile.root / "data/raw/coco").is_dir()
    assert relative_project(profile.root, project) == "../.."


def test_a_link_to_raw_data_follows_the_base(project: Path) -> None:
    chosen = study("fusion")
    (profile,) = study_profiles(chosen, project)
    write_profile(profile, chosen, project)
    write_profile(profile, chosen.model_copy(update={"base": "micro"}), project)
    assert (profile.root / "data/raw").resolve() == project / "data/raw"
    assert objects_folder(profile.root).resolve() == project / ".dvc/cache/files/md5"


@pytest.mark.deep
@pytest.mark.parametrize("name", ["fusion", "unseen"])
def test_a_study_fetches_what_its_base_has_made(project: Path, name: str) -> None:
    """Also from the profile at the project's root, from which the paths of shipped files differ."""
    program = "open('made', 'w').write('x'); open('ran', 'a').write('1')"
    (project / "rlip_assets").mkdir()
    (project / "rlip_assets/make.py").write_text(program)
    chosen = study(name)
    (profile,) = study_profiles(chosen, project)
    base = profile_root(chosen.base, project)
    (base / ".dvc/config").write_text((base / ".dvc/config").read_text().replace("[core]", "[core]\n    no_scm = true"))
    for root in (base, profile.root):
        if root == profile.root:
            write_profile(profile, chosen, project)
        script = f"{relative_project(root, project)}/rlip_assets/make.py".removeprefix("./")
        stage = {"cmd": f"{sys.executable} $PROJECT/rlip_assets/make.py", "deps": [script], "outs": ["made"]}
        (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"micro_world": stage}}))
        environment = os.environ | {"PROJECT": str(project)}
        subprocess.run(
            [sys.executable, "-m", "dvc", "repro"], cwd=root, env=environment, check=True, capture_output=True
        )
        assert (root / "made").read_text() == "x"
    assert (base / "ran").exists()
    assert not (profile.root / "ran").exists()


def toy_study(arms: tuple[str, ...], figure: str = "zero_shot_mAP") -> Study:
    return Study.model_validate(
        {
            "name": "toy",
            "title": "Toys",
            "base": "study",
            "seeds": 3,
            "steps": 10,
            "evaluate_every": 1,
            "arms": {arm: {"recipe": "micro_vg"} for arm in arms},
            "comparisons": [{"claim": "a beats b", "higher": "a", "lower": "b", "figure": figure}],
        }
    )


def write_run(
    root: Path,
    run: str,
    mean: float,
    evaluated: list[float],
    stage: str = "pretrain",
    figures: tuple[str, ...] = ("full", "rare", "non_rare"),
) -> None:
    metrics = root / f"data/benchmarks/{stage}-{run}/metrics.json"
    history = root / f"data/models/{stage}/{run}/history.jsonl"
    for file in (metrics, history):
        file.parent.mkdir(parents=True)
    metrics.write_text(json.dumps({f"{PROTOCOL}/{name}": mean for name in figures}))
    rows = [{"step": step + 1, "evaluated_headline": value} for step, value in enumerate(evaluated)]
    history.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_results_have_mean_spread_and_verdict(tmp_path: Path) -> None:
    chosen = toy_study(("a", "b"))
    runs = {run_name(arm, seed): (arm, seed) for arm in ("a", "b") for seed in range(3)}
    for run, (arm, seed) in runs.items():
        write_run(tmp_path, run, 0.3 + 0.01 * seed + (0.1 if arm == "a" else 0), [0.1, 0.2])
    facts = gather(chosen, [StudyProfile(tmp_path, BASE, ("a", "b"), runs)])
    assert facts["arms"][0]["figures"]["mAP"] == pytest.approx(0.41)
    assert facts["arms"][0]["spread"]["mAP"] == pytest.approx(0.01)
    (row,) = facts["comparisons"]
    assert row["difference"] == pytest.approx(0.1)
    assert (row["seeds"], row["verdict"]) == (3, "shown")
    text = tables_markdown([section_of(facts)])
    assert "41.00 ± 1.00" in text
    assert "| a beats b | +10.00 |" in text
    (tmp_path / "data/benchmarks/pretrain-a/metrics.json").unlink()
    with pytest.raises(InputError, match=r"pretrain-a/metrics\.json is missing"):
        gather(chosen, [StudyProfile(tmp_path, BASE, ("a", "b"), runs)])


def test_a_study_of_unseen_classes_reports_fine_tunings(tmp_path: Path) -> None:
    chosen = toy_study(("a", "b"), "unseen").model_copy(update={"stage": "finetune", "evaluate_every": None})
    runs = {run_name(arm, seed): (arm, seed) for arm in ("a", "b") for seed in range(3)}
    for run, (arm, _) in runs.items():
        write_run(tmp_path, run, 0.3 if arm == "a" else 0.2, [], "finetune", ("full", "unseen", "seen"))
    profile = StudyProfile(tmp_path, BASE, ("a", "b"), runs, "finetune")
    assert profile.targets[0] == "benchmark@finetune-a"
    write_results(chosen, [profile], tmp_path / "studies")
    facts = json.loads((tmp_path / "studies/toy.json").read_text())
    assert facts["arms"][0]["figures"] == {"unseen": 0.3, "seen": 0.3, "all": 0.3}
    assert facts["comparisons"][0]["difference"] == pytest.approx(0.1)
    assert (tmp_path / "studies/toy.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_has_every_study_that_has_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toys = {
        name: toy_study(("a", "b"), figure).model_copy(update={"name": name, "title": f"Study {name}"})
        for name, figure in (("early", "earliness"), ("late", "zero_shot_mAP"), ("never", "zero_shot_mAP"))
    }
    monkeypatch.setattr("rlip_assets.report.studies.study_report.studies", lambda: toys)
    runs = {run_name(arm, seed): (arm, seed) for arm in ("a", "b") for seed in range(3)}
    for run, (arm, _) in runs.items():
        write_run(tmp_path, run, 0.3 if arm == "a" else 0.2, [0.1, 0.3 if arm == "a" else 0.2])
    folder = tmp_path / "studies"
    for name in ("late", "early"):
        write_results(toys[name], [StudyProfile(tmp_path, BASE, ("a", "b"), runs)], folder)
    page = (folder / "index.html").read_text()
    assert page.index("Study early") < page.index("Study late")
    assert "Study never" not in page
    for plot in ("early.png", "early_learning.png", "late.png"):
        assert f'src="{plot}"' in page
        assert (folder / plot).read_bytes().startswith(b"\x89PNG")
    assert "| a beats b |" in (folder / "summary.md").read_text()
    assert json.loads((folder / "early.json").read_text())["learning"]["b-seed2"] == [[1, 0.1], [2, 0.2]]


def test_earliness_is_measured_at_a_level_that_all_reach() -> None:
    def history(*values: float | None) -> list[dict[str, float]]:
        return [
            {"step": step + 1, **({} if value is None else {"evaluated_headline": value})}
            for step, value in enumerate(values)
        ]

    fast, slow = history(None, 0.3, None, 0.5), history(None, 0.1, None, 0.25)
    assert earliness({"a": fast, "b": slow}) == {"a": 0.5, "b": 0.0}
    assert earliness({"a": fast, "b": history(None, None)}) == {}


def test_an_unknown_study_and_a_claim_about_nothing_are_refused() -> None:
    with pytest.raises(ParameterError, match="There is no study 'fusions'; the studies are fusion"):
        study("fusions")
    with pytest.raises(ValueError, match="speaks of the arm 'b'; the arms are a"):
        toy_study(("a",))


def test_the_command_lists_studies_and_knows_no_other() -> None:
    listed = CliRunner().invoke(app, ["study"])
    assert listed.exit_code == 0, listed.output
    assert [line.split()[0] for line in listed.output.splitlines()] == list(studies())
    unknown = CliRunner().invoke(app, ["study", "nothing"])
    assert "There is no study 'nothing'; the studies are fusion" in str(unknown.exception)

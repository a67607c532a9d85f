"""Commands that README and docs tell a reader to type exist: commands, options, stages, parameters, scripts."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import typer
import yaml

from rlip_assets.cli.application import app
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.params.execution import ExecutionParams
from rlip_assets.lineage.profiles import PROJECT_ROOT
from rlip_assets.lineage.registry import build_registry

PAGES = [PROJECT_ROOT / "README.md", *sorted((PROJECT_ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


def blocks(language: str) -> list[tuple[str, str]]:
    """Page and text of every code block in a language ("" for none)."""
    found = [(page.name, match) for page in PAGES for match in FENCE.finditer(page.read_text())]
    return [(page, dedent(match[3])) for page, match in found if match[2] == language]


def commands(program: str) -> list[str]:
    """Every call of a program, in code blocks and within sentences, without what follows in the shell."""
    lines = [line for language in ("", "bash") for _, text in blocks(language) for line in text.splitlines()]
    lines += [code for page in PAGES for code in re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text()))]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return sorted({part for part in parts if part.startswith(f"{program} ")})


def words_of(command: str) -> list[str]:
    """The words of a command as if what is optional were given."""
    return shlex.split(re.sub(r"[\[\]]|\.\.\.", " ", command), comments=True)[1:]


def problem(command: Any, words: list[str]) -> str | None:
    """Return why the program would refuse these words; what is required may be left out, as sentences do."""
    if hasattr(command, "get_command"):
        below = command.get_command(None, words[0])
        return problem(below, words[1:]) if below else f"no command {words[0]}"
    takes_value = {name: not param.is_flag for param in command.params if param.param_type_name == "option"
                   for name in (*param.opts, *param.secondary_opts)}  # fmt: skip
    free = 0
    left = iter(words)
    for word in left:
        name, equals, _ = word.partition("=")
        if not word.startswith("-"):
            free += 1
        elif name not in takes_value:
            return f"no option {name}"
        elif takes_value[name] and not equals and next(left, None) is None:
            return f"{name} needs a value"
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    several = any(param.nargs == -1 for param in arguments)
    return "too many words" if free > len(arguments) and not several else None


@pytest.mark.parametrize("text", commands("rlip"))
def test_every_command_of_rlip_exists(text: str) -> None:
    assert text == "rlip --help" or problem(typer.main.get_command(app), words_of(text)) is None


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("label export", "no command label"),
        ("labels exports", "no command exports"),
        ("stage captions --bucket coco-0", "no option --bucket"),
        ("stage captions --partition", "--partition needs a value"),
        ("promote r_tagger now", "too many words"),
        ("stage captions --partition=coco-0", None),
    ],
)
def test_a_command_that_does_not_exist_is_found(words: str, found: str | None) -> None:
    assert problem(typer.main.get_command(app), words.split()) == found


@pytest.mark.parametrize("text", commands("dvc repro"))
def test_every_stage_of_dvc_exists(text: str) -> None:
    stages = build_registry(Params()).specs
    named = [word for word in words_of(text)[1:] if not word.startswith("-")]
    unknown = {word.partition("@")[0] for word in named if word != "STAGE"} - set(stages)
    assert not unknown


@pytest.mark.parametrize(("page", "script"), blocks("bash"))
def test_scripts_are_valid(page: str, script: str) -> None:
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert checked.returncode == 0, f"{page}: {checked.stderr}"


@pytest.mark.parametrize(("page", "text"), blocks("yaml"))
def test_settings_are_valid(page: str, text: str) -> None:
    """Parameters are those that the project knows; a Kubernetes job runs a stage that exists."""
    content = yaml.safe_load(text)
    if "execution" in content:
        ExecutionParams.model_validate(content["execution"])
    elif content.get("kind") == "Job":
        (container,) = content["spec"]["template"]["spec"]["containers"]
        *words, address = container["command"]
        assert words == ["dvc", "repro", "--single-item"]
        assert address.partition("@")[0] in build_registry(Params()).specs
    else:
        Params.model_validate(content)


def test_there_is_something_to_check() -> None:
    assert len(commands("rlip")) > 20
    assert commands("dvc repro")
    assert blocks("bash")
    assert len(blocks("yaml")) > 2


def test_files_that_pages_name_are_there() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"`((?:rlip_assets|rlip_model|dagster_\w+|tests|perf|profiles|docs)/[\w./-]*)`", text))
    assert len(named) > 30
    assert {path for path in named if not (PROJECT_ROOT / path).exists()} == set()


def test_links_between_pages_lead_somewhere() -> None:
    links = [
        (page, *link) for page in PAGES for link in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", page.read_text())
    ]
    assert len(links) > 10
    lost = [(page.name, link) for page, link, _ in links if link and not (page.parent / link).exists()]
    lost += [(page.name, anchor) for page, link, anchor in links if anchor and anchor not in _anchors(page, link)]
    assert lost == []


def _anchors(page: Path, link: str) -> set[str]:
    """Names of the headings of a page, as GitHub forms them."""
    headings = re.findall(r"^#+ (.+)$", (page.parent / link if link else page).read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}

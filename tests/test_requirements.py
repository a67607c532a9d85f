"""The tested set is whole and carries hashes, so that nothing but torch's own build is installed without one."""

from __future__ import annotations

import re
import tomllib

import pytest

from rlip_assets.lineage.profiles import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "requirements"


def hashes(file: str) -> dict[str, list[str]]:
    """Package -> its hashes."""
    text = re.sub(r"^#.*\n", "", (FOLDER / file).read_text(), flags=re.MULTILINE)
    entries = re.split(r"\n(?=\S)", text.strip())
    return {normal(entry): re.findall(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries}


def normal(requirement: str) -> str:
    return re.split(r"[\s<>=\[;]", requirement)[0].lower().replace("_", "-").replace(".", "-")


@pytest.mark.parametrize("file", [path.name for path in FOLDER.glob("*.txt")])
def test_every_package_has_hashes(file: str) -> None:
    assert [name for name, found in hashes(file).items() if not found] == ["torch"] * (file == "constraints.txt")
    assert "://" not in (FOLDER / file).read_text()


def test_every_dependency_is_in_the_tested_set() -> None:
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    assert {normal(one) for one in wanted} <= hashes("constraints.txt").keys()

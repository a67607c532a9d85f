"""Python and installed packages against the bounds of `pyproject.toml`, with the extras that the parameters need."""

from __future__ import annotations

import platform
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from rlip_assets.doctor.examination import Examination
from rlip_assets.doctor.finding import Finding, failed, ok

_PROJECT = "rlip"


def check(case: Examination) -> Iterator[Finding]:
    """Yield one finding per package that is missing or outside its bounds."""
    project = _project(case)
    bounds = SpecifierSet(project.get("requires-python", ""))
    if not bounds.contains(platform.python_version()):
        yield failed("python", f"{platform.python_version()} is not {bounds}", f"install Python {bounds}")
    wrong, right = 0, 0
    for extra, texts in _wanted(case, project):
        for requirement in map(Requirement, texts):
            if requirement.marker and not requirement.marker.evaluate():
                continue
            finding = _compared(requirement, extra)
            wrong, right = wrong + bool(finding), right + (not finding)
            if finding:
                yield finding
    if not wrong:
        yield ok("packages", f"{right} within their bounds")


def _project(case: Examination) -> dict[str, Any]:
    """Return the table `project` of `pyproject.toml`; of an installed package without it, its dependencies."""
    path = case.project / "pyproject.toml"
    if path.exists():
        return dict(tomllib.loads(path.read_text())["project"])
    return {"dependencies": [text for text in requires(_PROJECT) or [] if "extra ==" not in text]}


def _wanted(case: Examination, project: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Extra, "" for none, and its requirements."""
    yield "", project["dependencies"]
    extras = project.get("optional-dependencies", {})
    if case.params and case.read.usable("parsing") and case.params.parsing.parser == "spacy":
        yield "spacy", extras.get("spacy", [])
    if case.params and case.read.usable("execution") and case.params.execution.engine == "ray":
        yield "ray", extras.get("ray", [])


def _compared(requirement: Requirement, extra: str) -> Finding | None:
    remedy = f"pip install -e '.[{extra}]'" if extra else f"pip install '{requirement}'"
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return failed(requirement.name, f"is not installed; {requirement.specifier or 'any version'} is needed", remedy)
    if requirement.specifier.contains(found, prereleases=True):
        return None
    return failed(requirement.name, f"{found} is not {requirement.specifier}", remedy)

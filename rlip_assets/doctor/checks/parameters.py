"""`params.yaml`: every wrong key, and keys that DVC would miss."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from rlip_assets.doctor.examination import Examination
from rlip_assets.doctor.finding import Finding, failed, ok
from rlip_assets.lineage.params_yaml import render_params_yaml
from rlip_assets.lineage.profiles import PARAMS_FILE


def check(case: Examination) -> Iterator[Finding]:
    """Yield one finding per wrong key."""
    path = case.root / PARAMS_FILE
    for key, reason in case.read.wrong.items():
        remedy = f"correct or remove {key}; what follows from it is not checked" if key else "correct the file"
        yield failed(f"{path.name} {key}".strip(), reason, remedy)
    for problem in case.read.contradictions:
        key, _, reason = problem.removeprefix("Value error, ").partition(": ")
        message, _, remedy = reason.rpartition("; ")
        yield failed(f"{path.name} {key}", message or reason, remedy or f"correct {key}")
    if case.read.wrong or case.read.contradictions:
        return
    written, whole = (yaml.safe_load(text) for text in (path.read_text(), render_params_yaml(path)))
    missing = sorted(_keys(whole) - _keys(written))
    if missing:
        names = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        yield failed(path.name, f"DVC needs every parameter written, and lacks {names}", _remedy(case))
    else:
        yield ok(path.name, "valid and complete")


def _remedy(case: Examination) -> str:
    return f"rlip params-yaml{case.option}"


def _keys(content: object, prefix: str = "") -> set[str]:
    if not isinstance(content, dict) or not content:
        return {prefix.rstrip(".")}
    return {key for name, value in content.items() for key in _keys(value, f"{prefix}{name}.")}

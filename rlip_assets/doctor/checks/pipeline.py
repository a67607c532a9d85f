"""DVC's files of the profile: `dvc.yaml` as the registry has it, a readable `dvc.lock`, a DVC project around them."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from rlip_assets.doctor.examination import Examination
from rlip_assets.doctor.finding import Finding, failed, fault, ok, skipped
from rlip_assets.dvc.lock import LOCK_FILE
from rlip_assets.dvc.pipeline import render_dvc_yaml
from rlip_assets.lineage.profiles import relative_project
from rlip_assets.storage.errors import RlipError

PIPELINE_FILE = "dvc.yaml"


def check(case: Examination) -> Iterator[Finding]:
    """Compare `dvc.yaml` with the registry and read `dvc.lock`."""
    if not (case.root / ".dvc").is_dir():
        yield failed(".dvc", f"{case.root} is no DVC project", f"cd {case.root} && dvc init --subdir")
    yield from _pipeline(case)
    lock = case.root / LOCK_FILE
    try:
        whole = not lock.exists() or isinstance(yaml.load(lock.read_bytes(), _LOADER), dict | None)
        reason = "it is no mapping"
    except (OSError, yaml.YAMLError) as error:
        whole, reason = False, " ".join(str(error).split())[:200]
    if not whole:
        yield failed(LOCK_FILE, f"cannot be read: {reason}", f"rlip repair{case.option}, or restore it from git")


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _pipeline(case: Examination) -> Iterator[Finding]:
    if isinstance(case.registry, RlipError | ValueError):
        yield fault(PIPELINE_FILE, case.registry)
        return
    if case.stages is None or case.read.wrong or case.read.contradictions:
        yield skipped(PIPELINE_FILE, "not compared: the parameters are wrong")
        return
    path, remedy = case.root / PIPELINE_FILE, f"rlip dvc-yaml{case.option}"
    wanted = render_dvc_yaml(case.stages, relative_project(case.root, case.project))
    if not path.exists():
        yield failed(PIPELINE_FILE, "does not exist", remedy)
    elif path.read_text() != wanted:
        yield failed(PIPELINE_FILE, "is not the one that follows from params.yaml", remedy)
    else:
        yield ok(PIPELINE_FILE, f"current, {len(list(case.stages.items()))} runs of {len(case.stages.specs)} stages")

"""Weights that cannot fit the networks of a profile, refused before its first stage runs and not by the training that reads them.

Headers of files are compared with networks without memory. What fits is remembered until a file changes, so that a stage which needs no
torch does not import it for this.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rlip_assets.doctor.finding import Level, guarded
from rlip_assets.doctor.foreign_inputs import ForeignInput, foreign_inputs
from rlip_assets.lineage.params import Params, load_params
from rlip_assets.lineage.params.placeholders import is_placeholder
from rlip_assets.lineage.profiles import PARAMS_FILE, profile_option, relative_project
from rlip_assets.lineage.registry import build_registry
from rlip_assets.lineage.spec import Registry
from rlip_assets.lineage.stage_run import WORK_FOLDER
from rlip_assets.storage.errors import ParameterError
from rlip_assets.storage.file_state import content_state
from rlip_assets.storage.files import digest_json, write_json

FITTING_FILE = f"{WORK_FOLDER}/fitting_weights.json"
_COMPARED = ("detector", "text_encoder", "checkpoint", "r_tagger")


def refuse_misfits(root: Path, params: Params, stages: Registry) -> None:
    """Compare the weights that a profile names with its networks; those that are not there yet are left to the stage that reads them.

    Raises:
        ParameterError: some do not fit; the sentence names key, file, tensor and shapes of the first.
    """
    known, wrong = _known(root / FITTING_FILE), list[str]()
    fitting = dict[str, str]()
    for given in foreign_inputs(params, stages):
        place = root / given.path
        if given.role not in _COMPARED or is_placeholder(given.path) or not place.exists() or _shipped(given, params):
            continue
        state = _state(given, place, params)
        if known.get(given.subject) != state and (sentence := _misfit(given, place, params)):
            wrong.append(sentence)
        else:
            fitting[given.subject] = state
    if fitting != known and (fitting or known):
        write_json(root / FITTING_FILE, fitting)
    if wrong:
        more = f" ({len(wrong) - 1} more: `rlip doctor{profile_option(root)}`)" if wrong[1:] else ""
        raise ParameterError(f"{wrong[0]}{more}")


def refuse_profile_misfits(root: Path) -> None:
    """Read a profile and compare its weights, as `refuse_misfits`."""
    params = load_params(root / PARAMS_FILE)
    refuse_misfits(root, params, build_registry(params, relative_project(root)))


def _shipped(given: ForeignInput, params: Params) -> bool:
    """Whether these are the micro world's weights for its own networks, which tests compare."""
    networks = given.recipes(params)
    return given.path.endswith(f"micro_world/starting_weights/weights/{given.role}") and all(
        recipe.model.startswith("micro_") and not recipe.model_changes for recipe in networks
    )


def _state(given: ForeignInput, place: Path, params: Params) -> str:
    """Return a digest of everything that the comparison follows from, without reading a file that has been there for seconds."""
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    states = [(file.name, content_state(file)) for file in files if file.is_file()]
    networks: list[Any] = [(recipe.model, recipe.model_changes) for recipe in given.recipes(params)]
    return digest_json([given.role, states, networks])


def _misfit(given: ForeignInput, place: Path, params: Params) -> str | None:
    from rlip_assets.doctor import weights

    def look() -> Any:
        return weights.compare(given, place, params)

    failures = [finding for finding in guarded(given.subject, look) if finding.level is Level.FAILED]
    if not failures:
        return None
    first = failures[0]
    where = "" if str(place) in first.message else f"{place}: "
    return f"{given.key(params)}: {where}{first.message}; {first.remedy}"


def _known(file: Path) -> dict[str, str]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

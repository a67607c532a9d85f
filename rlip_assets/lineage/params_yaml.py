"""`params.yaml` with every parameter written out: DVC tracks keys that it can read, not defaults that only the code knows."""

from __future__ import annotations

from pathlib import Path

import yaml

from rlip_assets.lineage.params import Params, load_params

HEADER = "# Every parameter of this profile. Change values here; `rlip params-yaml` adds parameters that are new in the code.\n"


def render_params_yaml(path: Path) -> str:
    """Return the text of the profile file at `path` with its values kept and missing parameters added.

    Raises:
        ParameterError: the file exists and is not valid.
    """
    params = load_params(path) if path.exists() else Params()
    return HEADER + yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False, width=120)

"""Registered models: an MLmodel that refers to the checkpoint in DVC, one version per training, two aliases.

`mlflow.pyfunc.load_model("models:/micro-finetune-hico_full@champion")` opens any of them; `serving.py` is what MLflow calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow.pyfunc
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType, Array

from rlip_assets.inference.serving import DEFAULTS
from rlip_assets.lineage.profiles import PROJECT_ROOT
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.files import write_json
from rlip_assets.tracking.address import shown, store_uri
from rlip_assets.tracking.references import REFERENCE, TAGGER
from rlip_assets.tracking.store import CANDIDATE, CHAMPION, FILES_TAG, KEY_TAG, open_store

LOADER = "rlip_assets.tracking.serving"
"""The module that opens a model in the process that uses it."""
_TEXTS = Array(DataType.string)


def signature(tagger: bool) -> ModelSignature:
    """Return what rows a model takes: images with texts, and for an R-Tagger with boxes and their labels."""
    columns: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "image"),
        *(
            [ColSpec(AnyType(), "boxes"), ColSpec(_TEXTS, "labels"), ColSpec(_TEXTS, "relations")]
            if tagger
            else [ColSpec(_TEXTS, "objects", required=False), ColSpec(_TEXTS, "relations", required=False)]
        ),
    ]
    params = [
        ParamSpec("threshold", DataType.double, DEFAULTS["threshold"]),
        ParamSpec("limit", DataType.long, DEFAULTS["limit"]),
    ]
    return ModelSignature(Schema(columns), params=ParamSchema(params))


def register_model(client: MlflowClient, run: str, experiment: str, key: str, content: Mapping[str, Any]) -> str:
    """Register the model that a run made, as the candidate; return its version. Once is as good as twice.

    Args:
        key: of the run's journal.
        content: `name`, `item`, `description`, and `root`, `profile`, `folder` and `files` of the reference.
    """
    name, item = content["name"], content["item"]
    try:
        client.create_registered_model(name, description=content["description"])
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    versions = [each for each in client.search_model_versions(f"run_id = '{run}'") if each.name == name]
    if not versions:
        model_id = _logged_model(client, run, experiment, content)
        tags = {"item": item, KEY_TAG: key, FILES_TAG: " ".join(content["files"].values())}
        made = client.create_model_version(
            name, f"models:/{model_id}", run, tags, description=item, await_creation_for=0, model_id=model_id
        )
        versions = [made]
    version = str(versions[0].version)
    if int(version) >= max(int(each.version) for each in client.search_model_versions(f"name = '{name}'")):
        client.set_registered_model_alias(name, CANDIDATE, version)
    return version


def _logged_model(client: MlflowClient, run: str, experiment: str, content: Mapping[str, Any]) -> str:
    """Return the id of the logged model of a run, with its MLmodel and reference, made where there is none."""
    found = client.search_logged_models([experiment], f"source_run_id = '{run}' AND name = '{content['name']}'")
    model_id = found[0].model_id if found else None
    if model_id is None:
        tags = {"item": content["item"], "profile": content["profile"]}
        made = client.create_logged_model(experiment, content["name"], run, tags, model_type="pyfunc")
        model_id = str(made.model_id)
    model = Model(run_id=run, model_id=model_id, signature=signature(content["item"] == TAGGER))
    mlflow.pyfunc.add_to_model(model, loader_module=LOADER, data=REFERENCE)
    with TemporaryDirectory() as temporary:
        write_json(Path(temporary) / REFERENCE, {key: content[key] for key in ("root", "profile", "folder", "files")})
        model.save(str(Path(temporary) / "MLmodel"))
        client.log_model_artifacts(model_id, temporary)
    client.finalize_logged_model(model_id, "READY")
    client.log_outputs(run, [LoggedModelOutput(model_id, 0)])
    return str(model_id)


def promote_model(
    name: str, version: str | None = None, made_by: str | None = None, project: Path = PROJECT_ROOT
) -> tuple[str, str]:
    """Give the alias `champion` to a version of a registered model (the newest by default).

    Args:
        made_by: run, or key of the run, that must have made the version.

    Returns:
        The version and the id of the run that made it.

    Raises:
        InputError: there is no such model or version.
    """
    client, store = open_store(project), shown(store_uri(project))
    versions = {str(each.version): each for each in client.search_model_versions(f"name = '{name}'")}
    if not versions:
        raise InputError(
            f"No model is registered as '{name}' in {store}; train it, or send what waits with `rlip tracking send`"
        )
    fitting = [
        number for number, each in versions.items() if made_by in (None, str(each.run_id), each.tags.get(KEY_TAG))
    ]
    chosen = version or max(fitting, key=int, default=None)
    if chosen is None:
        raise InputError(
            f"The model '{name}' in the tree was made by run {made_by}, which is not in {store}; train it here, or send what "
            "waits with `rlip tracking send`"
        )
    if chosen not in versions:
        raise InputError(f"Model '{name}' has no version {chosen}; it has {', '.join(sorted(versions, key=int))}")
    if chosen not in fitting:
        in_tree = ", ".join(sorted(fitting, key=int)) or "none that is registered"
        raise InputError(
            f"Version {chosen} of '{name}' is not the one in the tree (that is {in_tree}); bring its dvc.lock back, run `dvc checkout`, "
            "then promote it"
        )
    client.set_registered_model_alias(name, CHAMPION, chosen)
    return chosen, str(versions[chosen].run_id)
